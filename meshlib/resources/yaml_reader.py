"""YAML and JSON text -> plain values with positions, safe against hostile input.

Scalars follow YAML 1.2's core schema less its surprises: only true/false, null, decimal integers and floats are anything
but text, so ``yes``, ``on``, ``1:30``, ``010`` and dates stay what was written. Duplicate keys, deep nesting, alias bombs
and tags are errors with a position. Built on libyaml's events (the pure parser when it is missing), which never recurse.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from meshlib.errors import Problem, Severity

try:
    from yaml._yaml import CParser as _Parser
except ImportError:  # PyYAML built without libyaml: slower, same events
    _Parser = yaml.Loader

MAX_DEPTH = 100
MAX_NODES = 2_000_000
MAX_ALIASED_NODES = 10_000
"""How many nodes aliases may add to a document, all together."""
MAX_BYTES = 32 * 1024 * 1024

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_CONSTANTS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    "null": None,
    "Null": None,
    "NULL": None,
    "~": None,
    "": None,
    ".inf": math.inf,
    "-.inf": -math.inf,
    ".nan": math.nan,
}
_STR_TAG = "tag:yaml.org,2002:str"


class Positions:
    """Where each node of a document is: a tree beside the values. ``raw`` is the text of a scalar that became a number."""

    __slots__ = ("children", "column", "keys", "line", "raw", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.children: Any = None  # dict by key, or list
        self.keys: dict[str, tuple[int, int]] | None = None
        self.raw = ""
        self.size = 1

    def find(self, path: tuple[str | int, ...]) -> tuple[Positions, int]:
        """The deepest node on ``path`` and how many steps of it were found."""
        node, steps = self, 0
        for step in path:
            children = node.children
            if isinstance(children, dict) and step in children:
                node = children[step]
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                node = children[step]
            else:
                break
            steps += 1
        return node, steps

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column (from 1) of the field at ``path``: of its key, or of the nearest parent that is there."""
        node, steps = self.find(path)
        if steps and isinstance(path[steps - 1], str):
            parent, _ = self.find(path[: steps - 1])
            if parent.keys and path[steps - 1] in parent.keys:
                return parent.keys[str(path[steps - 1])]
        return node.line, node.column


@dataclass(slots=True)
class Document:
    """One document of a file."""

    value: Any
    positions: Positions


