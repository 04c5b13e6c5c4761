"""Answers what it was given."""

from typing import Any

from changeover.worker import plugin


@plugin(version="1.2.3", pure=True)
def echoes(*args: Any, **kwargs: Any) -> Any:
    if kwargs:
        return [*args, kwargs]
    return args[0] if len(args) == 1 else list(args)
