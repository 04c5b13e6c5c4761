"""The newest log lines, in bounded memory."""

from __future__ import annotations

from changeover.supervisor.log_ring import LEVELS, Level, LogEntry, LogRing


def entry(message: str, *, plugin: str = "p", job: str = "", level: Level = "info") -> LogEntry:
    return LogEntry(time=0.0, level=level, message=message, plugin=plugin, job=job)


def ring_of(*entries: LogEntry) -> LogRing:
    ring = LogRing()
    for one in entries:
        ring.add(one)
    return ring


def messages(entries: list[LogEntry]) -> list[str]:
    return [one.message for one in entries]


def test_the_tail_is_the_newest_in_order() -> None:
    ring = ring_of(*(entry(str(n)) for n in range(10)))

    assert messages(ring.tail(3)) == ["7", "8", "9"]


def test_the_tail_counts_only_what_matches() -> None:
    ring = ring_of(*(entry(str(n), plugin="ab"[n % 2], job=str(n % 3)) for n in range(12)))

    assert messages(ring.tail(2, plugin="a")) == ["8", "10"]
    assert messages(ring.tail(2, job="2")) == ["8", "11"]
    assert messages(ring.tail(9, plugin="b", job="0")) == ["3", "9"]


def test_a_level_shows_what_is_as_grave_or_graver() -> None:
    ring = ring_of(*(entry(level, level=level) for level in LEVELS))

    assert messages(ring.tail(9, level="warning")) == ["warning", "error"]


def test_the_oldest_go_when_there_are_too_many() -> None:
    ring = LogRing(entries=3)
    for n in range(5):
        ring.add(entry(str(n)))

    assert messages(ring.tail(9)) == ["2", "3", "4"]


def test_the_oldest_go_when_they_are_too_large() -> None:
    ring = LogRing(max_bytes=100_000)
    for n in range(50):
        ring.add(entry(f"{n}" + "x" * 8000))

    assert len(ring.tail(99)) == 12
