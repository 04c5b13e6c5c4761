"""What a caller can catch: every code of the wire has its exception."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle

import pytest

from changeover.client import errors
from changeover.client.errors import ChangeoverError
from changeover.client.faults import error_of
from changeover.protocol.errors import TRAITS, Code, Fault

KINDS = {
    Code.JOB_FAILED: errors.PluginError,
    Code.RESULT_INVALID: errors.PluginError,
    Code.CANCELLED: errors.Cancelled,
    Code.DEADLINE: errors.JobTimeout,
    Code.WORKER_LOST: errors.WorkerLost,
    Code.POISONED: errors.Poisoned,
    Code.BUSY: errors.Busy,
    Code.STOPPING: errors.Unavailable,
    Code.UNAVAILABLE: errors.Unavailable,
    Code.NOT_FOUND: errors.NotFound,
    Code.CONFLICT: errors.Conflict,
    Code.CHANGE_FAILED: errors.Refused,
    Code.DENIED: errors.Denied,
    Code.TOO_LARGE: errors.TooLarge,
    Code.METHOD_NOT_FOUND: errors.InvalidRequest,
    Code.INVALID_PARAMS: errors.InvalidRequest,
}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_an_exception_with_the_facts(code: Code) -> None:
    error = error_of(Fault.new(code, "what happened", job="j-1", plugin="denoise", release=4))
    assert isinstance(error, KINDS.get(code, ChangeoverError))
    assert (error.code, error.job, error.plugin, error.release) == (code, "j-1", "denoise", 4)
    assert (error.retryable, error.executed) == TRAITS[code]
    assert "what happened" in str(error)


def test_codes_of_plugins_are_plugin_errors() -> None:
    error = error_of(Fault(10042, "no boxes", {"retryable": True}))
    assert isinstance(error, errors.PluginError)
    assert (error.code, error.executed, error.retryable) == (10042, "yes", True)


def test_codes_of_a_later_supervisor_are_plain_errors() -> None:
    assert type(error_of(Fault(1099, "new", {}))) is ChangeoverError


def test_the_standard_library_s_kinds_catch_ours() -> None:
    assert issubclass(errors.JobTimeout, TimeoutError)
    assert issubclass(errors.Cancelled, concurrent.futures.CancelledError)
    assert not issubclass(errors.Cancelled, asyncio.CancelledError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.Disconnected, ConnectionError)


def test_a_plugin_error_shows_the_traceback_of_the_worker() -> None:
    traceback = 'Traceback …\n  File "denoise.py", line 3, in run\nValueError: bad strength\n'
    error = error_of(
        Fault.new(1000, "ValueError: bad strength", type="ValueError", traceback=traceback),
        plugin="denoise",
    )
    assert isinstance(error, errors.PluginError)
    assert (error.type, error.traceback) == ("ValueError", traceback)
    assert str(error) == "denoise: ValueError: bad strength\n" + traceback.rstrip()


def test_a_lost_worker_says_how_it_died() -> None:
    error = error_of(
        Fault.new(
            Code.WORKER_LOST,
            "denoise: worker 41207 died of SIGSEGV",
            reason="crashed",
            signal="SIGSEGV",
            stderr_tail=["loading", "Segmentation fault"],
        )
    )
    assert isinstance(error, errors.WorkerLost)
    assert (error.reason, error.signal, error.exit) == ("crashed", "SIGSEGV", None)
    assert str(error).endswith("SIGSEGV\nloading\nSegmentation fault")


def test_a_worker_that_was_ended_on_purpose_says_why() -> None:
    lost = {"reason": "killed_at_drain", "signal": "SIGTERM", "stderr_tail": "in run, line 5"}
    error = error_of(Fault.new(Code.WORKER_LOST, "died of SIGTERM", **lost), plugin="denoise")
    assert str(error) == (
        "denoise: died of SIGTERM\n"
        "  its release was replaced, and the job still ran at drain_timeout\n"
        "in run, line 5"
    )


def test_what_the_supervisor_says_of_executed_wins_over_the_table() -> None:
    assert error_of(Fault.new(Code.CANCELLED, "stopped", executed="maybe")).executed == "maybe"


def test_a_missing_supervisor_tells_what_to_do() -> None:
    error = errors.NoSupervisor.at("/run/x.sock")
    assert str(error) == (
        "no supervisor at /run/x.sock\n"
        "  start one: changeover serve       or name it: -s PATH / $CHANGEOVER_SOCKET"
    )
    assert (error.executed, error.retryable, error.path) == ("no", True, "/run/x.sock")


@pytest.mark.parametrize(
    "error",
    [
        error_of(Fault.new(Code.WORKER_LOST, "gone", reason="crashed"), plugin="x", job="j"),
        errors.NoSupervisor.at("/run/x.sock"),
        errors.Disconnected("gone", job="j"),
        errors.Refused("no", document={"stage": "check"}),
    ],
)
def test_errors_survive_a_pickle(error: ChangeoverError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
