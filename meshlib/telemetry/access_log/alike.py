"""Lines of most calls, by one function a format (rows access-log and access-log-whole of the benchmarks).

Calls are of one kind that took the same rule to the same endpoint and were answered with the same status by the first attempt
(``made.py``), or whose request was met before (``served.py``): most operators say the same of all of them, and that is put
together once. What is left is read by one function, which is put together of the operators' expressions when a format is
read. It makes the line, as handing the values on would cost more than that. Where a value has to be escaped, or an operator
asks an entry, it leaves them to the thread that writes: what a stranger has sent may be long.
All others, and all calls with ``MESHLIB_PLAIN=1``, go the long way through an entry. What a line says is the same
(``tests/telemetry/access_log/test_alike.py`` holds the two ways against each other).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from meshlib.compiler.access_log.format import Constant, Operator, Parts, Shape
from meshlib.policy.secret_queries import without_secrets
from meshlib.policy.secret_values import is_secret
from meshlib.telemetry.access_log.escaping import as_json
from meshlib.telemetry.access_log.layouts import Layouts, Places, placed, taken_apart
from meshlib.telemetry.access_log.line_code import (
    NUMBERS,
    SAME,
    TEXTS,
    Encode,
    Form,
    Kind,
    Known,
    Left,
    Reading,
    Same,
    Side,
    Watched,
    Write,
)
from meshlib.telemetry.access_log.operators import HIDDEN, NOBODY, Node, Reader, Value, reader
from meshlib.telemetry.access_log.start_time import ISO, ISO_LOCAL, formatter
from meshlib.telemetry.access_log.text import MISSING, joined, safe

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry, Traced
    from meshlib.telemetry.access_log.writer import Writer

PLAIN = os.environ.get("MESHLIB_PLAIN") == "1"
MOST = 1000
"""Kinds of calls that are remembered; then all are forgotten."""


def none_closer(_call: object, _ended: float, _traced: Traced | None) -> bool:
    """There is no closer way."""
    return False


class AlikeLines(Generic[Watched]):
    """The short way of one format. ``write`` takes a call, when it ended and its span; False: it goes the long way. ``closer``
    is that of a side which knows more of some calls; ``writer``: whose ``put`` it is, where it is that of one. ``places``:
    where the headers of its calls stand, of which there are so many (``count``)."""

    def __init__(
        self,
        side: Side[Watched],
        pieces: list[str | Reader | Operator],
        form: Form,
        put: Callable[[Any, int], None],
        today: Callable[[], float],
        node: Node = NOBODY,
        closer: Write = none_closer,
        writer: Writer[Any] | None = None,
        places: Places | None = None,
        count: int = 0,
    ) -> None:
        self._side = side
        self._there: list[AlikeLines[Watched]] = []
        """Of names of headers that are met often."""
        self._layouts: Layouts | None = None
        self._known: dict[Hashable, Known] = {}
        self._once: set[Hashable] = set()
        # literals, what is the same, and None for each value of a call
        self._template: list[str | Callable[[Entry], str] | None] = []
        left = Left(form, side.raw, taken_apart(places, count) if places else "")
        for piece in pieces:
            if isinstance(piece, str):
                self._template.append(piece)
                continue
            made = piece if isinstance(piece, Reader) else reader(piece, today, node)
            reading = None if isinstance(piece, Reader) else _reading(piece, side)
            if reading is SAME:
                self._template.append(_encoded(made.read, form.encode))
                continue
            if reading is not None and places is not None and (reading := placed(reading, places)) is None:
                self._template.append(form.encode(None))
                continue
            self._template.append(None)
            if reading is None:
                left.add(Reading("", None, Kind.ANY, ask=made.read))
            elif isinstance(piece, Operator) and piece.limit is not None and reading.kind in TEXTS:
                kind = (
                    Kind.SHORT
                    if reading.kind is Kind.TOOK
                    else Kind.TEXT
                    if reading.kind is Kind.PLAIN
                    else reading.kind
                )
                code = f"({reading.code}) or None" if reading.kind is Kind.PLAIN else reading.code
                left.add(reading._replace(code=code, text=_cut(reading.text, piece.limit), kind=kind, brief=""))
            else:
                left.add(reading)
        names = {
            "known": self._known, "learn": self._learn, "put": put, "today": today, "entry_of": side.entry,
            "closer": closer, "writer": writer, "append": None if writer is None else writer.append,
        }  # fmt: skip
        if side.placed is not None:
            there = side.placed

            def make(where: Places, count: int) -> Callable[..., Any]:
                made = AlikeLines(there, pieces, form, put, today, node, closer, writer, where, count)
                self._there.append(made)
                return made.write

            self._layouts = layouts = Layouts(left.headers, make)
            names |= {"there_for": layouts.find, "meet": layouts.meet}
        left.fix(self._of_all_kinds())
        self._left = left
        self.write: Write = left.write(side, names)

    def _of_all_kinds(self) -> list[str | None]:
        """What ``Same.around`` is in lines of every kind; None: no such thing."""
        around: list[str | None] = [""]
        for part in self._template:
            if part is None:
                around.append("")
            elif around[-1] is not None:
                around[-1] = around[-1] + part if isinstance(part, str) else None
        return around

    def forget(self) -> None:
        """All kinds: rules and endpoints are others from here on."""
        self._known.clear()
        self._once.clear()
        for each in self._there:
            each.forget()
        self._there.clear()
        if self._layouts is not None:
            self._layouts.forget()

    def _learn(self, key: Hashable, call: Watched, ended: float, absent: tuple[bool, ...] = ()) -> Known | None:
        """What is the same in the lines of calls like ``call``; ``absent``: which of the values that need not be there are not.
        None: perhaps nothing is."""
        fits = self._side.fits
        if fits is not None and not self._comes_again(key, call, fits):
            return None
        entry = self._side.entry(call, ended, 0.0, None, False)
        same = [""]  # what stands before the first value, between two, and after the last one
        for part in self._template:
            if part is None:
                same.append("")
            else:
                same[-1] += part if isinstance(part, str) else part(entry)
        if len(self._known) >= MOST:
            self._known.clear()
        pieces = self._left.pieces(same, absent)
        found = self._known[key] = Same(tuple(same), sum(map(len, same)) + NUMBERS), *pieces
        return found

    def _comes_again(self, key: Hashable, call: Watched, fits: Callable[[Watched], bool]) -> bool:
        if key in self._once:
            return fits(call)
        if len(self._once) >= MOST:
            self._once.clear()
        self._once.add(key)
        return False


def text_alike(
    parts: Parts,
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
    node: Node = NOBODY,
    closer: Write = none_closer,
    writer: Writer[Any] | None = None,
) -> AlikeLines[Watched] | None:
    """The short way for a format of text; None: there is none."""
    if PLAIN:
        return None
    missing = "" if omit_empty else MISSING
    form = Form(lambda value: missing if value is None else safe(value), False, missing)
    return AlikeLines(side, list(parts), form, put, today, node, closer, writer)


def json_alike(
    form: Mapping[str, Shape],
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
    node: Node = NOBODY,
    closer: Write = none_closer,
    writer: Writer[Any] | None = None,
) -> AlikeLines[Watched] | None:
    """The short way for a format of JSON; None: there is none."""
    if PLAIN or omit_empty:
        return None
    pieces: list[str | Reader | Operator] = []
    _flat(form, partial(reader, now=today, node=node), pieces)
    pieces.append("\n")
    return AlikeLines(side, pieces, Form(_json, True), put, today, node, closer, writer)


def _flat(shape: Shape, of: Callable[[Operator], Reader], pieces: list[str | Reader | Operator]) -> None:
    """Objects and lists whose keys are all there, in a row."""
    if isinstance(shape, Mapping):
        for n, (key, value) in enumerate(shape.items()):
            pieces.append(f"{'{' if n == 0 else ','}{json.dumps(key)}:")
            _flat(value, of, pieces)
        pieces.append("}" if shape else "{}")
    elif isinstance(shape, list):
        for n, value in enumerate(shape):
            pieces.append("[" if n == 0 else ",")
            _flat(value, of, pieces)
        pieces.append("]" if shape else "[]")
    elif isinstance(shape, Constant):
        pieces.append(json.dumps(shape.value))
    elif len(shape) == 1 and isinstance(shape[0], Operator):
        pieces.append(shape[0])
    else:
        text = joined(tuple(part if isinstance(part, str) else of(part) for part in shape), MISSING)
        pieces.append(Reader(lambda entry: _Characters(text(entry))))


class _Characters(str):
    """A text that is not a wire's bytes read as latin-1: it is what it says."""

    __slots__ = ()


