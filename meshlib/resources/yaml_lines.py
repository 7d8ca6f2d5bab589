"""Plain YAML line by line: block style with one key or item a line, as people and ``kubectl`` write it.

PyYAML makes an object with two marks of every scalar and of both ends of every map and list, which is most of what reading a
long file takes. Here a line that was seen before (``- destination:`` of the next rule) is a look into a table. Whatever is not
plain, errors among it, is left to the readers that know all of YAML; what is accepted here they read alike, to which tests hold
them.
"""

from __future__ import annotations

import re

from meshlib.pace import take_turns
from meshlib.resources.values import Place, Scalar, Value
from meshlib.resources.yaml_builder import MAX_DEPTH, NotPlain, Plain
from meshlib.resources.yaml_scalars import NO_KEYS, BadNumberError, plain_scalar

_STRETCH = 4096
"""Characters that are cut into lines at a time."""
_LONGEST = 1000
"""Characters of a line: libyaml wants a key and its colon within 1,024."""
_KNOWN = 4096
"""Lines that are remembered at most."""

_SAFE = r"A-Za-z0-9_./()^$~+=*|\\@%&!<>;\-"
_FIRST = rf"(?:[A-Za-z0-9_./(^$~+=\\;<]|-(?=[{_SAFE}]))"
_KEY = r"[A-Za-z][A-Za-z0-9_./-]*+"
_QUOTED = r"""'[^'\t]*+'|"[^"\\\t]*+\""""
_LINE = re.compile(
    rf"( *+)((?:- ++)*+)(?:({_KEY}):(?= |$))?+ *+"
    rf"(?:({_QUOTED})|({_FIRST}(?:[{_SAFE},?{{}}\[\]]| ++(?=[{_SAFE}])|:(?=[{_SAFE}]))*+)|([\[{{].*[\]}}]))?+"
    r" *+(?:(?<= )#.*+)?+"
)
"""Indentation, dashes, key; a quoted text, a plain scalar or something in brackets; a comment."""
_DASH = re.compile("- +")
_TOKEN = re.compile(rf" *+(?:([\[\]{{}},])|({_KEY}):(?= )|({_QUOTED})|({_FIRST}[{_SAFE}]*+))")
"""Of what is in brackets: one of them or a comma, a key, a quoted text, a plain scalar."""

_Line = tuple[tuple[int, ...], int, str, Scalar, str | None]
"""Columns of the dashes; the column after them (-1: a line of nothing); the key ("" of an item); its value; what is in brackets
("": there is no value on this line)."""
_BLANK: _Line = ((), -1, "", None, None)


def read_lines(text: str, budget: int) -> tuple[list[Plain], int]:
    """The document of a piece, and how many nodes it has. Raises NotPlain."""
    known: dict[str, _Line] = {}
    names: dict[str, str] = {}  # each key once in memory, not once a rule
    root: list[Value] = []
    stack: list[tuple[dict[str, Value] | None, list[Value], int]] = []
    fields: dict[str, Value] | None = None  # of the map that is open; None: a list is
    entries, column = root, -1  # of the list that is open; of either
    key: str | None = ""  # what waits for its value: a key of the map, an item of the list (""), nothing (None)
    place: Place = (0, 0)
    listed: list[Value] = []  # the list of resources that the document is
    items: list[Place] = []
    nodes = 0
    start, first = (4, 1) if text.startswith("---\n") else (0, 0)
    end = len(text)
    while start < end:
        take_turns()
        stop = text.find("\n", start + _STRETCH)
        stop = end if stop < 0 else stop
        lines = text[start:stop].split("\n")
        for row, line in enumerate(lines, first):
            found = known.get(line)
            if found is None:
                if len(known) >= _KNOWN:
                    known.clear()
                found = known[line] = _line(line, names)
            dashes, at, name, scalar, flow = found
            value: Value = scalar
            if at < 0:
                continue
            for dash in dashes:
                while dash < column:
                    fields, entries, column = stack.pop()
                    key = None
                if dash != column or fields is not None:
                    if key is None or len(stack) >= MAX_DEPTH:
                        raise NotPlain
                    opened: list[Value] = []
                    if fields is not None:
                        fields[key] = opened
                        if key == "items" and len(stack) == 1:
                            listed = opened
                    else:
                        nodes += 1
                        if not stack:
                            place = (row, dash)
                        elif entries is listed:
                            items.append((row, dash))
                        entries.append(opened)
                    stack.append((fields, entries, column))
                    fields, entries, column = None, opened, dash
                key = ""
            if not name:
                nodes += 1
                if flow:
                    if entries is listed:
                        raise NotPlain  # its place would be asked for
                    value, inside = _flow(flow, len(stack), names)
                    nodes += inside
                entries.append(value)
                key = None
                continue
            while at < column or (fields is None and at == column):
                fields, entries, column = stack.pop()
                key = None
            if fields is None or at != column:
                if key is None or len(stack) >= MAX_DEPTH:
                    raise NotPlain
                made: dict[str, Value] = {}
                if fields is not None:
                    fields[key] = made
                else:
                    nodes += 1
                    if not stack:
                        place = (row, at)
                    elif entries is listed:
                        items.append((row, at))
                    entries.append(made)
                stack.append((fields, entries, column))
                fields, column = made, at
            elif name in fields:
                raise NotPlain
            nodes += 2
            key = None
            if flow is not None:
                if not flow:
                    key = name
                elif name == "items" and len(stack) == 1:
                    raise NotPlain  # the places of what is inside would be asked for
                else:
                    value, inside = _flow(flow, len(stack), names)
                    nodes += inside
            fields[name] = value
        first += len(lines)
        start = stop + 1
        if nodes > budget:
            raise NotPlain
    if not root:
        raise NotPlain
    return [(root[0], place, items if items and len(items) == len(listed) else None)], nodes


