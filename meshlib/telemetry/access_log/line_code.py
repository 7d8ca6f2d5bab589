"""The function that makes the line of most calls in one go: put together of the expressions of a side (``made.py``,
``served.py``) when a format is read, and compiled, as ``namedtuple`` and ``dataclass`` do it. Nothing of a format, and nothing
that a stranger has sent, is in its text. Rows access-log and access-log-whole of the benchmarks pay for it.

What is the same in a kind of calls is put together once; whether
something of the values of a call is to be escaped is asked once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from math import floor
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from meshlib.compiler.access_log.format import Operator
from meshlib.engine.wanted_headers import WantedHeaders, wire_bytes
from meshlib.policy.secret_queries import harmless, without_secrets
from meshlib.telemetry.access_log.escaping import AS_IT_IS, as_json
from meshlib.telemetry.access_log.operators import Value
from meshlib.telemetry.access_log.start_time import MOST_TIMES, Milliseconds
from meshlib.telemetry.access_log.writer import PUT

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry, Traced

NUMBERS = 120
"""Bytes that the numbers of a line take at most, nearly always: what waits is bounded by about its size."""

Watched = TypeVar("Watched")
Write = Callable[[Any, float, "Traced | None"], bool]
"""Takes a call, when it ended and its span. False: it has not written its line."""
Encode = Callable[[Value], str]


class Same(NamedTuple):
    """What lines of one kind have in common: ``around``, what stands before the first value, between two, and after the last
    one; ``size``, about how many bytes a line without long texts has."""

    around: tuple[str, ...]
    size: int


Known = tuple[Any, ...]
"""``Same``, and behind it the pieces of which lines of that kind are put together: as ``Same.around``, in bytes (or in text,
where lines are), with all that says that a value is not there, and the quotes of JSON, but for what stands beside numbers and
times in lines of every kind. A plain tuple: CPython 3.11 takes one of them apart in one step."""


SMALL = 1000
"""Numbers below that are kept as they stand in a line."""

Unmade = tuple[Any, ...]
"""A line that waits: what makes it of this very tuple, what is the same in its kind, and its values."""


class Kind(Enum):
    """Of a value that a call leaves: a whole number (or one whose fraction is not shown); bytes that a stranger may have a hand
    in, of any length; a short text in ASCII (or None), or what ``Reading.text`` makes it of; a point in time; what
    an entry was asked for, of any type; milliseconds (or None) that stand in a line as a text, without a fraction; bytes of
    a short text in which nothing is to be escaped (b"": it is not there)."""

    NUMBER = 0
    TEXT = 1
    TIME = 2
    ANY = 3
    SHORT = 4
    TOOK = 5
    PLAIN = 6


class Reading(NamedTuple):
    """How a value comes from a call: ``code`` is an expression over the names of its side, with ``{0}`` ... for the bytes of
    ``headers`` (names in lower case) and ``{has0}`` ... for whether they are there. Of what ``code`` gives ``text`` makes the
    operator's value (None: it is that), of bytes read as latin-1. ``brief`` is an expression that does the same to the bytes
    ``{0}`` and without a call where it can be had. ``there``: it is, in nearly all calls (the line of another is left to the
    thread that writes; b"" is not there). ``absent`` is an expression over ``headers`` that says that it is not there, where
    they say it; ``sure``: it is there. ``ask`` is what an entry is asked for. ``tried`` is an expression that gives the same in
    less time, or raises AttributeError. ``left`` is what is left of one that is not ``there`` to the thread that writes.
    ``mostly_none``: the number is 0 in nearly all calls."""

    code: str
    text: Callable[[Any], Any] | None = None
    kind: Kind = Kind.TEXT
    headers: tuple[str, ...] = ()
    brief: str = ""
    there: bool = False
    absent: str = ""
    sure: bool = False
    ask: Callable[[Entry], Value] | None = None
    tried: str = ""
    left: str = ""
    mostly_none: bool = False


SAME = Reading("")
"""What is the same for all calls of a kind."""


class Side(NamedTuple, Generic[Watched]):
    """Calls of one side. ``begin`` are lines of a function of (call, ended, traced) that leave ``started`` and what is read, or
    return False for a call of no kind; they ask ``closer`` first, a function as the one that they begin, where it may know more
    of a call. ``reading`` says how an operator is read, None: of an entry. ``headers`` is an expression for the values of
    ``wanted`` (``WantedHeaders``). ``names`` are what all of them need. ``fits`` (None: all do) says of the second call with a
    key whether its like have all else in common: what comes once is not worth learning. ``key`` are expressions, with commas
    between them: what the kind of a call is known by. ``raw``: lines are bytes, which takes less time where most of their
    values are (a few are decoded in less). ``takes`` are the parameters of that function. ``placed`` is the side of calls whose
    headers are known by their names (``layouts.py``): ``begin`` asks ``there_for`` (``Layouts.find``), and tells ``meet`` of
    names that it does not know; the headers of its calls are in ``headers``, pairs in a list. ``only_placed``: ``begin`` is all
    of the function, and leaves to others what is not known by its names."""

    begin: str
    reading: Callable[[Operator], Reading | None]
    headers: str
    names: Mapping[str, object]
    entry: Callable[[Watched, float, float, Traced | None, bool], Entry]
    fits: Callable[[Watched], bool] | None = None
    key: str = "key"
    raw: bool = False
    takes: str = "call, ended, traced"
    placed: Side[Any] | None = None
    only_placed: bool = False


class Form(NamedTuple):
    """How values stand in a line: as JSON, or as text, where ``missing`` is what is not there."""

    encode: Encode
    is_json: bool
    missing: str = "null"


class Left:
    """The functions of a format. Their texts are made of the expressions of a side: nothing of a format is in them. ``then``
    are lines that follow those that begin one."""

    def __init__(self, form: Form, raw: bool, then: str = "") -> None:
        self._then = then
        self._form = form
        self._raw = raw
        self._readings: list[Reading] = []
        self._headers: dict[str, int] = {}
        self._shown_times: dict[int, _Shown] = {}
        """By which value they are of."""
        self._kept: list[int] = []
        """The places in ``Same.around`` of the pieces of ``Known``."""
        self._names: dict[str, object] = {
            "as_it_is": AS_IT_IS,
            "empty": b"",
            "floor": floor,
            "offset": 0.0,
            "without_secrets": _bytes_without_secrets,
            "wire_bytes": wire_bytes,
        }

    def add(self, reading: Reading) -> None:
        """One more value."""
        n = len(self._readings)
        self._readings.append(reading)
        self._names[f"ask{n}"], self._names[f"text{n}"] = reading.ask, self._shown_by(reading)
        for name in reading.headers:
            self._headers.setdefault(name, len(self._headers))

    def _shown_by(self, reading: Reading) -> Callable[[Any], str | bytes | None] | None:
        """``reading.text``: of bytes to bytes, of a time to all that stands in the line."""
        text, encode = reading.text, self._form.encode
        if text is None:
            return None
        if reading.kind in (Kind.SHORT, Kind.PLAIN):
            return text
        if reading.kind is Kind.TIME:
            shown = (lambda at: encode(text(at))) if self._form.is_json else text
            return (lambda at: shown(at).encode("utf-8", "backslashreplace")) if self._raw else shown

        def made(value: Any) -> bytes | None:
            found = text(value.decode("latin-1") if type(value) is bytes else value)
            return None if found is None else wire_bytes(found)

        return made

    def _may_be_absent(self) -> list[int]:
        """The values that need not be there, and are not left to the thread that writes when they are not."""
        return [
            n for n, each in enumerate(self._readings) if each.kind in MAY_BE_ABSENT and not (each.there or each.sure)
        ]

    def fix(self, around: Sequence[str | None]) -> None:
        """After the last value: what ``Same.around`` is in lines of every kind; None: no such thing. Numbers and times take
        what is beside them into their own texts, which are made once for many lines: each piece of a line takes its time."""
        beside = self._quoted([each or "" for each in around], {})
        free = {at for at, each in enumerate(around) if each is not None}
        free.difference_update(*[(n, n + 1) for n in self._may_be_absent()])
        all_free = frozenset(free)
        for n, reading in enumerate(self._readings):
            milliseconds = in_milliseconds(reading)
            if milliseconds is None and reading.kind not in WHOLE:
                continue
            before, after = [beside[at] if at in free else "" for at in (n, n + 1)]
            free -= {n, n + 1}
            shown = _Shown(milliseconds, before, after, self._form.is_json, self._raw)
            self._names[f"kept{n}"], self._names[f"render{n}"] = shown.kept.get, shown.render
            self._names[f"zero{n}"] = shown.render(0)
            if milliseconds is not None:
                self._shown_times[n] = shown
        self._kept = [at for at in range(len(around)) if at in free or at not in all_free]

    def pieces(self, same: list[str], absent: tuple[bool, ...]) -> tuple[str, ...] | tuple[bytes, ...]:
        """Those of ``Known``. ``absent``: which of the values that need not be there are not."""
        found = self._quoted(same, dict(zip(self._may_be_absent(), absent, strict=False)))
        pieces = [found[at] for at in self._kept]
        return tuple([piece.encode("utf-8", "backslashreplace") for piece in pieces]) if self._raw else tuple(pieces)

    def _quoted(self, around: list[str], is_absent: Mapping[int, bool]) -> list[str]:
        """``around``, with all that says that a value is not there, and the quotes of JSON."""
        pieces = [*around]
        for n, reading in enumerate(self._readings):
            if is_absent.get(n):
                pieces[n] += self._form.missing
            elif self._form.is_json and (reading.kind in TEXTS or in_milliseconds(reading) is not None):
                pieces[n] += '"'
                pieces[n + 1] = f'"{pieces[n + 1]}'
        return pieces

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of those that are read."""
        return tuple(self._headers)

    def write(self, side: Side[Any], names: Mapping[str, object]) -> Any:
        """What takes a call apart, and puts its line, or what makes it, where lines wait."""
        count = len(self._readings)
        wanted = WantedHeaders(tuple(self._headers))
        lines = [f"def write({side.takes}):", side.begin, self._then]
        if side.only_placed:
            return self._function(lines, side, names, wanted)
        asks = any(reading.kind is Kind.ANY for reading in self._readings)
        if asks:
            self._shown_times.clear()  # their texts are made later
        key = [side.key]
        if self._headers:
            lines.append(f"    has, {''.join(f'h{n}, ' for n in self._headers.values())}= {side.headers}")
            key.append("has")
        if not asks:
            lines += self._values()
            for n in range(count):
                lines += self._shown(n)
            absent = {n: self._code(n, reading.absent) for n in self._may_be_absent() if (reading := self._readings[n])}
            key += [says for n, says in absent.items() if not self._readings[n].absent]
            said = f", ({''.join(f'{says}, ' for says in absent.values())})" if absent else ""
        else:  # whatever they are, their line is made later
            absent, said = {}, ""
        lines.append(f"    key = {', '.join(key)}")
        lines += [
            "    try:",
            "        found = known[key]",
            "    except KeyError:",
            f"        found = learn(key, call, ended{said})",
        ]
        if side.fits is not None:
            lines.append("    if found is None: return False")
        left = "".join(f"{self._left(n)}, " for n in range(count))
        late = f"put((late, found[0][0], {left}), found[0][1]{self._size()})"
        if asks:
            lines.append("    entry = entry_of(call, ended, today(), traced, False)")
            lines += self._values()
            return self._function([*lines, f"    {late}", "    return True"], side, names, wanted)
        of_none = [n for n in absent if not self._readings[n].absent and self._readings[n].kind is not Kind.PLAIN]
        for n in of_none:
            lines.append(
                f"    shown{n} = {self._place(n)} or {repr('') if self._readings[n].kind is Kind.SHORT else 'empty'}"
            )
        doubts = []
        for n, reading in enumerate(self._readings):
            if reading.kind is Kind.TOOK:
                doubts.append(f"{self._place(n)} is None")
            elif reading.there:
                doubts.append(f"not {self._place(n)}")
        places = [f"shown{n}" if n in of_none else self._place(n) for n in range(count)]
        theirs = [places[n] for n in range(count) if self._readings[n].kind is Kind.TEXT]
        if theirs:
            lines.append(f"    theirs = joined(({', '.join(theirs)},))")
            doubts.append("theirs.translate(as_it_is) is not theirs")  # something is to be escaped
        if doubts:
            lines += [f"    if {' or '.join(doubts)}:", f"        {late}", "        return True"]
        shown = [self._in_line(n, place) for n, place in enumerate(places)]
        parts = []
        for n in range(count + 1):
            parts += [f"s{n}"] if n in self._kept else []
            parts += shown[n : n + 1]
        if self._raw:
            line = f"joined(({', '.join(parts)},))"
        else:
            line = f"f'{''.join(f'{{{each}}}' for each in parts)}'"
        lines += [
            f"    _, {''.join(f's{n}, ' for n in self._kept)}= found",
            f"    line = {line}",
            "    put(line, len(line))" if names["writer"] is None else PUT,
            "    return True",
        ]
        return self._function(lines, side, names, wanted)

    def _function(self, lines: list[str], side: Side[Any], names: Mapping[str, object], wanted: WantedHeaders) -> Any:
        theirs = {
            **side.names, **names, **self._names, "wanted": wanted, "late": self._late(), "joined": b"".join,
        }  # fmt: skip
        for n, shown in self._shown_times.items():
            theirs[f"place{n}"] = _placing(shown, theirs)
        exec(compile("\n".join(lines), "<access log>", "exec"), theirs)
        return theirs["write"]

    def _code(self, n: int, code: str | None = None) -> str:
        """The expression that reads a value, or another one over its headers."""
        reading = self._readings[n]
        if reading.kind is Kind.ANY:
            return f"ask{n}(entry)"
        if code is None and n in self._shown_times:
            return "(started + offset)"
        if code == "":
            return f"not {self._place(n)}" if reading.kind is Kind.PLAIN else f"{self._place(n)} is None"
        places = [self._headers[name] for name in reading.headers]
        there = {f"has{at}": f"has & {1 << place}" for at, place in enumerate(places)}
        return (reading.code if code is None else code).format(*[f"h{place}" for place in places], **there)

    def _values(self) -> list[str]:
        """Lines that read the values which have no name yet."""
        lines = []
        for n, reading in enumerate(self._readings):
            if self._value(n) != f"v{n}":
                continue
            line = f"v{n} = {self._code(n)}"
            if reading.tried:
                line = f"try: v{n} = {reading.tried}\n    except AttributeError: {line}"
            lines.append(f"    {line}")
        return lines

    def _value(self, n: int) -> str:
        """The name of a value: its own, where it has one, as each other one takes its time."""
        code = self._code(n)
        return code if code.isidentifier() or n in self._shown_times else f"v{n}"

    def _left(self, n: int) -> str:
        """A value as it is left to the thread that writes."""
        absent, value = self._readings[n].absent, self._readings[n].left or self._value(n)
        if self._readings[n].kind is Kind.PLAIN:
            return f"{value} or None"
        return f"None if {self._code(n, absent)} else {value}" if absent else value

    def _shown(self, n: int) -> list[str]:
        """Lines that make of a value what takes its place in the line."""
        reading, value = self._readings[n], self._value(n)
        if n in self._shown_times:
            return [f"    t{n} = kept{n}(floor({value} * 1e3)) or place{n}(started, ended)"]
        if self._place(n) == value:
            return []
        if reading.brief:
            return [f"    t{n} = {reading.brief.format(value)}"]
        return [f"    t{n} = text{n}({value}){' or empty' if reading.there else ''}"]

    def _place(self, n: int) -> str:
        """The name of what takes a value's place in the line."""
        reading = self._readings[n]
        as_it_is = reading.kind in (Kind.NUMBER, Kind.TOOK) or (reading.text is None and not reading.brief)
        return self._value(n) if as_it_is or reading.brief == "{0}" else f"t{n}"

    def _in_line(self, n: int, place: str) -> str:
        """The expression for what stands in a line."""
        reading = self._readings[n]
        if reading.kind in (Kind.TEXT, Kind.PLAIN):  # of which is known by then that it is in ASCII
            return place if self._raw else f"{place}.decode()"
        if reading.kind is Kind.SHORT:
            return f"{place}.encode()" if self._raw else place
        if reading.kind is Kind.TOOK or (
            reading.kind is Kind.NUMBER and reading.text is not None
        ):  # most take less than one
            # squared: a comparison with two sides takes three steps more
            return f"zero{n} if {place} * {place} < 1.0 else kept{n}(int({place})) or render{n}(int({place}))"
        if reading.kind is not Kind.NUMBER:
            return place
        shown = f"kept{n}({place}) or render{n}({place})"
        return f"{shown} if {place} else zero{n}" if reading.mostly_none else shown

    def _size(self) -> str:
        """About how many bytes the values take, added to what is the same: an expression."""
        sizes = []
        for n, reading in enumerate(self._readings):
            value = self._value(n)
            if reading.kind is Kind.TEXT:
                sizes.append(f" + (len({value}) if {value} else 0)")
            elif reading.kind is Kind.ANY:
                sizes.append(f" + (len({value}) if type({value}) is str else 0)")
        return "".join(sizes)

    def _late(self) -> Callable[[Unmade], str]:
        """What makes a line of values that have been left."""
        readings, encode, texts = tuple(self._readings), self._form.encode, [reading.text for reading in self._readings]

        def late(unmade: Unmade) -> str:
            _, same, *values = unmade
            parts = [same[0]]
            for reading, text, value, after in zip(readings, texts, values, same[1:], strict=True):
                read = value.decode("latin-1") if type(value) is bytes else value
                shown = read if text is None else text(read)
                parts += (str(shown) if reading.kind is Kind.NUMBER else encode(shown), after)
            return "".join(parts)

        return late


