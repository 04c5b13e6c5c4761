"""One run of the demo: frames flow through a plugin that is replaced and killed meanwhile.

An ordinary client of an ordinary private supervisor; only the kill goes past it. What came out is
judged by the numbers in the pixels, not by what anybody says.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...client.errors import ChangeoverError, Disconnected
from ...client.slate import SlateError, read_number
from ...protocol.frame import Frame
from .ahead import Ahead, Sent
from .demo_filter import NAME, DemoFilter
from .demo_frames import DemoFrames

if TYPE_CHECKING:
    from ...client import Change, Changeover
    from .demo_save import Tape

SWAP_S = 1.0
KILL_BEAT = 3
LEAST_CHANGEOVERS = 5
AHEAD = 16
_CHANGE_S = 30.0  # for one changeover on a slow machine
_JOIN_S = 5.0
_TRIES = 50  # frames for which the kill waits until a worker is busy


class Score:
    """What came out, as far as it has come."""

    def __init__(self) -> None:
        self.out = 0
        self.out_of_order = 0
        self.reruns = 0
        self.changeovers = 0
        self.killed = 0
        self.longest_gap_s = 0.0
        self.releases: Counter[int] = Counter()
        self.first_error = ""
        self.release: int | None = None
        self._numbers: set[int] = set()
        self._last = -1
        self._last_at: float | None = None

    def lost(self, sent: int) -> int:
        """How many of the numbers that were sent were not read back."""
        return sent - len(self._numbers)

    def take(self, number: int, now: float) -> None:
        """A number was read out of an output frame."""
        self.out += 1
        self.out_of_order += number <= self._last
        self._last = max(number, self._last)
        self._numbers.add(number)
        if self._last_at is not None:
            self.longest_gap_s = max(self.longest_gap_s, now - self._last_at)
        self._last_at = now

    def failed(self, number: int, error: Exception) -> None:
        """A frame did not come back, or without its number."""
        if not self.first_error:
            self.first_error = f"frame {number}: {error}"


class DemoRun:
    """Call `perform` once; `score` says how it went. `watch` is called after every frame."""

    def __init__(
        self,
        supervisor: Changeover,
        filter_file: DemoFilter,
        frames: DemoFrames,
        *,
        seconds: float,
        tape: Tape | None,
        watch: Callable[[Score], None],
    ) -> None:
        self.score = Score()
        self._supervisor = supervisor
        self._filter = filter_file
        self._frames = frames
        self._seconds = seconds
        self._tape = tape
        self._watch = watch
        self._generation = 0
        self._has_served = threading.Event()  # the newest release gave its first frame
        self._kill_is_due = threading.Event()
        self._tries = _TRIES

    def perform(self) -> Score:
        """Run to the end of the frames. Raises what broke their source."""
        self._supervisor.on_changeover(self._changed)
        self._frames.encore = self._has_more_to_show
        director = threading.Thread(target=self._direct, name="changeover-demo", daemon=True)
        director.start()
        stream = Ahead(self._supervisor[NAME], self._killing(), AHEAD, {})
        try:
            for sent in stream:
                self._take(sent)
                self._watch(self.score)
        finally:
            self._frames.stop.set()
            self._has_served.set()  # nobody waits for the last one
            director.join(_JOIN_S)
        if stream.error is not None:
            raise stream.error
        return self.score

    def _has_more_to_show(self) -> bool:
        """On a machine that is busy elsewhere each changeover takes its time.

        Who asks for a few seconds only gets just these.
        """
        if self._seconds <= LEAST_CHANGEOVERS * SWAP_S:
            return False
        return self.score.changeovers < LEAST_CHANGEOVERS or not self.score.killed

    def _take(self, sent: Sent[Frame]) -> None:
        try:
            if sent.error is not None:
                raise sent.error
            assert sent.future is not None  # it was sent, or there is an error
            result = sent.future.result()
            number = read_number(result)
        except (ChangeoverError, SlateError, TypeError, ValueError) as err:
            self.score.failed(sent.number, err)
            if isinstance(err, Disconnected):  # no more will come
                self._frames.stop.set()
            return
        self.score.take(number, time.monotonic())
        info = sent.future.info
        if info.generation is not None and info.generation > self._generation:
            self._generation = info.generation
            self._has_served.set()
        is_rerun = info.attempts is not None and info.attempts > 1
        self.score.reruns += is_rerun
        self.score.release = info.release
        self.score.releases[info.release or 0] += 1
        if self._tape is not None:
            self._tape.add(number, result, info.release or 0, is_rerun=is_rerun)

    # -- what happens meanwhile

    def _direct(self) -> None:
        """Save the other release about every second, and in between call for the kill."""
        beat_s = min(SWAP_S, self._seconds / 8)
        due = time.monotonic()
        for beat in itertools.count(1):
            if not self._has_served.wait(_CHANGE_S):
                return
            if beat == KILL_BEAT and not self._frames.stop.wait(beat_s / 3):
                self._kill_is_due.set()
            # After a changeover that took long the next one is not due at once.
            due = max(due + beat_s, time.monotonic() + beat_s / 3)
            if self._frames.stop.wait(due - time.monotonic()):
                return
            self._has_served.clear()
            self._filter.swap()

    def _changed(self, change: Change) -> None:
        if change.from_ is not None:
            self.score.changeovers += 1

    def _killing(self) -> Iterator[Frame]:
        """The frames; when a kill is due, right after one of them was sent."""
        for frame in self._frames:
            yield frame
            if self._kill_is_due.is_set() and self._kill():
                self._kill_is_due.clear()

    def _kill(self) -> bool:
        """Kill a worker at its work, or after some tries one that is idle."""
        self._tries -= 1
        with contextlib.suppress(ProcessLookupError):
            pid = self._hold_one_at_work()
            if pid is None and self._tries <= 0:
                pid = next(iter(self._pids(0)), None)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.score.killed += 1
                return True
        return False

    def _hold_one_at_work(self) -> int | None:
        """Stop a worker; its pid if it has a frame then that it has not answered yet."""
        for pid in self._pids(1):
            os.kill(pid, signal.SIGSTOP)
            # By the second answer the supervisor has read all that the worker had written.
            if pid in self._pids(1) and pid in self._pids(1):
                return pid
            os.kill(pid, signal.SIGCONT)
        return None

    def _pids(self, least_busy: int) -> list[int]:
        """The workers that serve and hold at least so many frames."""
        workers = self._supervisor.status(NAME)["plugins"][NAME]["workers"]
        return [
            worker["pid"] for worker in workers
            if worker["state"] == "ready" and worker["busy"] >= least_busy
        ]  # fmt: skip