def _line(line: str, names: dict[str, str]) -> _Line:
    """What a line says. Raises NotPlain."""
    rest = line.lstrip(" ")
    if not rest or rest[0] == "#":
        return _BLANK
    found = _LINE.fullmatch(line) if len(line) <= _LONGEST else None
    if found is None:
        raise NotPlain
    indent, dashes, name, quoted, plain, flow = found.groups("")
    at = len(indent)
    columns = []
    for dash in _DASH.findall(dashes):
        columns.append(at)
        at += len(dash)
    has_value = bool(quoted or plain or flow)
    if name in NO_KEYS if name else not (columns and has_value):
        raise NotPlain
    value: Scalar = quoted[1:-1] if quoted else None
    if plain:
        value = _plain(plain)
    return tuple(columns), at, names.setdefault(name, name), value, flow if flow or not has_value else None


def _plain(text: str) -> Scalar:
    try:
        return plain_scalar(text)
    except BadNumberError as error:
        raise NotPlain from error


_VALUE, _VALUE_OR_END, _KEY_ONLY, _KEY_OR_END, _NEXT = range(5)


def _flow(text: str, depth: int, names: dict[str, str]) -> tuple[Value, int]:
    """What stands in brackets ``depth`` deep in the document, and how many nodes are inside. Raises NotPlain."""
    root: list[Value] = []
    stack: list[tuple[dict[str, Value] | None, list[Value]]] = []
    fields: dict[str, Value] | None = None
    entries = root
    key = ""
    due = _VALUE
    nodes = -1
    at = 0
    while due != _NEXT or stack:
        token = _TOKEN.match(text, at)
        if token is None:
            raise NotPlain
        at = token.end()
        sign, name, quoted, plain = token.groups("")
        if name:
            if due not in (_KEY_ONLY, _KEY_OR_END) or fields is None or name in fields or name in NO_KEYS:
                raise NotPlain
            key = names.setdefault(name, name)
            nodes += 1
            due = _VALUE
        elif sign == ",":
            if due != _NEXT:
                raise NotPlain
            due = _VALUE if fields is None else _KEY_ONLY
        elif sign in ("]", "}"):
            if due not in (_NEXT, _VALUE_OR_END, _KEY_OR_END) or (sign == "]") is not (fields is None):
                raise NotPlain
            fields, entries = stack.pop()
            due = _NEXT
        else:
            if due not in (_VALUE, _VALUE_OR_END):
                raise NotPlain
            made: dict[str, Value] = {}
            opened: list[Value] = []
            value: Value = made if sign == "{" else opened if sign else quoted[1:-1] if quoted else _plain(plain)
            if fields is None:
                entries.append(value)
            else:
                fields[key] = value
            nodes += 1
            due = _NEXT
            if sign:
                if depth + len(stack) >= MAX_DEPTH:
                    raise NotPlain
                stack.append((fields, entries))
                fields, entries = (made, entries) if sign == "{" else (None, opened)
                due = _KEY_OR_END if sign == "{" else _VALUE_OR_END
    if at != len(text):
        raise NotPlain
    return root[0], nodes
