"""Pages are made piece by piece."""

from __future__ import annotations

import json

import pytest

from meshlib.admin.page import JSON, Page, as_json, json_list, text


def test_the_first_piece_is_made_before_a_status_is_sent():
    def pieces():
        yield b"a"
        yield b"b"

    assert b"".join(Page(pieces()).begun().pieces) == b"ab"

    def broken():
        raise LookupError("first")
        yield b""

    with pytest.raises(LookupError, match="first"):
        Page(broken()).begun()


def test_a_list_is_json_whatever_its_length():
    for items in ([], [{"a": 1}], [{"a": 1}, {"b": "ü"}]):
        assert json.loads(b"".join(json_list('{"all": [', iter(items), "]}"))) == {"all": items}


def test_short_ones_are_whole():
    assert text("ü\n").whole == "ü\n".encode()
    assert text("\udce9").whole == rb"\udce9"
    assert as_json({"a": 1}).kind == JSON
    assert text("x").begun().whole == b"x"
