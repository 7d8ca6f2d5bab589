"""The values of a few headers at once, of a message whose headers are pairs.

Programs send other values each time, and the same names: where the wanted ones stand is found once for each list of names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

MOST = 256
MOST_READINGS = 2048
"""Functions that read headers from lines: by which of five are there (once, several times), up to 162 of each list, and by
their order where none is repeated, up to 326."""
MOST_BITS = 6
"""Headers of which it is written down what all combinations of them come to."""
LONGEST = 1024
"""Bytes of a list of names that is remembered: strangers choose them."""

_NAME = itemgetter(0)


Pairs = Sequence[tuple[bytes, bytes]]
Values = tuple[Any, ...]
"""Which of the wanted headers are there, one bit for each, the first one's is 1; then their values as bytes, in the order of
their names: of repeated ones all, joined with ","; b"" of those that are not there."""
Take = Callable[[Pairs], Values]
Reading = Callable[[bytes, bytes, Callable[[str], str | None], Values], Values]
"""What reads values from header lines, the same in lower case, what says all that one has which is repeated, and others."""
InGroups = Callable[[re.Match[bytes], "Says"], Values]
"""What reads values from what was matched in a head, and what says all that one has of which it is not known where it is."""


class Says(Protocol):
    """A request or a response."""

    def header(self, name: str, /) -> str | None: ...


class WantedHeaders:
    """``names`` are in lower case. For all threads: whoever comes second finds the same."""

    __slots__ = ("names", "readings", "takes", "takes_of_environs")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.takes: dict[tuple[bytes, ...] | bytes, Take] = {}
        """What takes them from headers with these names: in their order as they are spelled, or with a line end between two."""
        self.readings: dict[WantedHeaders | None, Reading] = {}
        """What reads them from lines, by whose values are known already (``beside``)."""
        self.takes_of_environs: dict[tuple[str, ...], Callable[[Any], Any]] = {}
        """What takes them from environs of WSGI with these keys: for their door to keep."""

    def values(self, headers: Pairs) -> Values:
        """Those of ``headers``."""
        names = tuple(map(_NAME, headers))
        take = self.takes.get(names)
        return self.learn(names, headers)(headers) if take is None else take(headers)

    def by_name(self, values: Mapping[bytes, bytes], headers: Pairs) -> Values:
        """Those of ``headers``, of which ``values`` are the last of each name, in the order of the first of each."""
        if len(values) != len(headers):  # some are repeated
            return self.values(headers)
        names = tuple(values)  # whose hashes are known
        take = self.takes.get(names)
        return take(headers) if take is not None else self.learn(names, headers)(headers)

    def of_lines(self, lines: bytes, lower: bytes, joined: Callable[[str], str | None]) -> Values:
        """Those of header lines, each with its line end; ``lower``: the same in lower case behind a line end. ``joined``: what
        says all that one has which is repeated."""
        try:
            read = self.readings[None]
        except KeyError:
            read = self.beside(None)
        return read(lines, lower, joined, ())

    def beside(self, others: WantedHeaders | None) -> Reading:
        """What reads them from lines of which the values of ``others`` are known (None: of none), but for that of traceparent,
        which may be another one by now; ``readings`` has it from then on."""
        if len(self.readings) >= MOST:
            self.readings.clear()
        names = () if others is None else others.names
        known = tuple(["" if name == "traceparent" else name for name in names])
        made = self.readings[others] = _reading(self.names, known)
        return made

    def among(self, counted: Callable[[str], int | None], order: Iterable[str] = ()) -> Reading:
        """What reads them from lines of which it is known which there are, or not: ``counted`` says how many of a name, 0 or 1;
        None: more, or nobody knows. ``order``: in which those of one come."""
        times = tuple([counted(name) for name in self.names])
        wanted = tuple([name for name in order if name in self.names])
        return _in_order(self.names, times, wanted) if wanted else _reading(self.names, (), times)

    def in_groups(self, at: Mapping[str, int]) -> InGroups:
        """What reads them from a match, by whose group each stands in; 0: it has to be looked for, and others are not there."""
        return _in_groups(self.names, tuple([at.get(name, -1) for name in self.names]))

    def of_texts(self, texts: Iterable[str | None]) -> Values:
        """Those whose values are these, in the order of ``names``; None of what is not there."""
        found = tuple(texts)
        there = sum([1 << n for n, text in enumerate(found) if text is not None])
        return (there, *[wire_bytes(text or "") for text in found])

    def learn(self, key: tuple[bytes, ...] | bytes, headers: Pairs) -> Take:
        """What takes them from headers with the names of these, which are ``key`` in ``takes``."""
        names = [name.lower() for name, _ in headers]
        wanted = [name.encode("latin-1", "replace") for name in self.names]
        take: Take = self._each
        if all(names.count(name) <= 1 for name in wanted):
            take = _taking(tuple(names.index(name) if name in names else None for name in wanted))
        if sum(map(len, names)) <= LONGEST:
            if len(self.takes) >= MOST:
                self.takes.clear()
            self.takes[key] = take
        return take

    def _each(self, headers: Pairs) -> Values:
        """Where one of them is repeated."""
        there, values = 0, []
        for n, name in enumerate(self.names):
            wanted = name.encode("latin-1", "replace")
            found = [value for key, value in headers if key.lower() == wanted]
            there |= 1 << n if found else 0
            values.append(b",".join(found))
        return (there, *values)


def wire_bytes(text: str) -> bytes:
    """The bytes of a wire string (bytes read as latin-1); of what is none the UTF-8 ones. Never raises."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


