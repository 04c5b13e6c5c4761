"""The outcome of one job, as a `concurrent.futures.Future` that knows where the job ran."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Cancelled, ChangeoverError
from .info import JobInfo, Outcome

if TYPE_CHECKING:
    from .call import Call
    from .connection import Connection
    from .kinds import Restore

log = logging.getLogger("changeover.client")

CANCEL_ANSWER_S = 1.0


class Progress(NamedTuple):
    """How far a job says it is. `total` is None where the plugin does not know."""

    done: float
    total: float | None = None
    message: str | None = None


ProgressCallback = Callable[[Progress], None]


class JobFuture(concurrent.futures.Future[Any]):
    """Ends exactly once, as the supervisor says: with a result, an error or `Cancelled`.

    Callbacks run in the thread that reads; what they raise is logged.
    """

    def __init__(
        self, connection: Connection, job: str, plugin: str, restore: Restore | None = None
    ) -> None:
        super().__init__()
        self._connection = connection
        self._info = JobInfo(job=job, plugin=plugin)
        self._restore = restore
        self._call: Call | None = None  # until it ends
        self._cancellation: Cancelled | None = None
        self._progress: Progress | None = None
        self._on_progress: list[ProgressCallback] = []
        self._on_item: Callable[[int, bytes], None] | None = None
        self._has_begun = False

    @property
    def info(self) -> JobInfo:
        """What is known of the job. Release, worker and times once it has ended."""
        return self._info

    @property
    def progress(self) -> Progress | None:
        """The newest report."""
        return self._progress

    def on_progress(self, callback: ProgressCallback) -> None:
        """Call `callback` with every report from now on, and with the newest one at once."""
        self._on_progress.append(callback)
        if self._progress is not None:
            _report(callback, self._progress)

    def running(self) -> bool:
        """Is it known to have begun? (A job says so by its first report or item.)"""
        return self._has_begun and not self.done()

    def cancel(self) -> bool:
        """Ask the supervisor to cancel the job and say whether it is cancelled now.

        A queued job is, after one round trip. A running one is asked to stop and ends later, as
        cancelled or as it ends: False, like every running future, and `result()` tells.
        """
        if self.done():
            return self.cancelled()
        if self._connection.is_reader:
            self.cancel_soon()
        else:
            self._cancel_and_see(time.monotonic() + CANCEL_ANSWER_S)
        return self.cancelled()

    def cancel_soon(self) -> None:
        """Ask the supervisor to cancel the job, without waiting for anything."""
        call = self._call
        if call is not None and not self.done():
            self._connection.call_off(call)

    def result(self, timeout: float | None = None) -> Any:
        """The job's result. Raises what the job ended with, TimeoutError after `timeout` s."""
        if not self.done():
            self._connection.check_may_wait()
        try:
            return super().result(timeout)
        except concurrent.futures.CancelledError:
            raise self._cancellation or Cancelled(job=self._info.job) from None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error that the job ended with, None for a result; raises `Cancelled`."""
        if not self.done():
            self._connection.check_may_wait()
        try:
            return super().exception(timeout)
        except concurrent.futures.CancelledError:
            raise self._cancellation or Cancelled(job=self._info.job) from None

    # -- told by the session

    def sent_as(self, call: Call) -> None:
        """Which request it is that this is the outcome of."""
        self._call = call

    def answer(self, raw: bytes) -> None:
        """Take the record, still packed."""
        self._call = None
        try:
            outcome = Outcome.of(raw)
            self._info = outcome.info
            value = self.restored(outcome.value) if outcome.error is None else None
        except Exception as err:  # noqa: BLE001 - PyAV's and numpy's code runs here, in our thread
            self.set_exception(err)
            return
        if outcome.error is None:
            self.set_result(value)
        else:
            self.fail(outcome.error)

    def fail(self, error: ChangeoverError) -> None:
        """Take the error."""
        self._call = None
        if isinstance(error, Cancelled):
            self._cancellation = error
            super().cancel()
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(error)

    def take_progress(self, report: Any) -> None:
        """Take one report as it travels."""
        self._has_begun = True
        self._progress = Progress(report.get("done", 0), report.get("total"), report.get("message"))
        for callback in self._on_progress:
            _report(callback, self._progress)

    def take_item(self, seq: int, raw: bytes) -> None:
        """Take one item of a generator, still packed."""
        self._has_begun = True
        if self._on_item is not None:
            self._on_item(seq, raw)

    def restored(self, value: Any) -> Any:
        """A result or item in the kind of the argument that was given."""
        return value if self._restore is None else self._restore(value)

    def hand_items_to(self, taker: Callable[[int, bytes], None]) -> None:
        """For the stream of this job; set before the job is sent."""
        self._on_item = taker

    def _cancel_and_see(self, deadline: float) -> None:
        call = self._call
        try:
            asked = self._connection.ask_off(call) if call is not None else None
            if asked is None or asked.result(CANCEL_ANSWER_S).get("state") == "cancelled":
                concurrent.futures.wait([self], max(0.0, deadline - time.monotonic()))
        except (ChangeoverError, TimeoutError) as err:
            # Not there any more, or it ended meanwhile: the future says so by itself.
            log.debug("cancel of job %s: %s", self._info.job, err)


def _report(callback: ProgressCallback, progress: Progress) -> None:
    try:
        callback(progress)
    except Exception:  # the caller's own code, in our thread
        log.exception("on_progress raised")
