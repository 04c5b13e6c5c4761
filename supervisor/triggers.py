"""The trigger table: when a changeover that somebody asks for is one, and what becomes of it else.

Source: the architecture page. Nothing here decides how a changeover goes, only whether.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "start", "add", "file", "signal", "schedule", "reload", "rollback", "config", "watch"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One row: what the same content, bad or held content, and `disabled` mean to it."""

    same: Literal["begin", "unchanged"]
    marked: Literal["try", "unchanged", "refresh", "approved"]  # bad or held content
    disabled: Literal["begin", "unchanged", "refuse"]
    is_by_itself: bool = False  # nobody waits for it: what fails by bad luck comes back


TRIGGERS: Mapping[Reason, Trigger] = {
    "start": Trigger(same="begin", marked="approved", disabled="begin", is_by_itself=True),
    "add": Trigger(same="begin", marked="try", disabled="begin"),
    "file": Trigger(same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True),
    "signal": Trigger(
        same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True
    ),
    "config": Trigger(
        same="unchanged", marked="unchanged", disabled="unchanged", is_by_itself=True
    ),
    "schedule": Trigger(same="begin", marked="refresh", disabled="unchanged", is_by_itself=True),
    "reload": Trigger(same="unchanged", marked="try", disabled="refuse"),
    # These name their release; it does not come from the source.
    "rollback": Trigger(same="begin", marked="try", disabled="refuse"),
    "watch": Trigger(same="begin", marked="try", disabled="begin"),
}
