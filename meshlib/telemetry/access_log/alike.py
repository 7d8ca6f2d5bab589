"""Lines in two steps: a call leaves a few values, and who writes makes a line of them (row access-log of the benchmarks).

Calls are of one kind that took the same rule to the same endpoint and were answered with the same status by the first attempt
(``made.py``), or whose request was met before (``served.py``): most operators say the same of all of them, and that is put
together once. What is left is read by one function, which is put together of the operators' expressions when a format is read.
All others, and all calls with ``MESHLIB_PLAIN=1``, go the long way through an entry. What a line says is the same
(``tests/telemetry/access_log/test_alike.py`` holds the two ways against each other).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from meshlib.compiler.access_log.format import Constant, Operator, Parts, Shape
from meshlib.policy.secret_values import is_secret
from meshlib.telemetry.access_log.escaping import as_json
from meshlib.telemetry.access_log.operators import HIDDEN, Reader, Value, reader, without_secrets
from meshlib.telemetry.access_log.start_time import ISO, ISO_LOCAL, formatter
from meshlib.telemetry.access_log.text import MISSING, joined, safe

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry, Traced

PLAIN = os.environ.get("MESHLIB_PLAIN") == "1"
MOST = 1000
"""Kinds of calls that are remembered; then all are forgotten."""
NUMBERS = 120
"""Bytes that the numbers of a line take at most, nearly always: what waits is bounded by about its size."""

Watched = TypeVar("Watched")
Encode = Callable[[Value], str]
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
    """How a value comes from a call: ``code`` is an expression over the names of its side, with ``{}`` for each of ``given``,
    and gives what ``text`` makes the operator's value of (None: it is that)."""

    code: str
    text: Callable[[Any], Any] | None = None
    kind: Kind = Kind.TEXT
    given: tuple[str, ...] = ()


SAME = Reading("")
"""What is the same for all calls of a kind."""


class Side(NamedTuple, Generic[Watched]):
    """Calls of one side. ``begin`` are lines of a function of (call, ended, traced) that leave ``key``, and ``started``, or
    return False for a call of no kind; ``reading`` says how an operator is read, None: of an entry. ``names`` are what both
    need."""

    begin: str
    reading: Callable[[Operator], Reading | None]
    names: Mapping[str, object]
    entry: Callable[[Watched, float, float, Traced | None, bool], Entry]


class AlikeLines(Generic[Watched]):
    """The short way of one format. ``write`` takes a call, when it ended and its span; False: it goes the long way."""

    def __init__(
        self,
        side: Side[Watched],
        pieces: list[str | Reader | Operator],
        form: Form,
        put: Callable[[Any, int], None],
        today: Callable[[], float],
    ) -> None:
        self._side = side
        self._known: dict[Hashable, tuple[tuple[str, ...], int]] = {}
        # literals, what is the same, and None for each value of a call
        self._template: list[str | Callable[[Entry], str] | None] = []
        left = _Left(form)
        for piece in pieces:
            if isinstance(piece, str):
                self._template.append(piece)
                continue
            made = piece if isinstance(piece, Reader) else reader(piece, today)
            reading = None if isinstance(piece, Reader) else _reading(piece, side)
            if reading is SAME:
                self._template.append(_encoded(made.read, form.encode))
                continue
            self._template.append(None)
            if reading is None:
                left.add(Reading("{}(entry)", None, Kind.ANY), (made.read,))
            else:
                limit = piece.limit if isinstance(piece, Operator) and reading.kind is Kind.TEXT else None
                left.add(reading._replace(text=_cut(reading.text, limit)), reading.given)
        names = {"known": self._known.get, "learn": self._learn, "put": put, "today": today, "entry_of": side.entry}
        names["line"] = left.line()
        self.write: Callable[[Watched, float, Traced | None], bool] = left.write(side, names)

    def forget(self) -> None:
        """All kinds: rules and endpoints are others from here on."""
        self._known.clear()

    def _learn(self, key: Hashable, call: Watched, ended: float) -> tuple[tuple[str, ...], int]:
        """What is the same in the lines of calls like ``call``."""
        entry = self._side.entry(call, ended, 0.0, None, False)
        same = [""]  # what stands before the first value, between two, and after the last one
        for part in self._template:
            if part is None:
                same.append("")
            else:
                same[-1] += part if isinstance(part, str) else part(entry)
        if len(self._known) >= MOST:
            self._known.clear()
        found = self._known[key] = tuple(same), sum(map(len, same)) + NUMBERS
        return found


class Form(NamedTuple):
    """How values stand in a line: as JSON, or as text, where ``missing`` is what is not there."""

    encode: Encode
    is_json: bool
    missing: str = "null"


