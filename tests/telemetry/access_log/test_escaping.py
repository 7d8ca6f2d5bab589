"""Whatever a stranger sends stands in one line, between its quotes, and can be read back."""

from __future__ import annotations

import ast
import json

from hypothesis import example, given
from hypothesis import strategies as st

from meshlib.telemetry.access_log.escaping import AS_IT_IS, as_json, escaped, is_plain, readable

WIRE = st.binary(max_size=40).map(lambda data: data.decode("latin-1"))


@given(WIRE)
@example('"\\\n\r\t\x1b[2J\x00\x7f')
@example("\xff\xfe")
@example("\u2028\u202e\x85 é 😀".encode().decode("latin-1"))
def test_bytes_stay_in_their_line_and_quotes(text: str) -> None:
    found = escaped(text)
    assert found.isprintable()
    assert len(found.splitlines()) <= 1
    assert ast.literal_eval(f'"{found}"') is not None  # the quotes that end it are its own
    assert is_plain(text) <= (found == text)


@given(st.binary(max_size=40))
@example("é😀".encode())
def test_nothing_is_lost(data: bytes) -> None:
    found = ast.literal_eval(f'"{escaped(data.decode("latin-1"))}"')
    try:
        assert found == data.decode()
    except UnicodeDecodeError:
        pass  # such bytes are shown as \xff, which stands for a character as well
    else:
        assert found.encode() == data


def test_what_is_not_printed_is_written_as_a_code() -> None:
    assert escaped('a"b\\c\nd\re\tf\x1bg\x00') == 'a\\"b\\\\c\\nd\\re\\tf\\x1bg\\x00'
    assert escaped("é".encode().decode("latin-1")) == "é"
    assert escaped("\u2028\u202e\x85".encode().decode("latin-1")) == "\\u2028\\u202e\\u0085"
    assert escaped("a\xffb") == "a\\xffb"
    assert escaped("character \u0141 of no wire") == "character Ł of no wire"


@given(WIRE)
@example('"\\\n\u2028')
def test_json_is_one_line_of_ascii(text: str) -> None:
    found = as_json(text)
    assert found.isascii()
    assert found.isprintable()
    assert json.loads(found) == readable(text)


def test_ten_kilobytes_are_kept() -> None:
    assert escaped("x" * 10_000) == "x" * 10_000
    assert len(escaped("\n" * 10_000)) == 20_000


def test_what_may_stand_in_a_line_is_told_by_one_look_at_all_of_it() -> None:
    """``bytes.translate`` gives its very object back where nothing is another byte, in every CPython that we run on."""
    for code in range(256):
        data = b"before" + bytes([code]) + b"after"
        text = data.decode("latin-1")
        plain = escaped(text) == text and as_json(text) == f'"{text}"'
        assert (data.translate(AS_IT_IS) is data) == is_plain(text) == plain, code