@functools.lru_cache(MOST)
def _taking(places: tuple[int | None, ...]) -> Take:
    """What takes the values at these places: a function of its own, as a loop over them takes twice as long."""
    there = sum(1 << n for n, at in enumerate(places) if at is not None)
    values = "".join('b"", ' if at is None else f"headers[{at:d}][1], " for at in places)
    made: Take = eval(f"lambda headers: ({there:d}, {values})", {"__builtins__": {}})
    return made


@functools.lru_cache(MOST_READINGS)
def _reading(names: tuple[str, ...], others: tuple[str, ...], times: tuple[int | None, ...] = ()) -> Reading:
    """What looks for these names in lines, but for those of ``others``, whose ``Values`` it is given: a function of its own, as
    a loop over them takes half as long again. ``times``: how often each of them stands there, None: nobody knows."""
    times = times or (None,) * len(names)
    code = [
        "def read(lines, lower, joined, known):",
        f"    there = {sum([1 << n for n, each in enumerate(times) if each])}",
    ]
    theirs: dict[str, object] = {"__builtins__": {}, "wire_bytes": wire_bytes}
    if not others or not set(names).issubset(others):
        code.append("    find = lower.find")
    several = False
    if not set(names).isdisjoint(others):
        code.append(f"    has, {''.join(f'known{n:d}, ' for n in range(len(others)))}= known")
        several = len(others) <= MOST_BITS
        if several:  # all of their bits in one step
            code.append("    there = bits[has]")
            theirs["bits"] = [_bits(has, names, others) for has in range(1 << len(others))]
    values = []
    for n, name in enumerate(names):
        if name in others:
            at = others.index(name)
            if not several:
                code.append(f"    if has & {1 << at:d}: there |= {1 << n:d}")
            values.append(f"known{at:d}, ")
            continue
        if times[n] == 0:
            values.append("b'', ")
            continue
        key = b"\r\n%b:" % name.encode("latin-1", "replace")
        theirs[f"key{n:d}"], theirs[f"name{n:d}"] = key, name
        values.append(f"value{n:d}, ")
        if times[n] == 1:
            code += [
                f"    at = find(key{n:d})",
                f"    value{n:d} = lines[at + {len(key) - 2:d} : find(b'\\r\\n', at + {len(key):d}) - 2].strip(b' \\t')",
            ]
            continue
        code += [
            f"    at = find(key{n:d})",
            "    if at < 0:",
            f"        value{n:d} = b''",
            "    else:",
            f"        end = find(b'\\r\\n', at + {len(key):d})",
            f"        value{n:d} = lines[at + {len(key) - 2:d} : end - 2].strip(b' \\t')",
            f"        if find(key{n:d}, end) >= 0:",
            f"            value{n:d} = wire_bytes(joined(name{n:d}) or '')",
            f"        there |= {1 << n:d}",
        ]
    code.append(f"    return (there, {''.join(values)})")
    exec(compile("\n".join(code), "<wanted headers>", "exec"), theirs)
    made: Any = theirs["read"]
    return made  # type: ignore[no-any-return]