def _json(value: Value) -> str:
    if type(value) is str:
        return as_json(value)
    return "null" if value is None else str(value) if type(value) is int else json.dumps(value)


def _encoded(read: Callable[[Entry], Value], encode: Encode) -> Callable[[Entry], str]:
    return lambda entry: encode(read(entry))


def _reading(operator: Operator, side: Side[Watched]) -> Reading | None:
    """How an operator is read of a call of ``side``; None: of its entry."""
    name, argument = operator.name, operator.argument
    if name in ("START_TIME", "START_TIME_LOCAL"):
        local = name != "START_TIME"
        shown = formatter(argument or (ISO_LOCAL if local else ISO), local=local)
        return Reading("today() - ended + started", shown, Kind.TIME)
    if name == "DURATION":
        return Reading("(ended - started) * 1e3", int, Kind.NUMBER)
    return side.reading(operator)


def _cut(text: Callable[[Any], Any] | None, limit: int | None) -> Callable[[Any], Any] | None:
    """``text``, of which so many characters are shown."""
    if limit is None:
        return text

    def cut(value: Any) -> Value:
        found: Value = value if text is None else text(value)
        return found[:limit] if isinstance(found, str) else found

    return cut


def request_reading(operator: Operator, target: str, authority: str) -> Reading | None:
    """How an operator is read of a request: ``target`` is the expression for its target, ``authority`` that for its host, in
    which ``{0}`` is the header; both are bytes. None: of an entry."""
    name, argument = operator.name, (operator.argument or "").lower()
    if name == "STREAM_ID":
        return _plain("x-request-id")
    if name == "PATH" and argument in ("", "wq"):
        return _original(target)
    if name not in ("REQ", "REQUEST_HEADER"):
        return None
    first, _, other = argument.partition("?")
    if not other:
        return _header(first, target, authority)
    if first == "x-envoy-original-path" and other == ":path":
        return _original(target)
    readings = _header(first, target, authority), _header(other, target, authority)
    if all(reading is not None and reading.code == "{0}" and reading.text is None for reading in readings):
        return Reading("{0} if {has0} else {1}", headers=(first, other), absent="not ({has0} or {has1})")
    return None


