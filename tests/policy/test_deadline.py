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