@functools.lru_cache(MOST_READINGS)
def _in_order(names: tuple[str, ...], times: tuple[int | None, ...], order: tuple[str, ...]) -> Reading:
    """``_reading`` of lines in which those of ``order`` come in that order, one of each: what stands behind one is all that is
    looked through for the next. That takes half as long, where they are spelled in one of two usual ways and are not the first
    line."""
    other = _reading(names, (), times)
    left = {name: each for name, each in zip(names, times, strict=True) if name not in order and each != 0}
    if len(left) > MOST_BITS:
        return other
    theirs: dict[str, object] = {"__builtins__": {}, "other": other}
    code = ["def read(lines, lower, joined, known):", "    rest = lines"]
    for n, name in enumerate(order):
        for spelled, each in (("usual", name), ("titled", name.title())):
            theirs[f"{spelled}{n:d}"] = b"\n%b: " % each.encode("latin-1", "replace")
        code += [
            f"    _, found, behind = rest.partition(usual{n:d})",
            "    if not found:",
            f"        _, found, behind = rest.partition(titled{n:d})",
            "        if not found:",
            "            return other(lines, lower, joined, known)",
            f"    value{n:d}, _, rest = behind.partition(b'\\r')",
        ]
    there = f"{sum([1 << n for n, name in enumerate(names) if name in order])}"
    places = {name: f"value{n:d}.strip(b' \\t')" for n, name in enumerate(order)}
    if left:
        theirs["find"] = _reading(tuple(left), (), tuple(left.values()))
        theirs["bits"] = [_bits(has, names, tuple(left)) for has in range(1 << len(left))]
        code.append(f"    has, {''.join(f'more{n:d}, ' for n in range(len(left)))}= find(lines, lower, joined, ())")
        there += " | bits[has]"
        places |= {name: f"more{n:d}" for n, name in enumerate(left)}
    code.append(f"    return ({there}, {''.join([places.get(name, repr(b'')) + ', ' for name in names])})")
    exec(compile("\n".join(code), "<wanted headers>", "exec"), theirs)
    made: Any = theirs["read"]
    return made  # type: ignore[no-any-return]


@functools.lru_cache(MOST)
def _in_groups(names: tuple[str, ...], groups: tuple[int, ...]) -> InGroups:
    """As ``_reading``: a function of its own, which asks for all groups at once."""
    code = ["def read(found, says):", f"    there = {sum([1 << n for n, group in enumerate(groups) if group > 0])}"]
    known = {n: group for n, group in enumerate(groups) if group > 0}
    if len(known) > 1:  # of one group its value comes, not a tuple
        code.append(f"    {', '.join(f'value{n:d}' for n in known)} = found.group{tuple(known.values())}")
    else:
        code += [f"    value{n:d} = found[{group:d}]" for n, group in known.items()]
    theirs: dict[str, object] = {"__builtins__": {}, "wire_bytes": wire_bytes}
    for n, group in enumerate(groups):
        if group == 0:
            theirs[f"name{n:d}"] = names[n]
            code += [
                f"    value{n:d} = says.header(name{n:d})",
                f"    if value{n:d} is not None:",
                f"        there |= {1 << n:d}",
                f"    value{n:d} = wire_bytes(value{n:d} or '')",
            ]
    places = {n: f"value{n:d}.strip(b' \\t'), " if group else f"value{n:d}, " for n, group in enumerate(groups)}
    values = [places[n] if group >= 0 else "b'', " for n, group in enumerate(groups)]
    code.append(f"    return (there, {''.join(values)})")
    exec(compile("\n".join(code), "<wanted headers>", "exec"), theirs)
    made: Any = theirs["read"]
    return made  # type: ignore[no-any-return]


def _bits(has: int, names: tuple[str, ...], others: tuple[str, ...]) -> int:
    """Which of ``names`` are there, as far as ``others`` say, of which ``has`` are."""
    return sum([1 << n for n, name in enumerate(names) if name in others and has & 1 << others.index(name)])