def _plain(name: str, text: Callable[[Any], Any] | None = None) -> Reading:
    return Reading("{0}", text, headers=(name,), absent="" if text else "not {has0}")


def _original(target: str) -> Reading:
    return Reading(
        f"{{0}} if {{has0}} else {target}",
        _url_of_header,
        headers=("x-envoy-original-path",),
        brief=_URL,
        there=True,
        absent=f"not ({{has0}} or {target})",
    )


def _header(name: str, target: str, authority: str) -> Reading | None:
    if name in (":authority", "host"):
        headers = ("host",) if "{0}" in authority else ()
        return Reading(authority, lambda host: host or None, headers=headers, brief="{0}", there=True)
    if name == ":method":
        return SAME
    if name == ":path":
        return Reading(target, _url, brief=_URL, there=True)
    if name.startswith(":") or name in ("x-envoy-original-path", "referer"):
        return None
    return _plain(name, _hidden if is_secret(name) else None)


def _url(target: str) -> str | None:
    return without_secrets(target) if "?" in target else target or None


def _url_of_header(target: str | None) -> str | None:
    """Which may be there and empty."""
    return without_secrets(target) if target else target


_URL = "without_secrets({0}) if 63 in {0} else {0}"
"""63 is ``?``: to look for a number, and not for bytes of one, CPython 3.11 takes a quarter of the time."""


def _hidden(value: str) -> str | None:
    return HIDDEN if value else None