class _Left:
    """The two functions of a format. Their texts are made of the expressions of a side: nothing of a format is in them."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._readings: list[Reading] = []
        self._codes: list[str] = []
        self._names: dict[str, object] = {}

    def add(self, reading: Reading, given: tuple[object, ...]) -> None:
        """One more value."""
        n = len(self._readings)
        names = [f"given{n}_{m}" for m in range(len(given))]
        self._names.update(zip(names, given, strict=True))
        self._readings.append(reading)
        self._codes.append(reading.code.format(*names))

    def write(self, side: Side[Any], names: Mapping[str, object]) -> Any:
        """What takes a call apart, and puts its values where lines wait."""
        asked = any(reading.kind is Kind.ANY for reading in self._readings)
        sizes = []
        for n, reading in enumerate(self._readings):
            if reading.kind is Kind.TEXT:
                sizes.append(f" + (len(v{n}) if v{n} else 0)")
            elif reading.kind is Kind.ANY:
                sizes.append(f" + (len(v{n}) if type(v{n}) is str else 0)")
        lines = [
            "def write(call, ended, traced):",
            side.begin,
            "    found = known(key) or learn(key, call, ended)",
            "    entry = entry_of(call, ended, today(), traced, False)" if asked else "",
            *(f"    v{n} = {code}" for n, code in enumerate(self._codes)),
            f"    put((line, found[0], {''.join(f'v{n}, ' for n in range(len(self._codes)))}), found[1]{''.join(sizes)})",
            "    return True",
        ]
        return _function("write", lines, {**side.names, **names, **self._names})

    def line(self) -> Any:
        """What makes a line of those values, on the thread that writes."""
        form, names, shown, texts = self._form, dict[str, object](), [], []
        lines = []
        for n, reading in enumerate(self._readings):
            value = f"v{n}"
            if reading.text is not None:
                names[f"text{n}"] = reading.text
                value = f"text{n}(v{n})"
            if reading.kind is Kind.ANY:
                shown.append(f"encode({value})")
            elif reading.kind is Kind.NUMBER or (reading.kind is Kind.TIME and not form.is_json):
                shown.append(value)
            elif form.is_json:
                shown.append(f'"null" if (text := {value}) is None else as_json(text)')
            else:
                lines += [f"    v{n} = {value}", f"    if v{n} is None: v{n} = missing"]
                shown.append(f"v{n}")
                texts.append(f"v{n}")
        if texts:
            lines += [
                f"    plain = ''.join(({''.join(f'{text}, ' for text in texts)}))",
                "    if not plain.isascii() or not plain.isprintable() or '\"' in plain or '\\\\' in plain:",
                f"        {', '.join(texts)}, = {', '.join(f'safe({text})' for text in texts)},",
            ]
        count = len(self._readings)
        lines = [
            "def made(unmade):",
            f"    _, same, {''.join(f'v{n}, ' for n in range(count))}= unmade",
            f"    {''.join(f's{n}, ' for n in range(count + 1))}= same",
            *lines,
            *(f"    v{n} = {value}" for n, value in enumerate(shown) if value != f"v{n}"),
            f"    return f'{''.join(f'{{s{n}}}{{v{n}}}' for n in range(count))}{{s{count}}}'",
        ]
        names.update({"encode": form.encode, "missing": form.missing, "safe": safe, "as_json": as_json})
        return _function("made", lines, names)


def _function(name: str, lines: list[str], names: dict[str, object]) -> Any:
    exec(compile("\n".join(lines), "<access log>", "exec"), names)
    return names[name]


def text_alike(
    parts: Parts,
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
) -> AlikeLines[Watched] | None:
    """The short way for a format of text; None: there is none."""
    if PLAIN:
        return None
    missing = "" if omit_empty else MISSING
    form = Form(lambda value: missing if value is None else safe(value), False, missing)
    return AlikeLines(side, list(parts), form, put, today)


def json_alike(
    form: Mapping[str, Shape],
    side: Side[Watched],
    put: Callable[[Any, int], None],
    today: Callable[[], float],
    omit_empty: bool = False,
) -> AlikeLines[Watched] | None:
    """The short way for a format of JSON; None: there is none."""
    if PLAIN or omit_empty:
        return None
    pieces: list[str | Reader | Operator] = []
    _flat(form, today, pieces)
    pieces.append("\n")
    return AlikeLines(side, pieces, Form(_json, True), put, today)


def _flat(shape: Shape, today: Callable[[], float], pieces: list[str | Reader | Operator]) -> None:
    """Objects and lists whose keys are all there, in a row."""
    if isinstance(shape, Mapping):
        for n, (key, value) in enumerate(shape.items()):
            pieces.append(f"{'{' if n == 0 else ','}{json.dumps(key)}:")
            _flat(value, today, pieces)
        pieces.append("}" if shape else "{}")
    elif isinstance(shape, list):
        for n, value in enumerate(shape):
            pieces.append("[" if n == 0 else ",")
            _flat(value, today, pieces)
        pieces.append("]" if shape else "[]")
    elif isinstance(shape, Constant):
        pieces.append(json.dumps(shape.value))
    elif len(shape) == 1 and isinstance(shape[0], Operator):
        pieces.append(shape[0])
    else:
        several = tuple(part if isinstance(part, str) else reader(part, today) for part in shape)
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
        return Reading("int((ended - started) * 1e3)", None, Kind.NUMBER)
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
    """How an operator is read of a request: ``header`` is its function for headers, ``target`` and ``authority`` are
    expressions. None: of an entry."""
    name, argument = operator.name, (operator.argument or "").lower()
    if name == "STREAM_ID":
        return Reading('header("x-request-id")')
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
    if all(reading is not None and reading.text is None and reading.given for reading in readings):
        return Reading("header({1}) if (value := header({0})) is None else value", given=(first, other))
    return None


def _original(target: str) -> Reading:
    return Reading(f'{target} if (value := header("x-envoy-original-path")) is None else value', _url)


def _header(name: str, target: str, authority: str) -> Reading | None:
    if name in (":authority", "host"):
        return Reading(authority, lambda host: host or None)
    if name == ":method":
        return SAME
    if name == ":path":
        return Reading(target, _url)
    if name.startswith(":") or name in ("x-envoy-original-path", "referer"):
        return None
    return Reading("header({})", _hidden if is_secret(name) else None, given=(name,))


def _url(target: bytes | str) -> str | None:
    text = target.decode("latin-1") if isinstance(target, bytes) else target
    return without_secrets(text) if "?" in text else text or None


def _hidden(value: object) -> str | None:
    return HIDDEN if value else None
