"""Confines this process, then becomes the worker: `python -I -S confine.py PLAN PROGRAM ARGS…`.

What is done here outlives execve and is inherited by every child, so it holds for a worker in
any language, from its first instruction on. PLAN is JSON: `read` and `write` (paths), `network`,
`abi` (the least Landlock that will do). Either everything is applied or the program is not
started. Run by its path: it must import nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

NICE = 5
OOM_SCORE_ADJ = 300  # of 1000: the kernel takes a worker before the supervisor
CANNOT = 126  # what a shell exits with where a program cannot be started
# By os.uname().machine: libc has no ioprio_set, and its number is not the same everywhere.
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

# linux/landlock.h; these numbers are the same everywhere
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# By the ABI that brought it: 13 rights, REFER, TRUNCATE, IOCTL_DEV.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}
_TCP = 0b11  # bind, connect; ABI 4
_SCOPES = 0b11  # abstract sockets, signals; ABI 6

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """Something that was asked for cannot be had; the text says what."""


def landlock_abi() -> int:
    """The version of Landlock that this kernel speaks; 0 where it has none."""
    found: int = _libc.syscall(_long(_CREATE_RULESET), None, _long(0), _long(_ASK_VERSION))
    return max(found, 0)


def confine(plan: dict[str, Any]) -> None:
    """Apply everything to this process. Raises Refused, and OSError where the kernel refuses."""
    os.nice(NICE)
    _be_idle_on_disks()
    _be_the_first_to_go()
    _call("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    abi = landlock_abi()
    if abi < plan["abi"]:
        raise Refused(f"Landlock ABI {plan['abi']} is needed, this kernel has {abi}")
    _restrict(plan, abi)


def _be_idle_on_disks() -> None:
    machine = os.uname().machine
    if machine not in IOPRIO_SET:
        raise Refused(f"the number of ioprio_set on {machine} is not known")
    number = IOPRIO_SET[machine]
    answer = _libc.syscall(_long(number), _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)
    _call("ioprio_set", answer)


def _be_the_first_to_go() -> None:
    # Unbuffered: a buffered write would hide the kernel's no until the close.
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        now = int(os.read(fd, 16))
        os.pwrite(fd, str(min(now + OOM_SCORE_ADJ, 1000)).encode(), 0)
    finally:
        os.close(fd)


def _drop_capabilities() -> None:
    """Root's own, for good: CAP_PERFMON alone reads the environment of every process, and
    no Landlock is asked. Without new privileges no later execve gives them back.
    """
    header, nothing = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    _call("capset", _libc.capset(header, nothing))


def _restrict(plan: dict[str, Any], abi: int) -> None:
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if since <= abi)
    network = 0 if plan["network"] or abi < 4 else _TCP
    scopes = _SCOPES if abi >= 6 else 0
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    wanted = struct.pack("=QQQ", files, network, scopes)[:size]
    ruleset = _call(
        "landlock_create_ruleset",
        _libc.syscall(_long(_CREATE_RULESET), wanted, _long(size), _long(0)),
    )
    for path, rights in _rules(plan):
        _allow(ruleset, path, rights & files)
    _call("landlock_restrict_self", _libc.syscall(_long(_RESTRICT_SELF), _long(ruleset), _long(0)))
    os.close(ruleset)


def _rules(plan: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """An open path and what may be done to it and below it."""
    for path in plan["read"]:
        try:
            yield os.open(path, os.O_PATH | os.O_CLOEXEC), _READ
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # not on this machine, or nothing that this user could reach anyway
    for path in plan["write"]:
        yield os.open(path, os.O_PATH | os.O_CLOEXEC), ~(_MAKE_CHAR | _MAKE_BLOCK)


def _allow(ruleset: int, path: int, rights: int) -> None:
    try:
        if not stat.S_ISDIR(os.fstat(path).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, path)
        answer = _libc.syscall(
            _long(_ADD_RULE), _long(ruleset), _long(_PATH_BENEATH), rule, _long(0)
        )
        _call("landlock_add_rule", answer)
    finally:
        os.close(path)


def _call(what: str, answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return answer


def _long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def _main(plan: str, program: str, *args: str) -> NoReturn:
    try:
        confine(json.loads(plan))
    except (Refused, OSError) as error:
        sys.exit(_say(f"isolation: {error}"))
    try:
        os.execvp(program, [program, *args])  # noqa: S606
    except OSError as error:
        hint = "; what lies outside of the system's folders may not be run here"
        denied = isinstance(error, PermissionError)
        sys.exit(_say(f"cannot start {program}: {error.strerror}{hint if denied else ''}"))


def _say(text: str) -> int:
    sys.stderr.write(f"changeover: {text}\n")
    return CANNOT


if __name__ == "__main__":
    _main(*sys.argv[1:])
