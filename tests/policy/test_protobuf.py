"""Protocol buffers on the wire, against Google's own library."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.policy import protobuf
from meshlib.policy.protobuf import Message, data, fields, number, text, texts, varint
from tests.support.ads_server import message as known

UINT64 = st.integers(0, 2**64 - 1)


def http_request(**values: Any) -> Any:
    return known("envoy.service.auth.v3.AttributeContext.HttpRequest")(**values)


def test_what_is_made_is_what_google_s_library_reads() -> None:
    raw = text(1, "id") + texts(3, [("a", "1"), ("", "")]) + text(4, "/p") + number(9, 2**40) + data(12, b"\xff\0")
    assert http_request().FromString(raw) == http_request(
        id="id", headers={"a": "1", "": ""}, path="/p", size=2**40, raw_body=b"\xff\0"
    )


@given(
    st.text(max_size=30), st.dictionaries(st.text(max_size=9), st.text(max_size=9)), st.integers(-(2**63), 2**63 - 1)
)
@settings(max_examples=60)
def test_any_text_map_and_number_arrives(path: str, headers: dict[str, str], size: int) -> None:
    def wire(given: str) -> str:
        return given.encode().decode("latin-1")

    raw = texts(3, [(wire(k), wire(v)) for k, v in headers.items()]) + text(4, wire(path)) + number(9, size)
    expected = {k.replace("�", "!"): v.replace("�", "!") for k, v in headers.items()}
    assert http_request().FromString(raw) == http_request(path=path.replace("�", "!"), headers=expected, size=size)


def test_bytes_that_are_no_text_become_exclamation_marks() -> None:
    assert http_request().FromString(text(4, "/a\xff\x80z")).path == "/a!!z"
    assert http_request().FromString(text(4, "/\xc3\xa9")).path == "/é"
    for byte in range(0x80, 0x100):
        assert http_request().FromString(text(4, f"/{chr(byte)}x")).path == "/!x"


@given(UINT64)
@settings(max_examples=60)
def test_numbers_of_64_bits_are_read_back(value: int) -> None:
    assert list(fields(varint(8) + varint(value))) == [(1, value)]


@given(st.integers(-(2**31), 2**31 - 1))
@settings(max_examples=30)
def test_numbers_with_a_sign_are_read_as_google_s_library_writes_them(code: int) -> None:
    raw = known("google.rpc.Status")(code=code).SerializeToString()
    assert Message(raw).int32(1) == code


def test_what_google_s_library_makes_is_read() -> None:
    ok = known("envoy.service.auth.v3.OkHttpResponse")(headers_to_remove=["a", "é"])
    ok.headers.add().header.key = "k"
    raw = known("envoy.service.auth.v3.CheckResponse")(ok_response=ok).SerializeToString()
    found = Message(raw)
    assert found.has(3)
    assert not found.has(2)
    assert found.message(3).texts(5) == ["a", "é"]
    assert [m.message(1).text(1) for m in found.message(3).messages(2)] == ["k"]
    assert (found.message(1).int32(1), found.message(1).text(2), found.message(1).data(3)) == (0, "", b"")


def test_fixed_numbers_and_unknown_fields_are_passed_by() -> None:
    raw = b"\x0d\x01\0\0\0" + b"\x11\x02\0\0\0\0\0\0\0" + text(30, "new") + text(4, "/")
    assert list(fields(raw)) == [(1, 1), (2, 2), (30, b"new"), (4, b"/")]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80",
        b"\x08",
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x08" + b"\xff" * 9 + b"\x02",
        b"\x12\x05abc",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0b\x0c",
        b"\x0e\x00",
        b"\x00\x01",
        b"\x0d\x01",
        b"\x08\x01" * (protobuf.MOST_FIELDS + 1),
    ],
)
def test_what_is_malformed_is_not_read(raw: bytes) -> None:
    with pytest.raises(ValueError):
        Message(raw)


@pytest.mark.parametrize(
    "read", [lambda m: m.number(2), lambda m: m.data(1), lambda m: m.text(3), lambda m: m.texts(3)]
)
def test_a_field_of_another_type_is_malformed(read: Any) -> None:
    made = Message(number(1, 5) + data(2, b"x") + data(3, b"\xff"))
    with pytest.raises(ValueError):
        read(made)


@given(st.binary(max_size=60))
def test_strangers_bytes_raise_nothing_else(raw: bytes) -> None:
    try:
        made = Message(raw)
    except ValueError:
        return
    assert made.has(99) in (True, False)


def test_a_message_in_several_pieces_is_merged() -> None:
    assert Message(data(1, number(1, 7)) + data(1, text(2, "x"))).message(1).number(1) == 7
