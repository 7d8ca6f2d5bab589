"""Whether the first record of a client offers TLS 1.3."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshlib.serving.client_hello import HEADER, offers_tls13, record_length
from tests.support.hellos import BOTH, NEW, OLD


def test_openssls_hello_says_it() -> None:
    assert offers_tls13(BOTH)
    assert offers_tls13(NEW)
    assert not offers_tls13(OLD)


def test_a_record_says_how_long_it_is() -> None:
    assert record_length(b"") == record_length(BOTH[:4]) == HEADER
    assert record_length(BOTH[:5]) == record_length(BOTH) == len(BOTH)


@given(st.integers(0, len(NEW) - 1))
def test_of_a_part_nothing_is_known(length: int) -> None:
    assert not offers_tls13(NEW[:length])


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"\x16\x03\x01\x01\x2c\x01" + data))
def test_whatever_comes_is_no_error(data: bytes) -> None:
    assert offers_tls13(data) in (False, True)


@given(st.integers(0, len(OLD) - 1), st.integers(0, 255))
def test_a_hello_with_another_byte_is_no_error(at: int, byte: int) -> None:
    changed = bytearray(OLD)
    changed[at] = byte
    assert offers_tls13(bytes(changed)) in (False, True)


def test_other_records_offer_nothing() -> None:
    alert, other = bytearray(NEW), bytearray(NEW)
    alert[0] = 21
    other[HEADER] = 2  # ServerHello
    assert not offers_tls13(bytes(alert))
    assert not offers_tls13(bytes(other))
