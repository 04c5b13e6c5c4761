"""Says that it is here and waits until it may go; deaf to whoever cancels it."""

from typing import Any

from changeover.worker import plugin


@plugin(version="1.0.0")
def holds(hold: str, value: Any = None) -> Any:
    with open(hold + ".began", "wb", buffering=0) as file:
        file.write(b".")
    with open(hold, "rb", buffering=0) as file:
        file.read(1)
    return value
