"""Answers after so many milliseconds; in the end it may look whether anybody still wants that."""

import select

from changeover.worker import Job, plugin


@plugin(version="1.0.0")
def takes_its_time(ms: float, checks: bool, job: Job) -> float:
    select.select([], [], [], ms / 1000)
    if checks:
        job.check()
    return ms
