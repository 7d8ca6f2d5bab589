"""YAML and JSON text -> plain values with positions, safe against hostile input.

Rules of this file:
1. Whatever the text is, what comes out is documents and problems: bounded time, bounded memory, no exception.
2. A problem in one document does not hide the others: the text is cut at its ``---`` lines and each piece read alone.
3. The parser only cuts the text into events. What a scalar means, which keys are one too many and how far an alias may
   reach is decided here, without recursion.

Scalars follow YAML 1.2's core schema less its surprises: only true/false, null, decimal integers and floats are anything
but text, so ``yes``, ``on``, ``1:30``, ``010`` and dates stay what was written. Duplicate keys, deep nesting, alias bombs
and tags are errors with a position. Built on libyaml's events (the pure parser when it is missing), which never recurse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from meshlib.pace import take_turns
from meshlib.problems import Problem, Severity
from meshlib.resources import json_events
from meshlib.resources.document import Document, LazyPositions, Positions, Source
from meshlib.resources.plain_events import read_plain
from meshlib.resources.plain_tree import NotPlain, Plain
from meshlib.resources.yaml_builder import Builder, RefusedError, too_deep
from meshlib.resources.yaml_lines import read_lines
from meshlib.resources.yaml_syntax_hints import explain_syntax_error

# without libyaml PyYAML's own parser: seven times slower, same events
_Parser: Any = yaml.cyaml.CParser if yaml.__with_libyaml__ else yaml.Loader  # type: ignore[attr-defined]

__all__ = ["MAX_BYTES", "Document", "Positions", "read"]

MAX_BYTES = 32 * 1024 * 1024
"""Of a file."""

_AFTER_DASHES = (" ", "\t", "\n", "")
_STRETCH = 16_384
"""Characters that are looked through at a time."""
_DIRECTIVES = re.compile(r"(?:[ \t]*\n|#.*\n|%YAML[ \t]+1\.[0-9][ \t]*(?:#.*)?\n)*")
# Not characters of YAML; or line breaks to YAML 1.1 that editors do not show as such, so that lines count differently.
_REFUSED_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class _FileRefused(Exception):
    """The rest of the file is not read."""


def read(data: bytes | str, file: str, torn: list[str] | None = None) -> tuple[list[Document], list[Problem]]:
    """Every document of a file (empty ones left out) and every problem of its text, which calls it ``file``. The texts of
    documents that cannot be read to their end are added to ``torn``.

    A document with a problem that can be read on from (a key that is there twice) is returned ``broken``; one with a
    syntax error is not returned.
    """
    problems: list[Problem] = []
    text = _decode(data, file, problems)
    documents: list[Document] = []
    builder = Builder(file, problems)
    refused = False
    for line, piece in _pieces(text):
        try:
            whole = _read_piece(piece, line, builder, documents)
        except _FileRefused:
            whole = False
            refused = True
        if not whole and torn is not None:
            torn.append(piece)
        if refused:
            break
    if torn is not None and data and not text:
        torn.append(data if isinstance(data, str) else data.decode("utf-8", "replace"))
    return documents, problems


def _decode(data: bytes | str, file: str, problems: list[Problem]) -> str:
    """The text with its line ends as ``\\n``, "" when it cannot be read."""
    text = ""
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES:,} bytes"
        problems.append(_problem("too-large", file, 0, 0, message, "split it into several files"))
    elif isinstance(data, str):
        text = data.removeprefix("\ufeff")
    elif data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[1:4:2] == b"\0\0" or data[0:3:2] == b"\0\0":
        problems.append(_problem("bad-encoding", file, 1, 1, "the file is not UTF-8 but UTF-16", "save it as UTF-8"))
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # error.object, not data: utf-8-sig decodes what is left without the byte order mark
            before = error.object[: error.start].decode()
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            message = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
            problems.append(_problem("bad-encoding", file, line, column, message, "save the file as UTF-8"))
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The documents' texts and the lines (from 0) they begin at. A ``---`` at the start of a line is never inside a
    value, so what follows it can be read whatever came before."""
    start, line = 0, 0
    while True:
        take_turns()
        end = _next_start(text, start + 1)
        yield line, text[start:end]
        if end == len(text):
            return
        line += text.count("\n", start, end)
        start = end


def _next_start(text: str, at: int) -> int:
    """Where the next document begins, or the text ends."""
    while (found := text.find("\n---", at - 1)) >= 0:
        if text[found + 4 : found + 5] in _AFTER_DASHES:
            return found + 1
        at = found + 2
    return len(text)


def _refused_character(piece: str) -> re.Match[str] | None:
    for start in range(0, len(piece), _STRETCH):
        take_turns()
        found = _REFUSED_CHARACTER.search(piece, start, start + _STRETCH)
        if found is not None:
            return found
    return None


