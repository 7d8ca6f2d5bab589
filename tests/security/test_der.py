"""Certificates one behind the other, as the Workload API hands them over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.der import MOST, split


def sequence(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([0x30, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x30, 0x80 | len(digits)]) + digits + content


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_what_was_joined_comes_apart(contents: list[bytes]) -> None:
    pieces = tuple(sequence(each) for each in contents)
    assert split(b"".join(pieces)) == pieces


@given(st.binary(max_size=64))
def test_any_bytes_come_apart_or_are_refused(raw: bytes) -> None:
    try:
        pieces = split(raw)
    except ValueError as error:
        assert str(error)
    else:
        assert b"".join(pieces) == raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"-----BEGIN CERTIFICATE-----", "not a valid certificate in DER at byte 0"),
        (sequence(b"a") + b"\x00", "not a valid certificate in DER at byte 3"),
        (sequence(b"abc")[:-1], "breaks off"),
        (b"\x30", "breaks off"),
        (b"\x30\x80ab\x00\x00", "not a valid certificate in DER"),
        (b"\x30\x81\x05abcde", "not a valid certificate in DER"),
        (b"\x30\x82\x00\x81" + bytes(0x81), "not a valid certificate in DER"),
        (b"\x30\x85\x00\x00\x00\x00\x01a", "not a valid certificate in DER"),
        (sequence(b"a") * (MOST + 1), "more than 64"),
    ],
)
def test_what_is_no_such_text_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split(raw)
