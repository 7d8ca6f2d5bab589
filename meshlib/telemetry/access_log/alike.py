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
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from meshlib.compiler.access_log.format import Constant, Operator, Parts, Shape
from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.policy.secret_queries import without_secrets
from meshlib.policy.secret_values import is_secret
from meshlib.telemetry.access_log.escaping import AS_IT_IS, as_json
from meshlib.telemetry.access_log.operators import HIDDEN, NOBODY, Node, Reader, Value, reader
from meshlib.telemetry.access_log.start_time import ISO, ISO_LOCAL, Milliseconds, formatter
from meshlib.telemetry.access_log.text import MISSING, joined, safe
from meshlib.telemetry.access_log.writer import PUT

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry, Traced
    from meshlib.telemetry.access_log.writer import Writer

PLAIN = os.environ.get("MESHLIB_PLAIN") == "1"
MOST = 1000
"""Kinds of calls that are remembered; then all are forgotten."""
NUMBERS = 120
"""Bytes that the numbers of a line take at most, nearly always: what waits is bounded by about its size."""

Watched = TypeVar("Watched")
Write = Callable[[Any, float, "Traced | None"], bool]
"""Takes a call, when it ended and its span. False: it has not written its line."""
Encode = Callable[[Value], str]


DIGITS = tuple(map(str, range(1000)))
"""Of small numbers, as making them takes five times as long."""


def milliseconds_of(number: str) -> str:
    """The expression for the digits of a number of milliseconds, without a fraction, of the expression for that: few of calls
    that are alike take more than one, or than a thousand."""
    return f"digits[0] if -1.0 < (ms := {number}) < 1.0 else digits[small] if -1 < (small := int(ms)) < 1000 else str(small)"


Same = tuple[tuple[str, ...], int, tuple[str, ...]]
"""What lines of one kind have in common: what stands before the first value, between two, and after the last one; about how
many bytes a line without long texts has; the former with the quotes of ``_Left.quoted``."""
Unmade = tuple[Any, ...]
"""A line that waits: what makes it of this very tuple, what is the same in its kind, and its values."""


class Kind(Enum):
    """Of a value that a call leaves: a whole number; a text (or None) that a stranger may have a hand in, of any length; what a
    short text (or None) is made of; a point in time; what an entry was asked for, of any type."""

    NUMBER = 0
    TEXT = 1
    TIME = 2
    ANY = 3
    SHORT = 4


class Reading(NamedTuple):
    """How a value comes from a call: ``code`` is an expression over the names of its side, with ``{0}`` ... for the values of
    ``headers`` (names in lower case), and gives what ``text`` makes the operator's value of (None: it is that). ``brief`` is
    an expression that does the same to ``{0}`` without a call, where it can be had (of a number: its digits). ``there``:
    it is, in nearly all calls (the line of another in JSON is left to the thread that writes). ``ask`` is what an entry is
    asked for."""

    code: str
    text: Callable[[Any], Any] | None = None
    kind: Kind = Kind.TEXT
    headers: tuple[str, ...] = ()
    brief: str = ""
    there: bool = False
    ask: Callable[[Entry], Value] | None = None


SAME = Reading("")
"""What is the same for all calls of a kind."""


class Side(NamedTuple, Generic[Watched]):
    """Calls of one side. ``begin`` are lines of a function of (call, ended, traced) that leave ``key``, and ``started``, or
    return what ``other`` says of a call of no kind; ``reading`` says how an operator is read, None: of an entry. ``headers``
    is an expression: what gives the values of ``WantedHeaders``. ``names`` are what all of them need. ``fits`` (None: all do)
    says of the second call with a key whether its like have all else in common; what comes once is not worth learning there."""

    begin: str
    reading: Callable[[Operator], Reading | None]
    headers: str
    names: Mapping[str, object]
    entry: Callable[[Watched, float, float, Traced | None, bool], Entry]
    fits: Callable[[Watched], bool] | None = None


