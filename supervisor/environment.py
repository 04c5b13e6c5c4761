"""Which environment variables reach a worker that is not trusted, and what to say of the others.

Names tell a machine from another (PATH, the language, Python's own switches) pass; all else may
be a secret and takes `env_pass`. Pure: the environment is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ..protocol.errors import Fault

PASSED = frozenset({
    "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TZ", "USER",
})  # fmt: skip
PASSED_BEGIN = ("LC_", "PYTHON")


def passed(environ: Mapping[str, str], env_pass: Collection[str]) -> dict[str, str]:
    """What gets through."""
    return {
        name: value
        for name, value in environ.items()
        if name in PASSED or name.startswith(PASSED_BEGIN) or name in env_pass
    }


def explain_withheld(fault: Fault, withheld: Iterable[str]) -> None:
    """If the fault names a variable that was withheld, say so: that is why it failed."""
    said = f"{fault.message}\n{fault.data.get('stderr_tail') or ''}"
    named = [name for name in withheld if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]
    if named:
        fault.message += (
            f"; {', '.join(sorted(named))} {'is' if len(named) == 1 else 'are'} set here but "
            "withheld from the worker: name it in env_pass"
        )
