"""What reaches a contained worker of the supervisor's environment, and what is said of the rest."""

from __future__ import annotations

import pytest

from changeover.protocol.errors import Code, Fault
from changeover.supervisor.environment import explain_withheld, passed

WITHHELD = {"AWS_KEY", "TOKEN"}
ENVIRON = {
    "PATH": "/bin", "HOME": "/home/a", "LC_ALL": "C", "PYTHONPATH": "/x", "AWS_KEY": "s",
    "TOKEN": "t", "LD_PRELOAD": "/x.so", "PATHS": "no",
}  # fmt: skip


def test_only_names_that_are_known_to_be_harmless_pass() -> None:
    assert set(passed(ENVIRON, ())) == {"PATH", "HOME", "LC_ALL", "PYTHONPATH"}


def test_what_was_named_passes_too_if_it_is_there() -> None:
    got = passed(ENVIRON, ("TOKEN", "NOT_SET"))

    assert got["TOKEN"] == "t"
    assert not {"NOT_SET", "AWS_KEY"} & set(got)


@pytest.mark.parametrize(
    ("message", "tail", "said"),
    [
        ("import: KeyError: 'AWS_KEY' (p.py:1)", "", "AWS_KEY is set here but withheld"),
        ("exited with status 1", "no TOKEN, no work\n", "TOKEN is set here but withheld"),
        ("set TOKEN and AWS_KEY", "", "AWS_KEY, TOKEN are set here but withheld"),
    ],
)
def test_a_fault_that_names_what_was_withheld_says_so(message: str, tail: str, said: str) -> None:
    fault = Fault.new(Code.WORKER_LOST, message, stderr_tail=tail)
    explain_withheld(fault, WITHHELD)

    assert fault.message.startswith(message)
    assert said in fault.message


@pytest.mark.parametrize("message", ["KeyError: 'OTHER'", "MY_TOKEN", "AWS_KEYS", "token"])
def test_any_other_fault_stays_as_it_is(message: str) -> None:
    fault = Fault.new(Code.WORKER_LOST, message)
    explain_withheld(fault, WITHHELD)

    assert fault.message == message
