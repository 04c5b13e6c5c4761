"""The watch over a release that has just begun to serve: counted and judged from the cut on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .changeover import Changeover
    from .generation import Generation
    from .job import Job
    from .spec import PluginSpec

MIN_ERRORS = 5
MIN_RATE = 0.01


class Watch:
    """Counts what happens to one generation during its `probation`."""

    def __init__(self, change: Changeover, generation: Generation, old_rate: float) -> None:
        self.change = change
        self.generation = generation
        self.numbers = {generation.number}  # of every generation that it was over
        self.successes = 0
        self.errors = 0
        self.deaths = 0
        self.verdict = ""  # why it should go, although there is nothing to go back to
        self._dead_jobs: set[str] = set()
        self._limit = _error_limit(generation.spec, old_rate)

    def go_on(self, change: Changeover, generation: Generation) -> None:
        """Fresh workers of the same release have taken over: the counts and the end stay."""
        self.change, self.generation = change, generation
        self.numbers.add(generation.number)

    def saw_success(self) -> None:
        """A job was done on the new release."""
        self.successes += 1

    def saw_error(self) -> str:
        """A job failed on it. Returns why the release must go, or ""."""
        self.errors += 1
        rate = self.errors / (self.errors + self.successes)
        if self.errors >= MIN_ERRORS and rate > self._limit:
            return f"{self.errors} errors in {self.errors + self.successes} jobs"
        return ""

    def saw_death(self, jobs: list[Job], how: str) -> str:
        """A worker died unexplained under these jobs. Returns why the release must go, or ""."""
        self.deaths += 1
        self._dead_jobs.update(job.id for job in jobs)
        if not self.successes:
            return f"a worker {how} before the first success"
        if self.deaths >= 2 and len(self._dead_jobs) >= 2:
            return f"{self.deaths} workers died ({how}) on {len(self._dead_jobs)} jobs"
        return ""


def _error_limit(spec: PluginSpec, old_rate: float) -> float:
    if spec.max_errors_rate is not None:
        return spec.max_errors_rate
    return max((spec.max_errors_factor or 0.0) * old_rate, MIN_RATE)
