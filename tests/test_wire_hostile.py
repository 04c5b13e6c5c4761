"""What hostile clients send ends that call or that connection, and nothing else."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from tests.wire import EXAMPLES, PLUGINS, Supervisor, Wire, packed, raw_worker

MIB = 1024 * 1024
ALLOW = ("-o", "allow_add=true")
PING = packed([0, 1, "ping", [7]])


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("hostile")
    with Supervisor(folder, *ALLOW) as supervisor:
        with supervisor.connect() as wire:
            wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py")})
            wire.call("add", "raw", raw_worker("echoes_raw.py"))
            wire.call("add", "count", {"source": str(EXAMPLES / "counter.py")})
            wire.call("add", "held", {"source": str(PLUGINS / "echoes.py")})
            wire.call("pause", "held")
        yield supervisor


@pytest.fixture
def bystander(supervisor: Supervisor) -> Iterator[Wire]:
    """Another client, which is served before, meanwhile and after."""
    with supervisor.connect() as wire:
        assert wire.call("run", "echo", "run", ["before"]) == "before"
        yield wire
        assert wire.call("run", "echo", "run", ["after"]) == "after"


@pytest.fixture
def wire(supervisor: Supervisor, bystander: Wire) -> Iterator[Wire]:
    with supervisor.connect() as wire:
        yield wire


# -- fatal: goaway, and the end


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00", b"\x92\x00\x01", b"\x95", b"\xdc\x00\x04",
     b"\xc1", b"\x80", b"{}", b"\xff"],
)  # fmt: skip
def test_a_first_byte_that_begins_no_message_is_2000(wire: Wire, data: bytes) -> None:
    wire.write(PING + data)
    wire.expect(1)
    code, message = wire.goaway()
    assert code == 2000
    assert wire.answer(1).result == 7, "what was whole before is answered"
    if data.startswith(b"GET"):
        assert "GET / HTTP/1.1" in message


BAD_ENVELOPES = {
    "c1 in the params": b"\x94\x00\x01\xa4ping\x91\xc1",
    "c1 as the method": b"\x94\x00\x01\xc1\x90",
    "an unknown type": packed([3, 1, "ping", []]),
    "a type that is no fixint": b"\x94\xcc\x00\x01\xa4ping\x90",
    "a type that is a str": packed(["0", 1, "ping", []]),
    "a request of three": packed([0, 1, "ping"]),
    "a notification of four": packed([2, 1, "ping", []]),
    "a response of three": packed([1, 1, None]),
    "a msgid below 0": packed([0, -1, "ping", []]),
    "a msgid beyond 2^32-1": packed([0, 2**32, "ping", []]),
    "a msgid that is no integer": packed([0, "1", "ping", []]),
    "a msgid that is true": packed([0, True, "ping", []]),
    "a method that is an integer": packed([0, 1, 5, []]),
    "a method that is an array": packed([0, 1, ["ping"], []]),
    "a method that is no UTF-8": b"\x94\x00\x01\xa4\xff\xff\xff\xff\x90",
    "params that are a map": packed([0, 1, "ping", {}]),
    "params that are nil": packed([0, 1, "ping", None]),
    "an array as a key of the method": b"\x94\x00\x01\x81\x90\x01\x90",
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
def test_a_bad_envelope_is_2003(wire: Wire, name: str) -> None:
    wire.write(BAD_ENVELOPES[name])
    assert wire.goaway()[0] == 2003


def test_largest_msgid_and_zero_are_legal(wire: Wire) -> None:
    for msgid in (0, 2**32 - 1):
        wire.expect(msgid)
        wire.send(0, msgid, "ping", [msgid])
        assert wire.result(msgid) == msgid


def test_a_message_beyond_64_mib_is_2001(wire: Wire, bystander: Wire) -> None:
    wire.write(b"\x94\x00\x01\xa4ping\x91\xc6\x7f\xff\xff\xff")
    assert bystander.call("ping", 1) == 1
    sent = wire.write(bytes(70 * MIB))
    assert sent < 70 * MIB, "it closed before it had read all"
    assert wire.goaway()[0] == 2001


def test_a_message_of_64_mib_is_taken(wire: Wire) -> None:
    head = b"\x94\x00\x01\xa4ping\x91\xc6"
    size = 64 * MIB - len(head) - 4
    wire.expect(1)
    wire.write(head + size.to_bytes(4, "big") + bytes(size))
    assert len(wire.result(1)) == size


def test_nesting_up_to_64_is_taken_beyond_it_is_1019_and_beyond_1024_is_fatal(wire: Wire) -> None:
    def ping(msgid: int, depth: int) -> bytes:
        """`depth` containers in all: the message and the params are two of them."""
        return b"\x94\x00" + packed(msgid, "ping") + b"\x91" * (depth - 1) + b"\xc0"

    wire.expect(*range(1, 6))
    for msgid, depth in ((1, 3), (2, 64)):
        wire.write(ping(msgid, depth))
        assert wire.answer(msgid).error is None
    for msgid, depth in ((3, 65), (4, 1024)):
        wire.write(ping(msgid, depth))
        code, _, data = wire.fault(msgid)
        assert (code, data["executed"], data["retryable"]) == (1019, "no", False)
    wire.write(ping(5, 1025))
    assert wire.goaway()[0] == 2002


def test_deep_responses_and_notifications_are_ignored(wire: Wire) -> None:
    wire.write(b"\x94\x01\x05\xc0" + b"\x91" * 100 + b"\xc0")
    wire.write(b"\x93\x02\xa6cancel" + b"\x91" * 100 + b"\xc0")
    assert wire.call("ping", 1) == 1


def test_a_duplicate_msgid_is_2004(wire: Wire, bystander: Wire) -> None:
    wire.expect(9)
    wire.send(0, 9, "wait", [["no-such-job"]])
    assert wire.fault(9)[0] == 1013
    wire.expect(9)
    wire.send(0, 9, "ping", [1])
    assert wire.result(9) == 1, "it was answered, so the number is free again"
    bystander.call("pause", "raw")
    wire.write(packed([0, 9, "run", ["raw", "run", [1]]]) * 2)
    code, message = wire.goaway()
    bystander.call("resume", "raw")
    assert (code, "9" in message) == (2004, True)


# -- at every split point


FATAL = {
    "no message": (PING + b"no message", 2000),
    "too deep": (b"\x94\x00\x02\xa4ping" + b"\x91" * 1024 + b"\xc0", 2002),
    "a bad envelope behind a good one": (packed([0, 1, "ping", []], [0, 2, {}, []]), 2003),
    "a duplicate": (
        packed([0, 1, "wait", [["f"]]], *2 * [[0, 2, "run", ["held", "run", []]]]),
        2004,
    ),
    **{name: (data, 2003) for name, data in BAD_ENVELOPES.items()},
}
PER_CALL = {
    "17 params": (packed([0, 3, "ping", list(range(17))]), -32602),
    "an integer too large": (packed([0, 3, "status", [{"x": 2**53}]]), -32602),
    "an ext": (packed([0, 3, "status", [{"x": msgpack.Timestamp(5)}]]), -32602),
    "a key that is no str": (packed([0, 3, "status", [{7: 1}]]), -32602),
    "65 levels": (b"\x94\x00\x03\xa4ping" + b"\x91" * 64 + b"\xc0", 1019),
    "an unknown method": (packed([0, 3, "nothing", []]), -32601),
    "args that nobody can read": (b"\x94\x00\x03\xa3run\x93\xa4echo\xa3run\x91\xa1\xff", -32602),
}


def in_pieces(supervisor: Supervisor, bystander: Wire, data: bytes) -> Iterator[Wire]:
    """A client for each place to cut, and one that sends byte by byte: each piece is read alone."""
    cuts = [[data[:at], data[at:]] for at in range(1, len(data))]
    for pieces in ([bytes([byte]) for byte in data], *cuts):
        with supervisor.connect() as wire:
            wire.expect(1, 2, 3)
            for piece in pieces:
                wire.write(piece)
                assert bystander.call("ping", 1) == 1
            yield wire


@pytest.mark.parametrize("name", FATAL)
def test_at_every_split_point_it_ends_the_same(
    supervisor: Supervisor, bystander: Wire, name: str
) -> None:
    data, code = FATAL[name]
    for wire in in_pieces(supervisor, bystander, data):
        assert wire.goaway()[0] == code


@pytest.mark.parametrize("name", PER_CALL)
def test_at_every_split_point_it_is_refused_the_same(
    supervisor: Supervisor, bystander: Wire, name: str
) -> None:
    data, code = PER_CALL[name]
    for wire in in_pieces(supervisor, bystander, data):
        assert wire.fault(3)[0] == code
        wire.write(PING)
        assert wire.result(1) == 7


def test_a_message_may_come_byte_by_byte(wire: Wire, bystander: Wire) -> None:
    wire.expect(1)
    for number, byte in enumerate(packed([0, 1, "run", ["echo", "run", ["é"], {"id": "slow"}]])):
        wire.write(bytes([byte]))
        assert bystander.call("ping", number) == number
    assert wire.result(1) == "é"


def test_a_client_that_leaves_in_mid_message_is_forgotten(
    supervisor: Supervisor, bystander: Wire
) -> None:
    for size in range(1, len(PING)):
        with supervisor.connect() as wire:
            wire.write(PING[:size])
            assert bystander.call("ping", size) == size


# -- per call


def test_params_over_16_are_refused(wire: Wire) -> None:
    assert wire.call("ping", *range(16)) == 0
    code, message, data = wire.refused("ping", *range(17))
    assert (code, data["executed"], "16" in message) == (-32602, "no", True)
    assert wire.call("ping", 1) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (packed({f"k{n}": n for n in range(65)}), "64"),
        (packed({"long": b"x" * 65536}), "65536"),
        (packed({7: 1}), "str"),
        (packed({b"id": "x"}), "str"),
        (packed({None: 1}), "str"),
        (packed({"x": 2**53}), "2^53"),
        (packed({"x": -(2**53)}), "2^53"),
        (packed({"x": [{"y": 2**60}]}), "2^53"),
        (packed({"x": msgpack.ExtType(5, b"abc")}), "ext"),
        (packed({"x": msgpack.Timestamp(5)}), "ext"),
        (b"\x81\xa1x\xa2\xff\xff", "readable"),
        (b"\x81\x91\x01\x02", "readable"),
        (packed([]), "map"),
        (packed("options"), "map"),
    ],
)
def test_options_beyond_the_limits_are_refused(wire: Wire, options: bytes, says: str) -> None:
    for msgid, head in enumerate(
        (packed("echo", "run", []), packed("no_such_plugin"), packed([]), b""), 100
    ):
        method = ("run", "rollback", "watch", "status")[msgid - 100]
        count = 1 + (3, 1, 1, 0)[msgid - 100]
        wire.expect(msgid)
        wire.write(b"\x94\x00" + packed(msgid, method) + bytes([0x90 + count]) + head + options)
        code, message, data = wire.fault(msgid)
        assert (code, data["executed"]) == (-32602, "no")
        assert says in message
    assert wire.call("ping", 1) == 1


def test_options_at_the_limits_are_taken(wire: Wire) -> None:
    many = {f"k{n}": 2**53 - 1 for n in range(64)}
    assert wire.call("run", "echo", "run", [1], many) == 1
    room = 65536 - len(packed({"long": b""})) - 1  # the length of the bin takes one byte more
    assert len(packed({"long": b"x" * room})) == 65536
    assert wire.call("run", "echo", "run", [2], {"long": b"x" * room}) == 2


@pytest.mark.parametrize(
    "args",
    [
        b"\x91\xa3\xff\xfe\xfd",  # a str that is no UTF-8
        b"\x81\x91\x01\x02",  # an array as a key
        b"\x83\x01\x02\x01\x03\xc0\xc0",  # a key twice, and nil
        b"\xc7\x03\x05abc",  # ext 5
        b"\xd4\x00\x01",  # ext 0, which Neovim rewrites
        b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
        b"\xcf" + b"\xff" * 8,  # 2^64-1
        b"\xdd\x00\x00\x00\x01\xda\x00\x01x",  # lengths in more bytes than they need
        b"\x91" * 61 + b"\xc0",  # as deep as args may be
        b"\xca\x7f\xc0\x00\x00",  # not a number
        b"\xc6\x00\x00\x00\x00",
    ],
)
def test_args_pass_through_as_the_bytes_they_came_as(wire: Wire, args: bytes) -> None:
    call = packed("raw", "run") + args
    wire.write(b"\x94\x00\x07" + packed("run") + b"\x93" + call)
    assert wire.read_exactly(4 + len(args)) == b"\x94\x01\x07\xc0" + args


def test_garbage_in_args_is_the_python_workers_to_refuse(wire: Wire) -> None:
    wire.expect(7)
    wire.write(b"\x94\x00\x07" + packed("run") + b"\x93" + packed("echo", "run") + b"\x91\xa1\xff")
    code, _, data = wire.fault(7)
    assert (code, data["executed"]) == (-32602, "no")


def test_nothing_large_is_decoded(supervisor: Supervisor, wire: Wire) -> None:
    """A MiB of empty maps is 74 MB decoded, so it must be measured before."""
    maps = b"\xdd\x00\x20\x00\x00" + b"\x80" * (2 * MIB)
    before = reset_peak_mib(supervisor)
    places = [
        packed("run") + b"\x94" + packed("echo", "run") + b"\x90" + maps,
        packed("run") + b"\x93" + maps + packed("run", []),
        packed("wait") + b"\x91" + maps,
        packed("status") + b"\x91" + maps,
        packed("add") + b"\x92" + packed("x") + maps,
        packed("pause") + b"\x91" + maps,
        packed("cancel") + b"\x91" + maps,
    ]
    for msgid, rest in enumerate(places):
        wire.expect(msgid)
        wire.write(b"\x94\x00" + packed(msgid) + rest)
        assert wire.fault(msgid)[0] == -32602
    wire.write(b"\x94\x01\x07" + maps + b"\xc0")  # as an error
    wire.write(b"\x93\x02" + packed("more") + b"\x92" + packed("job") + maps)
    assert wire.call("ping", 1) == 1
    wire.write(b"\x94\x00\x07" + maps + b"\x90")  # as a method
    assert wire.goaway()[0] == 2003
    assert peak_mib(supervisor) - before < 100


def reset_peak_mib(supervisor: Supervisor) -> int:
    """Begin a new peak of its memory here."""
    Path(f"/proc/{supervisor.process.pid}/clear_refs").write_text("5")
    return peak_mib(supervisor)


def peak_mib(supervisor: Supervisor) -> int:
    status = Path(f"/proc/{supervisor.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


# -- output that is not read, connections, credit


def test_reading_stops_while_8_mib_are_not_read(wire: Wire, bystander: Wire) -> None:
    request = packed([0, 1, "ping", [bytes(MIB)]])
    data = memoryview(b"".join(packed([0, n, "ping", [bytes(MIB)]]) for n in range(64)))
    wire.expect(*range(64))
    sent = refused = 0
    while refused < 20:
        try:
            sent += os.write(wire.write_fd, data[sent : sent + MIB])
            refused = 0
        except BlockingIOError:
            refused += 1
        assert bystander.call("ping", sent) == sent
    assert sent < 16 * MIB + len(request)
    wire.write(bytes(data[sent:]))
    assert [len(wire.result(n)) for n in range(64)] == [MIB] * 64


def test_a_flood_of_requests_is_held_back_and_the_others_have_their_turns(
    supervisor: Supervisor, wire: Wire, bystander: Wire
) -> None:
    """Also of requests that came whole in one read, and whose answers are large."""
    before = reset_peak_mib(supervisor)
    count = ["run", ["count", "run", []]]
    flood = [packed([0, n, "status", []]) for n in range(600)] + [packed([0, 600, *count])]
    wire.expect(*range(601))
    with supervisor.stopped():  # the flood is there first
        wire.write(b"".join(flood), reads=False)
        bystander.expect(0)
        bystander.send(0, 0, *count)
    assert wire.result(599)["schema"] == "changeover.status/1"
    assert (bystander.result(0), wire.result(600)) == (1, 2)
    assert peak_mib(supervisor) - before < 32


def test_the_65th_connection_is_2008(tmp_path: Path) -> None:
    with Supervisor(tmp_path, *ALLOW) as supervisor:
        wires = [supervisor.connect() for _ in range(64)]
        assert [wire.call("ping", n) for n, wire in enumerate(wires)] == list(range(64))
        with supervisor.connect() as extra:
            code, message = extra.goaway()
            assert (code, "64" in message) == (2008, True)
        wires.pop().close()
        assert wires[0].call("ping", 1) == 1
        with supervisor.connect() as late:
            assert late.call("ping", 1) == 1
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("full", ["reject", "block"])
def test_jobs_and_bytes_of_a_session_are_limited_but_not_its_control_calls(
    tmp_path: Path, full: str
) -> None:
    """What blocks holds as many jobs again; beyond it is 1010 too, for memory is not endless."""
    options = ["-o", "allow_add=true", "-o", "session_jobs=4", "-o", "session_bytes=1MiB"]
    with Supervisor(tmp_path, *options) as supervisor, supervisor.connect() as wire:
        assert wire.call("hello")["limits"]["jobs"] == 4
        wire.call("add", "echo", {"source": str(PLUGINS / "echoes.py"), "full": full})
        wire.call("pause", "echo")
        limit = 4 if full == "reject" else 8
        held = [wire.ask("run", "echo", "run", [n]) for n in range(limit)]
        code, _, data = wire.refused("run", "echo", "run", [limit])
        assert (code, data["executed"], data["reason"]) == (1010, "no", "session")
        assert wire.call("status")["plugins"]["echo"]["queued"] == limit
        wire.call("resume", "echo")
        assert [wire.result(job) for job in held] == list(range(limit))
        large = [bytes(MIB * limit // 4)]
        assert wire.refused("run", "echo", "run", large)[2]["reason"] == "session"
        assert wire.call("run", "echo", "run", ["small"]) == "small"


def test_watches_of_a_session_are_limited(wire: Wire) -> None:
    for _ in range(64):
        wire.call("watch", ["plugins"], {"plugin": "raw"})
    assert wire.refused("watch", ["plugins"])[0] == -32602


# -- the socket


def test_the_socket_is_its_users_alone(supervisor: Supervisor) -> None:
    assert os.stat(supervisor.path).st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_turned_away_even_if_the_socket_lets_him() -> None:
    """SO_PEERCRED, where the permissions are as a sloppy umask would leave them."""
    with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder), *ALLOW) as supervisor:
        os.chmod(folder, 0o755)
        os.chmod(supervisor.path, 0o666)
        code = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.settimeout(20); s.connect(sys.argv[1]); os.write(1, s.recv(4096))"
        )
        argv = [sys.executable, "-c", code, supervisor.path]
        said = subprocess.run(argv, capture_output=True, check=True, timeout=30, cwd="/").stdout
        _, method, (number, message, _) = msgpack.unpackb(said)
        assert (method, number, "65534" in message) == ("goaway", 2009, True)
        with supervisor.connect() as wire:
            assert wire.call("ping", 1) == 1


def said_to(uid: int, path: str, *, groups: tuple[int, ...] = ()) -> str:
    """What another user learns who pings here."""
    code = """if True:
        import contextlib, os, socket, sys
        os.setgroups(list(map(int, sys.argv[3:])))
        os.setgid(65534)
        os.setuid(int(sys.argv[2]))
        here = socket.socket(socket.AF_UNIX)
        here.settimeout(20)
        here.connect(sys.argv[1])
        with contextlib.suppress(OSError):  # turned away already
            here.send(bytes.fromhex("940001a470696e679107"))
        os.write(1, here.recv(4096))
        """
    argv = [sys.executable, "-c", code, path, str(uid), *map(str, groups)]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=30, cwd="/")
    if done.returncode:
        return done.stderr.decode().splitlines()[-1]
    kind, _method, *rest = msgpack.unpackb(done.stdout)
    return str(rest[0][1]) if kind == 2 else f"answer {rest[-1]}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("options", "uid", "groups", "said"),
    [
        (("socket_mode=0660", 'socket_group="4711"'), 65534, (4711,), "answer 7"),
        (("socket_mode=0660", 'socket_group="4711"'), 65534, (), "PermissionError"),
        (("socket_mode=0666", "allow_uids=[1234]"), 1234, (), "answer 7"),
        (("socket_mode=0666", "allow_uids=[1234]"), 65534, (), "uid 65534 may not connect here"),
        (("socket_mode=0666",), 65534, (), "answer 7"),
        (("allow_uids=[65534]",), 65534, (), "PermissionError"),
    ],
)
def test_others_are_let_in_as_configured(
    options: tuple[str, ...], uid: int, groups: tuple[int, ...], said: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        given = [word for option in options for word in ("-o", option)]
        path = f"{name}/run/s"
        with Supervisor(Path(name), *ALLOW, *given, "-s", path) as supervisor:
            supervisor.path = path
            assert said in said_to(uid, path, groups=groups)
            with supervisor.connect() as own:
                assert own.call("ping", 1) == 1


def test_a_group_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no group 'nosuchgroup'"):
        Supervisor(tmp_path, *ALLOW, "-o", "socket_group=nosuchgroup")
    assert not (tmp_path / "s").exists()


def test_a_file_in_the_sockets_place_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("somebody's work")
    with pytest.raises(AssertionError, match="no socket"):
        Supervisor(tmp_path, *ALLOW)
    assert (tmp_path / "s").read_text() == "somebody's work"


def test_a_socket_that_somebody_listens_on_is_not_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen(0)
        with pytest.raises(AssertionError, match="another supervisor listens there"):
            Supervisor(tmp_path, *ALLOW)


def test_a_socket_that_was_left_behind_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with Supervisor(tmp_path, *ALLOW) as supervisor, supervisor.connect() as wire:
        assert wire.call("ping", 1) == 1


def test_out_of_descriptors_it_goes_on_later(tmp_path: Path) -> None:
    """EMFILE at accept: whoever waits is served when there is room."""
    with Supervisor(tmp_path, *ALLOW) as supervisor:
        first = supervisor.connect()
        assert first.call("ping", 1) == 1
        used = len(os.listdir(f"/proc/{supervisor.process.pid}/fd"))
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (used, 4096))
        second = supervisor.connect()
        asked = second.ask("ping", 2)
        assert first.call("ping", 3) == 3
        resource.prlimit(supervisor.process.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        assert second.result(asked) == 2
        first.close()
        second.close()
