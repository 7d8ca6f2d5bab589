"""JSON of strangers has one reading, or is refused; what was refused is in no message."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.strict_json import NotJson, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_json_is_read(value, escaped):
    assert loads(json.dumps(value, ensure_ascii=escaped).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"\\u0061":2}}',
        b"NaN",
        b'{"exp":-Infinity}',
        b"1e999",
        b"1" * 400,
        b"9" * 5000,
        b'"\\ud800"',
        b'{"\\uDFFF":1}',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"[" * 100_000,
        b'{"a":\x00}',
    ],
)
def test_refused(text):
    with pytest.raises(NotJson) as caught:
        loads(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "the library's error holds the text"


def test_a_pair_of_surrogates_is_one_character():
    assert loads(b'"\\ud83d\\ude00"') == "\U0001f600"


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content):
    with suppress(NotJson):
        loads(content)