class _Refused(Exception):
    def __init__(self, code: str, mark: Any, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.line = mark.line + 1
        self.column = mark.column + 1
        self.message = message
        self.hint = hint


def read(data: bytes | str, file: str) -> tuple[list[Document], list[Problem]]:
    """Every document that can be read and a problem for each that cannot. After a document with an error, reading goes on
    at the next line that is ``---``."""
    text, problem = _decode(data, file)
    if problem is not None:
        return [], [problem]
    documents: list[Document] = []
    problems: list[Problem] = []
    offset = 0
    while True:
        failed_at = _read_documents(text, offset, file, documents, problems)
        if failed_at is None:
            return documents, problems
        following = _next_separator(text, failed_at)
        if following is None:
            return documents, problems
        # blank out what was read, so that positions in the rest stay right
        text = "\n" * text.count("\n", 0, following) + text[following:]
        offset = following


def _decode(data: bytes | str, file: str) -> tuple[str, Problem | None]:
    if len(data) > MAX_BYTES:
        return "", _problem(
            "too-large", file, 0, 0, f"the file has {len(data)} bytes, more than {MAX_BYTES}", "split it into several files"
        )
    if isinstance(data, str):
        return data, None
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16"), None
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        return "", _problem(
            "bad-encoding", file, line, column, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        )


def _read_documents(
    text: str, offset: int, file: str, documents: list[Document], problems: list[Problem]
) -> int | None:
    """Line number (from 0) from which to look for the next document when reading broke, None at the end of the text."""
    parser = None
    builder = _Builder()
    try:
        parser = _Parser(text)
        while True:
            event = parser.get_event()
            if event is None:
                return None
            built = builder.take(event)
            if built is not None and built.value is not None:
                documents.append(built)
    except _Refused as error:
        problems.append(_problem(error.code, file, error.line, error.column, error.message, error.hint))
        return max(error.line - 1, builder.line + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = " ".join(filter(None, (error.problem, f"({error.context})" if error.context else "")))
        problems.append(_problem("bad-yaml", file, line, column, f"not YAML: {what}", _yaml_hint(text, line)))
        return max(line - 1, builder.line + 1)
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        problems.append(_problem("bad-character", file, line, column, f"not YAML: {error.reason}", "remove the character"))
        return None
    finally:
        dispose = getattr(parser, "dispose", None)
        if dispose is not None:
            dispose()


def _next_separator(text: str, line: int) -> int | None:
    """Offset of the first ``---`` line from ``line`` on."""
    offset = 0
    for number, content in enumerate(text.splitlines(keepends=True)):
        if number >= line and (content.rstrip() == "---" or content.startswith("--- ")):
            return offset
        offset += len(content)
    return None


def _yaml_hint(text: str, line: int) -> str:
    lines = text.splitlines()
    if 0 < line <= len(lines) and "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]:
        return "indent with spaces: YAML does not allow tabs"
    return "check the indentation and quotes of this line and the one before"


def _problem(code: str, file: str, line: int, column: int, message: str, hint: str = "") -> Problem:
    return Problem(code, Severity.ERROR, file, line, column, "", message, hint)


class _Open:
    """A collection under construction."""

    __slots__ = ("anchor", "key", "positions", "value")

    def __init__(self, value: Any, positions: Positions, anchor: str | None) -> None:
        self.value = value
        self.positions = positions
        self.anchor = anchor
        self.key: Any = _NO_KEY


_NO_KEY = object()


class _Builder:
    """Events -> documents, without recursion."""

    def __init__(self) -> None:
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, Positions]] = {}
        self._nodes = 0
        self._aliased = 0
        self._root: Document | None = None
        self.line = 0

    def take(self, event: Any) -> Document | None:
        """A document when ``event`` ends one."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._open(event, {} if kind is yaml.MappingStartEvent else [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            done = self._stack.pop()
            done.positions.size += 1
            if done.anchor:
                self._anchors[done.anchor] = (done.value, done.positions)
            self._add(done.value, done.positions, event)
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentEndEvent:
            root, self._root = self._root, None
            self._anchors.clear()
            self._aliased = 0
            return root
        elif kind is yaml.DocumentStartEvent:
            self.line = event.start_mark.line
        return None

    def _count(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Refused("too-large", event.start_mark, f"the file has more than {MAX_NODES} values")

    def _scalar(self, event: Any) -> None:
        self._count(event)
        mark = event.start_mark
        positions = Positions(mark.line + 1, mark.column + 1)
        stack = self._stack
        is_key = bool(stack) and type(stack[-1].value) is dict and stack[-1].key is _NO_KEY
        text = event.value
        if event.tag is not None and event.tag not in (_STR_TAG, "!"):
            raise _Refused("yaml-tag", mark, f"the tag {event.tag} is not allowed", "remove it")
        if is_key:
            self._key(text, mark)
            return
        value: Any = text
        if event.implicit[0] and event.tag is None:
            value = scalar(text)
            if value is not text and not isinstance(value, bool) and value is not None:
                positions.raw = text
        if event.anchor:
            self._anchors[event.anchor] = (value, positions)
        self._add(value, positions, event)

    def _key(self, text: str, mark: Any) -> None:
        top = self._stack[-1]
        if text == "<<":
            raise _Refused("merge-key", mark, 'the merge key "<<" is not supported', "repeat the fields")
        keys = top.positions.keys
        if keys is None:
            keys = top.positions.keys = {}
        if text in keys:
            line, column = keys[text]
            raise _Refused(
                "duplicate-key",
                mark,
                f"the key {text!r} stands twice in this object (first at {line}:{column}); "
                "YAML readers silently keep one of them",
                "remove one",
            )
        keys[text] = (mark.line + 1, mark.column + 1)
        top.key = text

    def _open(self, event: Any, value: Any) -> None:
        self._count(event)
        mark = event.start_mark
        if event.tag is not None and not str(event.tag).startswith("tag:yaml.org,2002:"):
            raise _Refused("yaml-tag", mark, f"the tag {event.tag} is not allowed", "remove it")
        if event.tag is not None and event.tag.partition("2002:")[2] not in ("map", "seq"):
            raise _Refused("yaml-tag", mark, f"the tag {event.tag} is not allowed", "remove it")
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused("too-deep", mark, f"nested deeper than {MAX_DEPTH} levels", "no resource needs that")
        stack = self._stack
        if stack and type(stack[-1].value) is dict and stack[-1].key is _NO_KEY:
            raise _Refused("bad-key", mark, "an object's key must be a text", "write key: value")
        positions = Positions(mark.line + 1, mark.column + 1)
        positions.children = {} if type(value) is dict else []
        stack.append(_Open(value, positions, event.anchor))

    def _alias(self, event: Any) -> None:
        self._count(event)
        stack = self._stack
        if stack and type(stack[-1].value) is dict and stack[-1].key is _NO_KEY:
            raise _Refused("bad-key", event.start_mark, "an alias cannot be a key", "write the key out")
        found = self._anchors.get(event.anchor)
        if found is None:
            raise _Refused("unknown-anchor", event.start_mark, f"the alias *{event.anchor} has no anchor before it")
        value, positions = found
        self._aliased += positions.size
        if self._aliased > MAX_ALIASED_NODES:
            raise _Refused(
                "alias-bomb",
                event.start_mark,
                f"aliases expand this document by more than {MAX_ALIASED_NODES} values",
                "write the values out",
            )
        self._add(value, positions, event)

    def _add(self, value: Any, positions: Positions, event: Any) -> None:
        stack = self._stack
        if not stack:
            self._root = Document(value, positions)
            return
        top = stack[-1]
        top.positions.size += positions.size
        if type(top.value) is dict:
            top.value[top.key] = value
            top.positions.children[top.key] = positions
            top.key = _NO_KEY
        else:
            top.value.append(value)
            top.positions.children.append(positions)


def scalar(text: str) -> Any:
    """The value of a plain scalar; the very same ``text`` when it is a text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    first = text[0]
    if first in "-+.0123456789":
        if _INT.fullmatch(text):
            return int(text) if len(text) <= 20 else text
        if _FLOAT.fullmatch(text):
            return float(text)
    return text

