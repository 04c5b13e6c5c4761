"""Which protocol is spoken: a list of integers offered, the highest common one answered."""

from __future__ import annotations

from typing import Any

from .errors import Code, Fault

SPOKEN = (1,)


def negotiate(offered: Any) -> int:
    """Return the highest protocol both sides speak; without an offer protocol 1.

    Raises Fault NO_COMMON_PROTOCOL or INVALID_PARAMS.
    """
    if offered is None:
        return 1
    if not isinstance(offered, list) or not all(type(n) is int for n in offered):
        raise Fault.new(Code.INVALID_PARAMS, "protocol must be an array of integers")
    common = [n for n in SPOKEN if n in offered]
    if not common:
        raise Fault.new(
            Code.NO_COMMON_PROTOCOL,
            f"no common protocol: offered {offered}, spoken here {list(SPOKEN)}",
        )
    return max(common)
