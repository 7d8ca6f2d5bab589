"""How much time is left, read from a header and written into one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy import deadline
from tests.support.strangers import BEYOND_LATIN, NUMBERS


@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [
        ("x-request-deadline", "1500", 1.5),
        ("x-request-deadline", " 0 ", 0.0),
        ("x-request-deadline", "1.5", None),
        ("x-request-deadline", "-5", None),
        ("x-request-deadline", "soon", None),
        ("x-request-deadline", "9" * 12, deadline.LONGEST),
        ("x-request-deadline", "9" * 13, None),
        ("grpc-timeout", "100m", 0.1),
        ("grpc-timeout", "5S", 5.0),
        ("grpc-timeout", "5", None),
        ("grpc-timeout", "123456789S", None),
    ],
)
def test_a_deadline_is_read_or_ignored(header, value, seconds):
    assert deadline.read(header, value) == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(-5, deadline.LONGEST), st.sampled_from(["x-request-deadline", "grpc-timeout"]))
def test_what_is_written_is_read_and_never_later(seconds, header):
    found = deadline.read(header, deadline.write(header, seconds))
    assert found is not None
    assert max(0.0, seconds) - 1.0 <= found <= max(0.0, seconds) + 1e-5


@pytest.mark.parametrize("value", [*NUMBERS, *BEYOND_LATIN])
@pytest.mark.parametrize("header", ["grpc-timeout", "x-request-deadline"])
def test_a_deadline_is_ascii_digits_or_nothing(header, value):
    found = deadline.read(header, value)
    assert found is None or 0 <= found <= deadline.LONGEST
    if not value.isascii():
        assert found is None


@pytest.mark.parametrize(
    ("unit", "seconds"), [("H", 3600.0), ("M", 60.0), ("S", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9)]
)
def test_grpcs_units(unit, seconds):
    assert deadline.read("grpc-timeout", f"7{unit}") == pytest.approx(7 * seconds)


def test_nobody_waits_longer_than_a_day():
    assert deadline.LONGEST == 24 * 3600
    assert deadline.read("grpc-timeout", "25H") == deadline.LONGEST


@pytest.mark.parametrize(
    ("header", "seconds", "value"),
    [
        ("x-request-deadline", 1.5, "1500"),
        ("x-request-deadline", 0.0019, "1"),
        ("x-request-deadline", -3.0, "0"),
        ("grpc-timeout", 1.5, "1500m"),
        ("grpc-timeout", -3.0, "0m"),
        ("grpc-timeout", 99_999.999, "99999999m"),
        ("grpc-timeout", 100_000.0, "100000S"),
        ("grpc-timeout", 123_456.789, "123456S"),
    ],
)
def test_a_deadline_is_written_rounded_down_in_the_headers_spelling(header, seconds, value):
    assert deadline.write(header, seconds) == value
