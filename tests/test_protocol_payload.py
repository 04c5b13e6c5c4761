"""Payloads: what travels, what is refused, and that the refusal names the place."""

from __future__ import annotations

import contextlib
import datetime as dt
import pathlib
import subprocess
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover.protocol.frame import Frame
from changeover.protocol.payload import pack_args, pack_payload, unpack_args, unpack_payload

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_plain_data_comes_back(value: Any) -> None:
    if not (isinstance(value, dict) and value.keys() & {"$frame", "$array"}):
        assert unpack_payload(pack_payload(value)) == value


@given(st.lists(PLAIN, max_size=3), st.dictionaries(st.text().filter("*".__ne__), PLAIN))
def test_arguments_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert unpack_args(pack_args(tuple(args), kwargs)) == (args, kwargs)


@pytest.mark.parametrize(
    ("value", "args", "kwargs"),
    [
        ([1, 2], [1, 2], {}),
        ({"a": 1}, [], {"a": 1}),
        ({"*": [1], "a": 2}, [1], {"a": 2}),
        ("x", ["x"], {}),
        (None, [None], {}),
    ],
)
def test_arguments_are_read_as_the_protocol_says(
    value: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    assert unpack_args(msgpack.packb(value)) == (args, kwargs)


@pytest.mark.parametrize("value", [{"*": 1}, {1: 2}, {b"a": 1}])
def test_arguments_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="argument"):
        unpack_args(msgpack.packb(value))