class _Shown:
    """Whole numbers, or points in time in ``milliseconds`` (in JSON between its quotes), as they stand in a line between what
    stands ``before`` and ``after`` each. ``kept`` are small numbers, and the times that were met last: to make one takes ten
    times as long. ``raw``: as bytes."""

    __slots__ = ("_after", "_before", "_is_json", "_milliseconds", "_raw", "kept")

    def __init__(self, milliseconds: Milliseconds | None, before: str, after: str, is_json: bool, raw: bool) -> None:
        self._milliseconds = milliseconds
        self._before = before
        self._after = after
        self._is_json = is_json
        self._raw = raw
        self.kept: dict[int, str | bytes] = {}

    def render(self, number: int) -> str | bytes:
        """Of one that is not kept."""
        milliseconds = self._milliseconds
        if milliseconds is None:
            return self._render(number, str(number), -1 < number < SMALL)
        text = milliseconds.render(number)
        if len(self.kept) >= MOST_TIMES:
            self.kept.clear()
        return self._render(number, as_json(text)[1:-1] if self._is_json else text, True)

    def _render(self, number: int, text: str, keep: bool) -> str | bytes:
        shown: str | bytes = f"{self._before}{text}{self._after}"
        if self._raw:
            shown = shown.encode("utf-8", "backslashreplace")  # type: ignore[union-attr]
        if keep:
            self.kept[number] = shown
        return shown


