"""What `adopt` brings: the version that was there before and, in a handoff, its state."""

from __future__ import annotations

from typing import Any

from ..protocol.errors import Code, Fault
from ..protocol.payload import unpack_payload
from ..protocol.plugin_version import PluginVersion


class Adoption:
    """`old_version`, and `state` with the format and version that it was exported under."""

    def __init__(self, old_version: PluginVersion | None, state: dict[str, Any] | None) -> None:
        self.old_version = old_version
        self.has_state = state is not None
        state = state or {}
        self.state = state.get("data")
        self.format = state.get("format")
        self.version = state.get("version")

    @classmethod
    def of(cls, params: list[bytes]) -> Adoption:
        """Read the request's params. Raises Fault INVALID_PARAMS."""
        try:
            options = unpack_payload(params[0]) if params else {}
            old = options.get("old_version")
            old_version = None if old is None else PluginVersion.of(old)
            state = options.get("state")
            if state is not None and "data" not in state:
                raise ValueError("the state has no data")  # noqa: TRY301  one kind of refusal
            return cls(old_version, state)
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise Fault.new(Code.INVALID_PARAMS, f"adopt is not readable: {err}") from None

    def check_format(self, accepts: tuple[str, ...]) -> None:
        """Raise Fault STATE_INCOMPATIBLE if there is a state of another format."""
        if self.has_state and self.format not in accepts:
            taken = ", ".join(map(repr, accepts))
            raise Fault.new(
                Code.STATE_INCOMPATIBLE,
                f"on_reload: the state of {self.version} has format {self.format!r}, "
                f"this release accepts {taken}",
                stage="on_reload",
            )