def no_other(_call: object, _ended: float, _traced: Traced | None) -> bool:
    """There is no other short way."""
    return False


class AlikeLines(Generic[Watched]):
    """The short way of one format. ``write`` takes a call, when it ended and its span; False: it goes the long way. ``other``
    is asked of those that this side has nothing to say of; ``writer``: whose ``put`` it is, where it is that of one."""

    def __init__(
        self,
        side: Side[Watched],
        pieces: list[str | Reader | Operator],
        form: Form,
        put: Callable[[Any, int], None],
        today: Callable[[], float],
        node: Node = NOBODY,
        other: Write = no_other,
        writer: Writer[Any] | None = None,
    ) -> None:
        self._side = side
        self._known: dict[Hashable, Same] = {}
        self._once: set[Hashable] = set()
        # literals, what is the same, and None for each value of a call
        self._template: list[str | Callable[[Entry], str] | None] = []
        left = _Left(form)
        for piece in pieces:
            if isinstance(piece, str):
                self._template.append(piece)
                continue
            made = piece if isinstance(piece, Reader) else reader(piece, today, node)
            reading = None if isinstance(piece, Reader) else _reading(piece, side)
            if reading is SAME:
                self._template.append(_encoded(made.read, form.encode))
                continue
            self._template.append(None)
            if reading is None:
                left.add(Reading("", None, Kind.ANY, ask=made.read))
            elif isinstance(piece, Operator) and piece.limit is not None and reading.kind in (Kind.TEXT, Kind.SHORT):
                left.add(reading._replace(text=_cut(reading.text, piece.limit), brief=""))
            else:
                left.add(reading)
        names = {
            "known": self._known.get, "learn": self._learn, "put": put, "today": today, "entry_of": side.entry, "other": other,
            "writer": writer,
        }  # fmt: skip
        self._quoted = left.quoted()
        self.write: Write = left.write(side, names)

    def forget(self) -> None:
        """All kinds: rules and endpoints are others from here on."""
        self._known.clear()
        self._once.clear()

    def _learn(self, key: Hashable, call: Watched, ended: float) -> Same | None:
        """What is the same in the lines of calls like ``call``; None: perhaps nothing is."""
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
        around = [*same]
        for n in self._quoted:
            around[n], around[n + 1] = f'{around[n]}"', f'"{around[n + 1]}'
        found = self._known[key] = tuple(same), sum(map(len, same)) + NUMBERS, tuple(around)
        return found

    def _comes_again(self, key: Hashable, call: Watched, fits: Callable[[Watched], bool]) -> bool:
        if key in self._once:
            return fits(call)
        if len(self._once) >= MOST:
            self._once.clear()
        self._once.add(key)
        return False


class Form(NamedTuple):
    """How values stand in a line: as JSON, or as text, where ``missing`` is what is not there."""

    encode: Encode
    is_json: bool
    missing: str = "null"