def _placing(shown: _Shown, theirs: dict[str, Any]) -> Callable[[float, float], str | bytes]:
    """What shows the time of day when a call began whose millisecond is not among those that are kept: of most calls it is.
    Until the next one of those the time of day goes on with the monotonic clock: it was ``offset`` more when this was last
    called. To ask for it takes as long as to make a line's longest part, and twenty steps less than to keep it."""
    today, kept = theirs["today"], shown.kept.get

    def place(started: float, ended: float) -> str | bytes:
        theirs["offset"] = offset = today() - ended
        at = floor((started + offset) * 1e3)
        return kept(at) or shown.render(at)

    return place


MAY_BE_ABSENT = frozenset((Kind.TEXT, Kind.SHORT, Kind.PLAIN))
TEXTS = MAY_BE_ABSENT | {Kind.TOOK}
"""What stands between quotes in JSON."""
WHOLE = frozenset((Kind.NUMBER, Kind.TOOK))
"""What stands in a line as the digits of a whole number."""


def in_milliseconds(reading: Reading) -> Milliseconds | None:
    """The format of a point in time that has milliseconds."""
    return reading.text if reading.kind is Kind.TIME and isinstance(reading.text, Milliseconds) else None


def _bytes_without_secrets(target: bytes) -> bytes:
    return target if harmless(target) else wire_bytes(without_secrets(target.decode("latin-1")))
