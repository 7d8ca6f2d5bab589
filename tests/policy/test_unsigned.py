"""Numbers of strangers, read as ``absl::SimpleAtoi`` reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.unsigned import UINT32, UINT64, milliseconds, unsigned


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("503", 503),
        (" \t503\r\n", 503),
        ("+5", 5),
        ("0" * 5000 + "3", 3),
        ("4294967295", UINT32),
        ("4294967296", None),
        ("9" * 5000, None),
        ("-1", None),
        ("+", None),
        ("++1", None),
        ("+ 1", None),
        ("1 2", None),
        ("1.0", None),
        ("1_0", None),
        ("0x1", None),
        ("", None),
        ("\u00b2", None),
        ("\u0663", None),
        ("\u20035", None),  # a space of Unicode's, which is not one of C's
        (None, None),
    ],
)
def test_only_ascii_digits_within_the_bound_are_a_number(text, number):
    assert unsigned(text) == number


def test_the_bound_is_the_callers():
    assert [unsigned("18446744073709551615", UINT64), unsigned("18446744073709551616", UINT64)] == [UINT64, None]
    assert [unsigned("65535", 65535), unsigned("65536", 65535)] == [65535, None]


def test_milliseconds_have_64_bits_and_stop_at_three_years():
    assert [milliseconds("1500"), milliseconds("0"), milliseconds("1.5")] == [1.5, 0.0, None]
    assert milliseconds(str(UINT64)) == milliseconds("99999999999999") == 100_000_000.0
    assert milliseconds(str(UINT64 + 1)) is None


@given(st.text() | st.text("0123456789 +\u00b2\u0663", max_size=30))
def test_a_text_is_a_number_exactly_when_its_digits_are_ascii(text):
    body = text.strip(" \t\n\v\f\r").removeprefix("+")
    plain = bool(body) and set(body) <= set("0123456789")
    assert unsigned(text, 10**18) == (int(body) if plain and len(body.lstrip("0")) <= 18 else None)