class _Left:
    """The functions of a format. Their texts are made of the expressions of a side: nothing of a format is in them."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._readings: list[Reading] = []
        self._headers: dict[str, str] = {}
        self._names: dict[str, object] = {
            "as_json": as_json,
            "as_it_is": AS_IT_IS,
            "without_secrets": without_secrets,
            "digits": DIGITS,
        }

    def add(self, reading: Reading) -> None:
        """One more value."""
        n = len(self._readings)
        self._readings.append(reading)
        self._names[f"ask{n}"], self._names[f"text{n}"] = reading.ask, reading.text
        for name in reading.headers:
            self._headers.setdefault(name, f"h{len(self._headers)}")

    def quoted(self) -> list[int]:
        """Which values are always texts of JSON, so that their quotes are of what is the same."""
        return [
            n
            for n, reading in enumerate(self._readings)
            if self._form.is_json
            and reading.kind is not Kind.NUMBER
            and (reading.there or (reading.kind is Kind.TIME and isinstance(reading.text, Milliseconds)))
        ]

    def write(self, side: Side[Any], names: Mapping[str, object]) -> Any:
        """What takes a call apart, and puts its line, or what makes it, where lines wait."""
        count = len(self._readings)
        wanted = WantedHeaders(tuple(self._headers))
        lines = ["def write(call, ended, traced):", side.begin, "    found = known(key) or learn(key, call, ended)"]
        if side.fits is not None:
            lines.append("    if found is None: return other(call, ended, traced)")
        if self._headers:
            lines.append(f"    {''.join(f'{local}, ' for local in self._headers.values())}= {side.headers}(wanted)")
        asks = any(reading.kind is Kind.ANY for reading in self._readings)
        if asks:
            lines.append("    entry = entry_of(call, ended, today(), traced, False)")
        lines += [f"    v{n} = {self._code(n)}" for n in range(count)]
        values = "".join(f"v{n}, " for n in range(count))
        late = f"put((late, found[0], {values}), found[1]{self._size()})"
        if asks:  # which may be of any length and type, and is theirs
            return self._function([*lines, f"    {late}", "    return True"], side, names, wanted)
        texts = [n for n, reading in enumerate(self._readings) if reading.kind is Kind.TEXT]
        shown = dict(self._shown(n) for n in range(count))
        lines += [line for n in range(count) for line in shown[n][:-1]]
        doubts = [f"t{n} is None" for n in range(count) if self._form.is_json and self._readings[n].there]
        if texts:
            lines.append(f"    theirs = f'{''.join(f'{{t{n}}}' for n in texts)}'")
            # something is to be escaped
            doubts.append("not theirs.isascii() or (plain := theirs.encode()).translate(as_it_is) is not plain")
        if doubts:
            lines += [f"    if {' or '.join(doubts)}:", f"        {late}", "        return True"]
        pieces = "".join(f"{{s{n}}}{shown[n][-1]}" for n in range(count))
        lines += [
            f"    {''.join(f's{n}, ' for n in range(count + 1))}= found[2]",
            f"    line = f'{pieces}{{s{count}}}'",
            "    put(line, len(line))" if names["writer"] is None else PUT,
            "    return True",
        ]
        return self._function(lines, side, names, wanted)

    def _function(self, lines: list[str], side: Side[Any], names: Mapping[str, object], wanted: WantedHeaders) -> Any:
        theirs = {**side.names, **names, **self._names, "wanted": wanted, "late": self._late()}
        exec(compile("\n".join(lines), "<access log>", "exec"), theirs)
        return theirs["write"]

    def _code(self, n: int) -> str:
        """The expression that reads a value."""
        reading = self._readings[n]
        if reading.kind is Kind.ANY:
            return f"ask{n}(entry)"
        return reading.code.format(*(self._headers[name] for name in reading.headers))

    def _shown(self, n: int) -> tuple[int, list[str]]:
        """A value that needs no escapes: lines that make it, and last what stands for it in the line."""
        reading, form = self._readings[n], self._form
        if reading.kind is Kind.NUMBER:
            shown = reading.brief.format(f"v{n}") or f"digits[v{n}] if -1 < v{n} < 1000 else v{n}"
            return n, [f"{{{shown}}}"]
        lines = []
        if reading.kind is Kind.TIME and isinstance(reading.text, Milliseconds):
            self._names[f"kept{n}"], self._names[f"render{n}"] = reading.text.kept.get, reading.text.render
            lines = [f"    at{n} = int(v{n} * 1e3)", f"    t{n} = kept{n}(at{n}) or render{n}(at{n})"]
            return n, [*lines, f"{{t{n}}}"]
        value = f"v{n}"  # which stays as it is: it may be left to the thread that writes
        if reading.brief:
            value = reading.brief.format(value)
        elif reading.text is not None:
            value = f"text{n}({value})"
        lines.append(f"    t{n} = {value}")
        if form.is_json and reading.there:
            return n, [*lines, f"{{t{n}}}"]
        if form.is_json:
            lines.append(f"    q{n} = 'null' if t{n} is None else f'\"{{t{n}}}\"'")
            return n, [*lines, f"{{q{n}}}"]
        self._names["missing"] = form.missing
        return n, [*lines, f"    if t{n} is None: t{n} = missing", f"{{t{n}}}"]

    def _size(self) -> str:
        """About how many bytes the values take, added to what is the same: an expression."""
        sizes = []
        for n, reading in enumerate(self._readings):
            if reading.kind is Kind.TEXT:
                sizes.append(f" + (len(v{n}) if v{n} else 0)")
            elif reading.kind is Kind.ANY:
                sizes.append(f" + (len(v{n}) if type(v{n}) is str else 0)")
        return "".join(sizes)

    def _late(self) -> Callable[[Unmade], str]:
        """What makes a line of values that have been left."""
        readings, encode, texts = tuple(self._readings), self._form.encode, [reading.text for reading in self._readings]

        def late(unmade: Unmade) -> str:
            _, same, *values = unmade
            parts = [same[0]]
            for reading, text, value, after in zip(readings, texts, values, same[1:], strict=True):
                shown = value if text is None else text(value)
                parts += (str(shown) if reading.kind is Kind.NUMBER else encode(shown), after)
            return "".join(parts)

        return late


def text_alike(
    parts: Parts,
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
    node: Node = NOBODY,
    other: Write = no_other,
    writer: Writer[Any] | None = None,
) -> AlikeLines[Watched] | None:
    """The short way for a format of text; None: there is none."""
    if PLAIN:
        return None
    missing = "" if omit_empty else MISSING
    form = Form(lambda value: missing if value is None else safe(value), False, missing)
    return AlikeLines(side, list(parts), form, put, today, node, other, writer)


def json_alike(
    form: Mapping[str, Shape],
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
    node: Node = NOBODY,
    other: Write = no_other,
    writer: Writer[Any] | None = None,
) -> AlikeLines[Watched] | None:
    """The short way for a format of JSON; None: there is none."""
    if PLAIN or omit_empty:
        return None
    pieces: list[str | Reader | Operator] = []
    _flat(form, partial(reader, now=today, node=node), pieces)
    pieces.append("\n")
    return AlikeLines(side, pieces, Form(_json, True), put, today, node, other, writer)


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
        several = tuple(part if isinstance(part, str) else of(part) for part in shape)
        pieces.append(Reader(joined(several, MISSING)))


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
        return Reading("(ended - started) * 1e3", int, Kind.NUMBER, brief=milliseconds_of("{0}"))
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
    which ``{0}`` is the header. None: of an entry."""
    name, argument = operator.name, (operator.argument or "").lower()
    if name == "STREAM_ID":
        return Reading("{0}", headers=("x-request-id",))
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
        return Reading("{1} if {0} is None else {0}", headers=(first, other))
    return None


def _original(target: str) -> Reading:
    return Reading(
        f"{target} if {{0}} is None else {{0}}", _url, headers=("x-envoy-original-path",), brief=_URL, there=True
    )


def _header(name: str, target: str, authority: str) -> Reading | None:
    if name in (":authority", "host"):
        return Reading(authority, lambda host: host or None, headers=("host",), brief="{0} or None", there=True)
    if name == ":method":
        return SAME
    if name == ":path":
        return Reading(target, _url, brief=_URL, there=True)
    if name.startswith(":") or name in ("x-envoy-original-path", "referer"):
        return None
    return Reading("{0}", _hidden if is_secret(name) else None, headers=(name,))


def _url(target: str) -> str | None:
    return without_secrets(target) if "?" in target else target or None


_URL = "without_secrets({0}) if '?' in {0} else {0} or None"


def _hidden(value: object) -> str | None:
    return HIDDEN if value else None
