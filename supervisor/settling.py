"""When has a source come to rest? A pure machine: sights in, with `now`; a candidate out.

A candidate is a content that differs from the known one, whose files kept the same state for
`settle` and whose bytes read the same twice in that time. Linkers and `cp` change a file under
its name, and writes through a memory map need not show in the times, so both conditions count.
Knows no files, no clock, no events.
"""

from __future__ import annotations

from dataclasses import dataclass

from .digest import TICK_NS, Fingerprint, Keys

# A hint comes late; the file's own time tells since when it rests. Not trusted further than
# this: a file that was moved here, or whose clock is another machine's, looks old.
_HINT_DELAY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one look found: the state of the files, and what they hold if they were read."""

    keys: Keys = ()
    fingerprint: Fingerprint | None = None
    changed_ago_s: float = 0.0
    is_torn: bool = False
    trouble: str = ""  # why the source cannot be used just now


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A new content, at rest."""

    fingerprint: Fingerprint
    keys: Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The source has been unusable for as long as a candidate has to rest."""

    message: str


@dataclass(slots=True)
class _Moving:
    keys: Keys
    since: float
    first: Fingerprint | None = None


class Settling:
    """One source, from the first sign of a change until it rests."""

    def __init__(self, *, settle_s: float, known: Fingerprint | None = None, keys: Keys = ()):
        """`known`: the content that is no news; `keys`: the state of the files it was read from."""
        self._settle_s = max(settle_s, 2 * TICK_NS / 1e9)
        self._known = known
        self._trusted = keys
        self._moving: _Moving | None = None
        self._trouble: Trouble | None = None
        self._trouble_since = 0.0
        self._is_told = False

    @property
    def trusted(self) -> Keys:
        """The state of the files that needs no reading."""
        return self._trusted

    @property
    def look_at(self) -> float | None:
        """When to look next, whatever hints say; None: nothing is moving."""
        if self._trouble is not None:
            return None if self._is_told else self._trouble_since + self._settle_s
        if self._moving is None:
            return None
        rest = self._settle_s / 2 if self._moving.first is None else self._settle_s
        return self._moving.since + rest

    def is_reading_due(self, now: float) -> bool:
        """Should the look at `now` read the bytes?"""
        return self._moving is not None and self.look_at is not None and now >= self.look_at

    def saw(self, now: float, sight: Sight) -> Candidate | Trouble | None:
        """Take in a look that ended at `now`."""
        if sight.trouble:
            return self._saw_trouble(now, sight.trouble)
        self._trouble, self._is_told = None, False
        if sight.is_torn:
            self._moving = _Moving((), now)
            return None
        if sight.keys == self._trusted and sight.keys:
            self._moving = None
            return None
        return self._saw_change(now, sight)

    def _saw_change(self, now: float, sight: Sight) -> Candidate | None:
        moving = self._moving
        if moving is None or moving.keys != sight.keys:
            rested_s = min(max(sight.changed_ago_s, 0.0), _HINT_DELAY_S)
            self._moving = _Moving(sight.keys, now - rested_s, sight.fingerprint)
        elif sight.fingerprint is None:
            return None
        elif moving.first is None:
            moving.first = sight.fingerprint
        elif moving.first != sight.fingerprint:
            self._moving = _Moving(sight.keys, now, sight.fingerprint)
        elif now >= moving.since + self._settle_s:
            return self._rest(sight.keys, sight.fingerprint)
        return None

    def _rest(self, keys: Keys, found: Fingerprint) -> Candidate | None:
        self._moving, self._trusted = None, keys
        if found == self._known:
            return None
        self._known = found
        return Candidate(fingerprint=found, keys=keys)

    def _saw_trouble(self, now: float, message: str) -> Trouble | None:
        self._moving = None
        trouble = Trouble(message=message)
        if trouble != self._trouble:
            self._trouble, self._trouble_since, self._is_told = trouble, now, False
        if self._is_told or now < self._trouble_since + self._settle_s:
            return None
        self._is_told = True
        return trouble
