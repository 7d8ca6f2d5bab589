"""Plain YAML line by line: block style with one key or item a line, as people and ``kubectl`` write it.

PyYAML makes an object with two marks of every scalar and of both ends of every map and list, which is most of what reading a
long file takes. Here a line that was seen before (``- destination:`` of the next rule) is a look into a table. Whatever is not
plain, errors among it, is left to the readers that know all of YAML; what is accepted here they read alike, to which tests hold
them.
"""

from __future__ import annotations

import re

from meshlib.pace import take_turns
from meshlib.resources.plain_events import scalar_of
from meshlib.resources.plain_tree import NotPlain, Plain, PlainTree
from meshlib.resources.values import Scalar

_STRETCH = 512
"""Characters that are cut into lines at a time."""
_LONGEST = 1000
"""Characters of a line: libyaml wants a key and its colon within 1,024."""
_KNOWN = 4096
"""Lines that are remembered at most."""

_SAFE = r"A-Za-z0-9_./()^$~+=*|\\@%&!<>;\-"
_FIRST = rf"(?:[A-Za-z0-9_./(^$~+=\\;<]|-(?=[{_SAFE}]))"
_NAME = r"[A-Za-z][A-Za-z0-9_./-]*+"
_QUOTED = r"""'[^'\t]*+'|"[^"\\\t]*+\""""
_LINE = re.compile(
    rf"( *+)((?:- ++)*+)(?:({_NAME}):(?= |$))?+ *+"
    rf"(?:({_QUOTED})|({_FIRST}(?:[{_SAFE},?{{}}\[\]]| ++(?=[{_SAFE}])|:(?=[{_SAFE}]))*+)|([\[{{].*[\]}}]))?+"
    r" *+(?:(?<= )#.*+)?+"
)
"""Indentation, dashes, key; a quoted text, a plain scalar or something in brackets; a comment."""
_DASH = re.compile("- +")
_TOKEN = re.compile(rf" *+(?:([\[\]{{}},])|({_NAME}):(?= )|({_QUOTED})|({_FIRST}[{_SAFE}]*+))")
"""Of what is in brackets: one of them or a comma, a key, a quoted text, a plain scalar."""

_Line = tuple[tuple[int, ...], int, str, Scalar, str | None]
"""Columns of the dashes; the column after them (-1: a line of nothing); the key ("" of an item); its value; what is in brackets
("": there is no value on this line)."""
_BLANK: _Line = ((), -1, "", None, None)


def read_lines(text: str, budget: int) -> tuple[list[Plain], int]:
    """The document of a piece, and how many nodes it has. Raises NotPlain."""
    tree = PlainTree()
    blocks = _Blocks(tree)
    take = blocks.take
    known: dict[str, _Line] = {}
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
                found = known[line] = _line(line)
            if found is not _BLANK:
                take(found, row)
        first += len(lines)
        if len(known) >= _KNOWN:
            known.clear()
        start = stop + 1
        if tree.nodes > budget:
            raise NotPlain
    blocks.end()
    document = tree.end()
    if document is None or tree.nodes > budget:
        raise NotPlain
    return [document], tree.nodes


class _Blocks:
    """Which maps and lists a line opens and closes, by its columns."""

    def __init__(self, tree: PlainTree) -> None:
        self._tree = tree
        self._columns = [-1]  # of what is open, innermost last

    def take(self, line: _Line, row: int) -> None:
        """The next line. Raises NotPlain."""
        dashes, at, name, value, flow = line
        tree, columns = self._tree, self._columns
        begun = not tree.nodes  # the document, or an item of a list: anything may be its value
        for dash in dashes:
            if columns[-1] > dash:
                self._close_to(dash)
            if columns[-1] != dash or tree.fields is not None:
                if not begun and tree.key is None:
                    raise NotPlain
                tree.open_list(row, dash)
                columns.append(dash)
            begun = True
        if name:
            self._key(name, row, at, begun)
        if flow is None:
            tree.add(value, row, at)
        elif flow:
            if name == "items" and tree.depth == 1:
                raise NotPlain  # the places of what is inside would be asked for
            _flow(flow, tree, row, at)

    def _key(self, name: str, row: int, at: int, begun: bool) -> None:
        tree, columns = self._tree, self._columns
        if columns[-1] > at:
            self._close_to(at)
        if columns[-1] == at and tree.fields is None:  # a list in the column of the key that it is of
            tree.close()
            columns.pop()
        if columns[-1] != at:
            if not begun and tree.key is None:
                raise NotPlain
            tree.open_map(row, at)
            columns.append(at)
        elif tree.key is not None:
            tree.add(None, row, at)
        tree.name(name, unquoted=True)

    def _close_to(self, column: int) -> None:
        tree, columns = self._tree, self._columns
        while columns[-1] > column:
            if tree.key is not None:
                tree.add(None, 0, 0)
            tree.close()
            columns.pop()

    def end(self) -> None:
        """The end of the text. Raises NotPlain."""
        self._close_to(-1)


def _line(line: str) -> _Line:
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
    if not name and not (columns and has_value):
        raise NotPlain
    value: Scalar = quoted[1:-1] if quoted else None
    if plain:
        value = scalar_of(plain)
    return tuple(columns), at, name, value, flow if flow or not has_value else None


_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _NEXT = range(5)


def _flow(text: str, tree: PlainTree, row: int, column: int) -> None:
    """What stands in brackets, in the place of a value. Raises NotPlain."""
    around = tree.depth
    due = _VALUE
    at = 0
    while due != _NEXT or tree.depth > around:
        token = _TOKEN.match(text, at)
        if token is None:
            raise NotPlain
        at = token.end()
        sign, name, quoted, plain = token.groups("")
        if name:
            if due not in (_KEY, _KEY_OR_END):
                raise NotPlain
            tree.name(name, unquoted=True)
            due = _VALUE
        elif sign == ",":
            if due != _NEXT:
                raise NotPlain
            due = _VALUE if tree.fields is None else _KEY
        elif sign in ("]", "}"):
            if due not in (_NEXT, _VALUE_OR_END, _KEY_OR_END) or (sign == "]") is not (tree.fields is None):
                raise NotPlain
            tree.close()
            due = _NEXT
        elif due not in (_VALUE, _VALUE_OR_END):
            raise NotPlain
        elif sign == "{":
            tree.open_map(row, column)
            due = _KEY_OR_END
        elif sign == "[":
            tree.open_list(row, column)
            due = _VALUE_OR_END
        else:
            tree.add(quoted[1:-1] if quoted else scalar_of(plain), row, column)
            due = _NEXT
    if at != len(text):
        raise NotPlain
