"""Parser events to documents: what YAML leaves to its users, decided strictly and without recursion.

Keys are texts, each once; tags are refused (``!!str`` apart); an alias is the thing itself, counted as often as it is
used; depth and number of nodes are bounded.
"""

from __future__ import annotations

from typing import Any

import yaml

from meshlib.pace import take_turns
from meshlib.problems import Problem, Severity
from meshlib.resources.document import Document, Positions
from meshlib.resources.plain_tree import MAX_DEPTH
from meshlib.resources.yaml_scalars import BadNumberError, is_null, plain_scalar

MAX_NODES = 1_000_000
"""Keys, values and containers of a file."""
MAX_ALIASED_NODES = 100_000
"""How many nodes aliases may add to a file, all together."""

_STR_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = (None, "!")
_NO_KEY = object()
_DROP = object()  # the key of a value that is read and thrown away


def too_deep() -> tuple[str, str]:
    """Message and hint for a text that is nested too deep."""
    return f"nested deeper than {MAX_DEPTH} levels", "no resource needs that"


class RefusedError(Exception):
    """The rest of the document cannot be read, or of the file when ``whole_file``."""

    def __init__(self, code: str, mark: Any, message: str, hint: str = "", *, whole_file: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.mark = mark
        self.hint = hint
        self.whole_file = whole_file


class _Open:
    """A collection under construction."""

    __slots__ = ("anchor", "height", "key", "positions", "value")

    def __init__(self, value: Any, positions: Positions, anchor: str | None) -> None:
        self.value = value
        self.positions = positions
        self.anchor = anchor
        self.key: Any = _NO_KEY
        self.height = 1


class Builder:
    """Builds the documents of one file, piece by piece; the budgets are the file's."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self._problems = problems
        self._line = 0  # of the piece's first line, from 0
        self._nodes = 0
        self._aliased = 0
        self._broken = False
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, Positions, int] | None] = {}
        self._root: tuple[Any, Positions] | None = None

    def begin(self, line: int) -> None:
        """A new piece, whose first line is ``line`` (from 0) of the file."""
        self._line = line
        self._reset()

    def run(self, events: Any, documents: list[Document]) -> None:
        """Adds the documents of a piece. Raises RefusedError, and what the parser raises."""
        next_event = events.get_event
        turn = 0
        while (event := next_event()) is not None:
            turn += 1
            if not turn & 31:
                take_turns()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentEndEvent:
                if self._root is not None and self._root[0] is not None:
                    documents.append(Document(*self._root, broken=self._broken))
                self._reset()

    @property
    def room(self) -> int:
        """How many nodes the file may still have."""
        return MAX_NODES - self._nodes

    def count(self, nodes: int) -> None:
        """Nodes that were read without this builder."""
        self._nodes += nodes

    def complain(self, code: str, mark: Any, message: str, hint: str = "") -> None:
        """Reports an error in the current document, which is broken by it."""
        self._broken = True
        line, column = self._line + mark.line + 1, mark.column + 1
        self._problems.append(Problem(code, Severity.ERROR, self.file, line, column, "", message, hint))

    def _reset(self) -> None:
        self._stack.clear()
        self._anchors.clear()
        self._root = None
        self._broken = False

    def _positions(self, mark: Any) -> Positions:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise RefusedError(
                "too-large",
                mark,
                f"more than {MAX_NODES:,} values in one file; the rest of it is not read",
                "split it into several files",
                whole_file=True,
            )
        return Positions(self._line + mark.line + 1, mark.column + 1)

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        positions = self._positions(mark)
        text = event.value
        plain = event.implicit[0] and event.tag is None  # the tag ! makes a text of anything
        if event.tag not in _PLAIN_TAGS and event.tag != _STR_TAG:
            self._refuse_tag(event)
        if self._wants_key():
            if event.anchor is not None:
                self._anchors[event.anchor] = (text, positions, 0)
            self._key(text, plain, mark)
            return
        value: Any = text
        if plain:
            try:
                value = plain_scalar(text)
            except BadNumberError as error:
                self.complain("bad-number", mark, str(error), "quote it if it is a text")
            if value is not text and value is not None and not isinstance(value, bool):
                positions.raw = text
        elif event.style == "|":
            positions.raw = "|"
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, positions, 0)
        self._add(value, positions, 0)

    def _wants_key(self) -> bool:
        stack = self._stack
        return bool(stack) and stack[-1].key is _NO_KEY and type(stack[-1].value) is dict

    def _key(self, text: str, plain: bool, mark: Any) -> None:
        top = self._stack[-1]
        if plain and text == "<<":
            self.complain("merge-key", mark, 'the merge key "<<" is not supported', "repeat the fields")
            top.key = _DROP
            return
        if plain and is_null(text):
            self.complain("bad-key", mark, "a key is empty or null", "quote it if it is a text")
            top.key = _DROP
            return
        keys = top.positions.keys
        if keys is None:
            keys = top.positions.keys = {}
        if text in keys:
            line, column = keys[text]
            self.complain(
                "duplicate-key",
                mark,
                f"the key {text[:80]!r} stands twice in this object (first at {line}:{column}); "
                "YAML readers silently keep one of them",
                "remove one",
            )
            top.key = _DROP
            return
        keys[text] = (self._line + mark.line + 1, mark.column + 1)
        top.key = text

    def _open(self, event: Any, value: Any) -> None:
        mark = event.start_mark
        positions = self._positions(mark)
        if event.tag not in _PLAIN_TAGS:
            self._refuse_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise RefusedError("too-deep", mark, *too_deep())
        if self._wants_key():
            what = "an object" if type(value) is dict else "a list"
            raise RefusedError(
                "bad-key",
                mark,
                f"a key must be a text, found {what}",
                "quote the text; a template such as {{ .Values.x }} must be rendered first",
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        positions.children = {} if type(value) is dict else []
        self._stack.append(_Open(value, positions, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, done.positions, done.height)
        self._add(done.value, done.positions, done.height)

    def _alias(self, event: Any) -> None:
        mark = event.start_mark
        positions = self._positions(mark)
        name = event.anchor
        found = self._anchors.get(name)
        if found is None:
            if name in self._anchors:
                self.complain(
                    "recursive-alias", mark, f"the alias *{name} stands inside its own anchor", "write it out"
                )
            else:
                self.complain(
                    "unknown-anchor",
                    mark,
                    f"the alias *{name} has no anchor before it",
                    f'quote it if it is a text: "*{name}"',
                )
            if self._wants_key():
                self._stack[-1].key = _DROP
            else:
                self._add(None, positions, 0)
            return
        value, positions, height = found
        if self._wants_key():
            if not isinstance(value, str):
                raise RefusedError("bad-key", mark, f"a key must be a text, which *{name} is not", "write the key out")
            self._key(value, False, mark)
            return
        self._aliased += positions.size
        if self._aliased > MAX_ALIASED_NODES:
            raise RefusedError(
                "alias-bomb",
                mark,
                f"aliases expand this file by more than {MAX_ALIASED_NODES:,} values; the rest of it is not read",
                "write the values out",
                whole_file=True,
            )
        if len(self._stack) + height > MAX_DEPTH:
            raise RefusedError(
                "too-deep", mark, f"the alias *{name} nests deeper than {MAX_DEPTH} levels", "write the values out"
            )
        self._add(value, positions, height)

    def _refuse_tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.complain("yaml-tag", event.start_mark, f"the tag {tag} is not allowed", "remove it; quote a text")

    def _add(self, value: Any, positions: Positions, height: int) -> None:
        """Puts a complete value where it belongs."""
        stack = self._stack
        if not stack:
            self._root = (value, positions)
            return
        top = stack[-1]
        top.positions.size += positions.size
        if height >= top.height:
            top.height = height + 1
        if type(top.value) is not dict:
            top.value.append(value)
            top.positions.children.append(positions)
            return
        if top.key is not _DROP:
            top.value[top.key] = value
            top.positions.children[top.key] = positions
        top.key = _NO_KEY
