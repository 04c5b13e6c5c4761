"""The plugin's queue: jobs in submission order; a job that comes back goes to its old place.

An ended job is left where it lies and skipped when its turn comes, so that cancelling is O(1);
when most of what lies here has ended, it is swept out, so that memory stays flat.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .states import JobState

if TYPE_CHECKING:
    from .job import Job

SWEEP = 64  # ended jobs that may lie about, and then as many as those that wait


class JobQueue:
    """Ordered by `job.seq`; `len` counts the jobs that still wait."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[Job]:
        """The waiting jobs, oldest first."""
        return (job for job in self._jobs if job.state is JobState.QUEUED)

    def put(self, job: Job) -> None:
        """Take a new job, or one that comes back from a worker, into its place."""
        self._waiting += 1
        jobs = self._jobs
        if not jobs or jobs[-1].seq < job.seq:
            jobs.append(job)
        elif jobs[0].seq > job.seq:
            jobs.appendleft(job)
        else:
            insort(jobs, job, key=lambda other: other.seq)

    def forget(self) -> None:
        """Count off a job that has just ended while it waited."""
        self._waiting -= 1
        ended = len(self._jobs) - self._waiting
        if ended > SWEEP and ended > self._waiting:
            self._jobs = deque(self)

    def take(self, fits: Callable[[str], bool]) -> Job | None:
        """Remove and return the oldest job that has no key, or one that `fits`, or None."""
        jobs = self._jobs
        while jobs and jobs[0].state is not JobState.QUEUED:
            jobs.popleft()
        for index, job in enumerate(jobs):
            if job.state is JobState.QUEUED and (job.key is None or fits(job.key)):
                del jobs[index]
                self._waiting -= 1
                return job
        return None
