"""A job on its way from the pipe to whoever runs it."""

from __future__ import annotations

from .credits import Credits
from .job import Job


class Call:
    """A job as it came: to be run, then answered under `msgid`."""

    __slots__ = ("args", "credits", "job", "method_name", "msgid")

    def __init__(
        self, msgid: int, job: Job, method_name: str, args: bytes, allowed: Credits | None
    ) -> None:
        self.msgid = msgid
        self.job = job
        self.method_name = method_name
        self.args = args
        self.credits = allowed