_FLOW_COLON = re.compile(r"(?<=[^\s,\[\]{}\"'#]):(?=[,?\[\]{}])")
_FOR_COLON = "\ue0c1"


class _WithColons(str):
    """A text in which ``_FOR_COLON`` stands for colons that libyaml would refuse: ``[2001:db8::]``. In YAML 1.2, and to
    Kubernetes, a colon before a bracket or comma is part of the text."""


class _Colons:
    """The events of such a text, with its colons."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def get_event(self) -> Any:
        event = self._parser.get_event()
        if isinstance(event, yaml.ScalarEvent) and _FOR_COLON in event.value:
            event.value = event.value.replace(_FOR_COLON, ":")
        return event


def _events(body: str, as_json: bool) -> Any:
    if isinstance(body, _WithColons):
        return _Colons(_Parser(str(body)))  # libyaml takes no sub-class of str
    return json_events.JsonEvents(body) if as_json else _Parser(body)


def _read_piece(piece: str, line: int, builder: Builder, documents: list[Document]) -> bool:
    """Whether it could be read to its end."""
    json_problem: ValueError | None = None
    builder.begin(line)
    try:
        body = "   " + piece[3:] if piece.startswith("---") else piece
        if body.lstrip(" \t\n")[:1] in ("{", "["):  # "" is in every text, hence the tuple
            json_problem = json_events.json_problem(body)
            if json_problem is None:
                if not _read_plain(body, True, line, builder, documents):
                    builder.run(json_events.JsonEvents(body), documents)
                return True
        refused = _refused_character(piece)
        if refused:
            builder.complain(
                "bad-character",
                _mark_of(piece, refused.start()),
                f"the character U+{ord(refused[0]):04X} is not allowed in YAML",
                _hint_for(refused[0]),
            )
            return False
        if _DIRECTIVES.fullmatch(piece):
            return True  # the document they are for follows "---"
        if not _read_plain(piece, False, line, builder, documents):
            builder.run(_events(piece, False), documents)
        return True
    except RefusedError as error:
        builder.complain(error.code, error.mark, str(error), error.hint)
        if error.whole_file:
            raise _FileRefused from error
    except yaml.MarkedYAMLError as error:
        if builder.file.endswith(".json") and isinstance(json_problem, json.JSONDecodeError):
            mark: Any = json_events.Mark(json_problem.lineno - 1, json_problem.colno - 1)
            builder.complain("bad-json", mark, f"not JSON: {json_problem.msg}", "")
            return False
        if "unexpected ':'" in str(error.problem) and _FOR_COLON not in piece:
            with_colons = _WithColons(_FLOW_COLON.sub(_FOR_COLON, piece))
            if with_colons != piece:
                return _read_piece(with_colons, line, builder, documents)
        offset, message, hint = explain_syntax_error(error, piece)
        if "nesting depth" in message:  # newer libyamls have a limit of their own, and scan ahead of the events
            builder.complain("too-deep", _mark_of(piece, offset), *too_deep())
            return False
        builder.complain("bad-yaml", _mark_of(piece, offset), f"not valid YAML: {message}", hint)
    return False


def _read_plain(body: str, as_json: bool, line: int, builder: Builder, documents: list[Document]) -> bool:
    """Reads a piece that has nothing unusual in it; whether it was one."""
    try:
        found, nodes = _plain_documents(body, as_json, builder.room)
    except (NotPlain, RefusedError, yaml.MarkedYAMLError):
        return False  # read once more, by who says what is wrong
    builder.count(nodes)
    file = builder.file
    for index, (value, place, items) in enumerate(found):

        def again(index: int = index) -> tuple[Any, Any]:
            known: list[Document] = []
            reader = Builder(file, [])
            reader.begin(line)
            reader.run(_events(body, as_json), known)
            return known[index].value, known[index].positions

        source = Source(again, len(body))
        top = (line + place[0] + 1, place[1] + 1)
        places = None if items is None else [(line + row + 1, column + 1) for row, column in items]
        documents.append(Document(value, LazyPositions(source, top), source=source, items=places))
    return True


def _plain_documents(body: str, as_json: bool, room: int) -> tuple[list[Plain], int]:
    if as_json or isinstance(body, _WithColons):
        return read_plain(_events(body, as_json), room)
    try:
        return read_lines(body, room)
    except NotPlain:
        return read_plain(_events(body, as_json), room)


def _hint_for(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return "delete it: half of a surrogate pair is not a character"
    return f'in a text in double quotes write it as "\\u{ord(character):04X}"; elsewhere delete it'


def _mark_of(text: str, offset: int) -> Any:
    return json_events.Mark(text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1))


def _problem(code: str, file: str, line: int, column: int, message: str, hint: str = "") -> Problem:
    return Problem(code, Severity.ERROR, file, line, column, "", message, hint)