def test_no_keyword_is_called_star() -> None:
    with pytest.raises(TypeError, match=r"\*"):
        pack_args((), {"*": 1})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i2").reshape(2, 3),
        np.arange(6, dtype=">f8").reshape(3, 2).T,
        np.zeros((0, 4), bool),
        np.array(3.5),
        np.array(["ab", "c"]),
        np.array([b"ab"]),
        np.array(["2020-02-29"], "M8[D]"),
        np.array([1 + 2j]),
    ],
    ids=str,
)
def test_an_array_comes_back_with_its_dtype_and_is_read_only(array: Any) -> None:
    back = unpack_payload(pack_payload([array]))[0]
    np.testing.assert_array_equal(back, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert not back.flags.writeable


def test_the_byte_order_of_an_array_is_told() -> None:
    head = msgpack.unpackb(pack_payload(np.zeros(2, ">u2")))["$array"]
    assert head == {"dtype": ">u2", "shape": [2]}


@pytest.mark.parametrize("value", [np.int64(-3), np.float32(0.5), np.bool_(True), np.str_("x")])
def test_a_scalar_of_numpy_is_a_plain_value(value: Any) -> None:
    back = unpack_payload(pack_payload(value))
    assert back == value
    assert type(back).__module__ == "builtins"


def test_frames_and_arrays_travel_inside_containers() -> None:
    frame = Frame(bytes(4), format="gray", width=2, height=2, meta={"boxes": np.zeros((1, 4))})
    back = unpack_payload(pack_payload({"frames": [frame]}))["frames"][0]
    assert back.meta["boxes"].shape == (1, 4)


def test_a_time_with_a_zone_comes_back_in_utc() -> None:
    time = dt.datetime(2026, 5, 1, 12, 30, 0, 250, dt.timezone(dt.timedelta(hours=2)))
    back = unpack_payload(pack_payload(time))
    assert (back, back.tzinfo) == (time, dt.UTC)


def test_ints_may_be_the_keys_of_a_map() -> None:
    assert unpack_payload(pack_payload({1: [None], "a": {2.5: {}}})) == {1: [None], "a": {2.5: {}}}


def test_frames_are_found_beside_int_keys() -> None:
    frame = Frame(bytes(4), format="gray", width=2, height=2)
    assert unpack_payload(pack_payload({7: frame}))[7].width == 2


class Stranger:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "result is of type set"),
        (pathlib.PurePosixPath("/x"), "result is of type pathlib.*PurePosixPath"),
        ({"boxes": [1, Stranger()]}, r"result\['boxes'\]\[1\] is of type .*Stranger"),
        ((1, (2, 3j)), r"result\[1\]\[1\] is of type complex"),
        ({Stranger(): 1}, "a key of result is of type"),
        (np.array([None]), "result is a numpy ndarray of object"),
        ([np.zeros(1, [("a", "i4")])], r"result\[0\] is a numpy ndarray of \[\('a'"),
        (dt.datetime(2026, 1, 1), "result is a datetime without a time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_sent_is_a_type_error_that_names_it(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pack_payload(value, "result")


def test_the_meta_of_a_frame_is_named() -> None:
    frame = Frame(bytes(4), format="gray", width=2, height=2, meta={"x": Stranger()})
    with pytest.raises(TypeError, match=r"value\.meta\['x'\] is of type"):
        pack_payload(frame)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, {2}), {}, "argument 2 is of type set"),
        ((1,), {"strength": {2}}, "argument strength is of type set"),
        ((1,), {"strength": [1, {2}]}, r"argument strength\[1\] is of type set"),
    ],
)
def test_arguments_that_cannot_be_sent_are_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        pack_args(args, kwargs)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([2**64], r"value\[0\] is an int beyond 64 bits"),
        (-(2**63) - 1, "value is an int beyond 64 bits"),
        ({"a": "\ud800"}, r"value\['a'\] is a str that is not valid UTF-8"),
    ],
)
def test_values_out_of_range_are_named(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_payload(value)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="nested deeper than 64"):
        pack_payload(value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xc1", "not readable"),
        (b"\x93\x01", "not readable"),
        (b"\x01\x02", "not readable"),
        (b"\xa1\xff", "not readable"),
        (b"\x91" * 2000 + b"\xc0", "not readable"),
        (b"\x81\x90\x01", "not readable"),
        (b"\xd4\x00\x00", "ext type 0 is not used here"),
        (b"\xd4\x02\x00", "ext type 2 is not used here"),
        (b"\xc7\x0c\xff" + b"\xff" * 12, "not readable"),
    ],
)
def test_hostile_bytes_are_a_value_error(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_payload(raw)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(raw: bytes) -> None:
    with contextlib.suppress(ValueError):  # nothing else may come out
        unpack_payload(raw)


def test_other_ext_types_pass() -> None:
    assert unpack_payload(b"\xd4\x05\x01") == msgpack.ExtType(5, b"\x01")


def test_a_flood_of_keys_that_may_collide_is_refused() -> None:
    with pytest.raises(ValueError, match="the limit is 4096"):
        unpack_payload(msgpack.packb(dict.fromkeys(range(5000))))


ARRAY: dict[str, Any] = {"dtype": "<i4", "shape": [2, 2]}


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"dtype": "|O"}, "is not one that travels"),
        ({"dtype": "|V8"}, "is not one that travels"),
        ({"dtype": "i4,i4"}, "is not one that travels"),
        ({"dtype": 4}, "is not one that travels"),
        ({"dtype": "<i3"}, "numpy knows no dtype"),
        ({"shape": [2, 3]}, "takes 24 bytes, not 16"),
        ({"shape": [-2, -2]}, "array: size must be"),
        ({"shape": [2.0, 2]}, "array: size must be"),
        ({"shape": [2**40, 2**40]}, "not 16"),
        ({"shape": [1] * 40}, "is not a list of sizes"),
        ({"shape": 4}, "is not a list of sizes"),
    ],
)
def test_an_array_that_lies_is_told_so(lie: dict[str, Any], message: str) -> None:
    assert unpack_payload(msgpack.packb({"$array": ARRAY, "data": bytes(16)})).shape == (2, 2)
    with pytest.raises(ValueError, match=message):
        unpack_payload(msgpack.packb({"$array": {**ARRAY, **lie}, "data": bytes(16)}))


def test_a_huge_empty_array_is_refused() -> None:
    value = {"$array": {"dtype": "<i4", "shape": [0, 2**52, 2**52]}, "data": b""}
    with pytest.raises(ValueError, match="not readable"):
        unpack_payload(msgpack.packb(value))


def test_plain_payloads_never_import_numpy() -> None:
    script = (
        "import sys; from changeover.protocol.payload import pack_args, unpack_args\n"
        "unpack_args(pack_args((1, {'a': 2}), {'b': 3})); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
