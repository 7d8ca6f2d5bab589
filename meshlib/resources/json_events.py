"""JSON text to the events that the YAML parser would give, where the YAML parser cannot be trusted to.

JSON is not quite the subset of YAML that it is said to be: a pair of surrogate escapes, a key of more than 1,024
characters, a line break before a colon and a raw U+2028 are JSON, and libyaml refuses or changes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from meshlib.pace import take_turns
from meshlib.resources.yaml_builder import RefusedError

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"[-+.0-9A-Za-z]+")
_decode = json.JSONDecoder().raw_decode  # a string at an offset, and where it ends
_PLAIN, _QUOTED = (True, False), (False, True)


class Mark(NamedTuple):
    """A place in the text, both from 0, as the YAML parser counts them."""

    line: int
    column: int


def json_problem(text: str) -> ValueError | None:
    """Why ``text`` is not JSON (NaN and Infinity are not), None when it is."""
    if len(text) > _AT_ONCE and _is_json(text):
        return None
    try:
        # numbers are left as text: only the syntax is asked for, and int() refuses long ones
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except RecursionError:
        return ValueError("nested too deep")  # the reader counts levels without recursion and says where
    except ValueError as error:
        return error
    return None


_AT_ONCE = 65_536
"""Characters that the C parser, which lets nobody else run, may be given when there is no error to be told."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LITERAL = re.compile("true|false|null")


def _is_json(text: str) -> bool:
    """The same, without the reason."""
    at, turn = 0, 0
    open_ones: list[str] = []
    expected = "value"  # or: key, colon, next (a comma or the end), first (a value or the end), first key
    while True:
        turn += 1
        if not turn & 31:
            take_turns()
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        char = text[at : at + 1]
        if expected == "next":
            if not open_ones:
                return not char
            if char == ",":
                expected = "key" if open_ones[-1] == "}" else "value"
            elif char == open_ones[-1]:
                open_ones.pop()
            else:
                return False
            at += 1
        elif expected == "colon":
            if char != ":":
                return False
            expected = "value"
            at += 1
        elif expected.startswith("first") and char and char == open_ones[-1]:
            open_ones.pop()
            expected = "next"
            at += 1
        elif char == '"':
            try:
                _, at = _decode(text, at)
            except ValueError:
                return False
            expected = "colon" if expected in ("key", "first key") else "next"
        elif expected in ("key", "first key"):
            return False
        elif char in ("{", "["):
            open_ones.append("}" if char == "{" else "]")
            expected = "first key" if char == "{" else "first"
            at += 1
        else:
            found = _NUMBER.match(text, at) or _LITERAL.match(text, at)
            if found is None:
                return False
            at = found.end()
            expected = "next"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class JsonEvents:
    """The events of a text for which ``json_problem`` is None; the same interface as PyYAML's parsers.

    ``get_event`` raises RefusedError for an escape that JSON allows and no text can hold.
    """

    def __init__(self, text: str) -> None:
        self._events = _events(text)

    def get_event(self) -> Any:
        """The next event, None after the last."""
        return next(self._events, None)


def _events(text: str) -> Iterator[Any]:
    at, line, line_start = 0, 0, 0
    depth = 0
    space = _SPACE.match
    while True:
        match = space(text, at)
        assert match is not None
        if (after := match.end()) > at:
            newlines = text.count("\n", at, after)
            if newlines:
                line += newlines
                line_start = text.rfind("\n", at, after) + 1
            at = after
        char = text[at : at + 1]
        if not char:
            return
        mark: Any = Mark(line, at - line_start)
        if char == '"':
            value, at = _decode(text, at)
            if not value.isascii() and _SURROGATE.search(value):
                raise RefusedError("bad-character", mark, "half of a surrogate pair is not a character", "delete it")
            yield yaml.ScalarEvent(None, None, _QUOTED, value, mark)
        elif char in "{[":
            depth += 1
            at += 1
            opened = yaml.MappingStartEvent if char == "{" else yaml.SequenceStartEvent
            yield opened(None, None, True, mark)
        elif char in "}]":
            depth -= 1
            at += 1
            closed = yaml.MappingEndEvent if char == "}" else yaml.SequenceEndEvent
            yield closed(mark)
        elif char in ",:":
            at += 1
            continue
        else:
            word = _WORD.match(text, at)
            assert word is not None
            at = word.end()
            yield yaml.ScalarEvent(None, None, _PLAIN, word[0], mark)
        if depth == 0:
            yield yaml.DocumentEndEvent(mark)
            return
