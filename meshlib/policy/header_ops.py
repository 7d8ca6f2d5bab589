"""Header operations (VirtualService ``headers``): remove, then set, then add, as Envoy applies them.

Values may hold Envoy's command operators ``%REQ(name)%`` and ``%PROTOCOL%``, and ``%%`` for a percent sign; they are computed
when removals are done and nothing else. Names compare without case; bytes and order of other headers stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshlib.policy.regex import wire
from meshlib.policy.unsigned import unsigned

RawHeaders = list[tuple[bytes, bytes]]
"""Headers as on the wire: bytes, order and case kept, repeated names repeated."""


class UnreadHeaders(Protocol):
    """Headers that are the bytes of a head still. Going through them makes the list; asking for one name does not."""

    def values(self, name: bytes) -> list[bytes]:
        """The values of the headers of this name (in lower case)."""
        ...

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...
    def __len__(self) -> int: ...


Headers = RawHeaders | UnreadHeaders
"""Of a response that is passed on."""
Lookup = Callable[[str], str | None]

_OPERATOR = re.compile(r"%%|%REQ\(([^)?]+)(?:\?([^)]+))?\)(?::([0-9]+))?%|%PROTOCOL%|%")


class UnknownOperator(ValueError):
    """A command operator that only a proxy has."""


class Computed:
    """A value with operators: what it is for a request. ``text`` is what the resource says."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str, parts: Sequence[bytes | Callable[[Lookup], bytes]]) -> None:
        self.text = text
        self._parts = tuple(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Computed) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __call__(self, lookup: Lookup) -> bytes:
        return b"".join([part if isinstance(part, bytes) else part(lookup) for part in self._parts])


Value = bytes | Computed


def compile_value(text: str) -> Value:
    """The value as bytes, or a function of the request's headers. Raises ``UnknownOperator``."""
    parts: list[bytes | Callable[[Lookup], bytes]] = []
    at = 0
    for found in _OPERATOR.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()].encode())
        at = found.end()
        token = found.group(0)
        if token == "%%":
            parts.append(b"%")
        elif token == "%PROTOCOL%":
            parts.append(lambda lookup: (lookup(":protocol") or "HTTP/1.1").encode())
        elif token == "%":
            raise UnknownOperator(f"{text!r}: only %REQ(name)%, %PROTOCOL% and %% are known here")
        else:
            parts.append(_request_header(found.group(1), found.group(2), found.group(3)))
    if at < len(text):
        parts.append(text[at:].encode())
    if all(isinstance(part, bytes) for part in parts):
        return b"".join(part for part in parts if isinstance(part, bytes))
    return Computed(text, parts)


def _request_header(name: str, other: str | None, length: str | None) -> Callable[[Lookup], bytes]:
    first, second = wire(name.lower()), wire(other.lower()) if other else None
    limit = unsigned(length)  # None, all of it, also for a length that no header has

    def read(lookup: Lookup) -> bytes:
        value = lookup(first)
        if value is None and second is not None:
            value = lookup(second)
        return (value or "")[:limit].encode("latin-1")

    return read


@dataclass(frozen=True, slots=True)
class HeaderOps:
    """One level's operations; names are lower case, those of ``set`` and ``add`` sorted as Istio sorts them."""

    remove: tuple[bytes, ...] = ()
    set: tuple[tuple[bytes, Value], ...] = ()
    add: tuple[tuple[bytes, Value], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.set or self.add)

    @property
    def text(self) -> str:
        """For people: ``set x-a, add x-b, remove x-c``."""
        parts = [f"{verb} {name.decode('latin-1')}" for verb in ("set", "add") for name, _ in getattr(self, verb)]
        return ", ".join(parts + [f"remove {name.decode('latin-1')}" for name in self.remove])

    def apply(self, headers: Headers, lookup: Lookup) -> RawHeaders:
        """A new list; ``lookup`` reads the request that operators name."""
        gone = set(self.remove)
        return self._changed([pair for pair in headers if pair[0].lower() not in gone] if gone else headers, lookup)

    def apply_to_request(self, headers: RawHeaders, pseudo: Lookup) -> RawHeaders:
        """The same for the request itself: operators read what removals leave; ``pseudo`` reads ``:path`` and its like."""
        gone = set(self.remove)
        kept = [pair for pair in headers if pair[0].lower() not in gone] if gone else headers
        return self._changed(kept, lambda name: pseudo(name) if name.startswith(":") else first_value(kept, name))

    def _changed(self, kept: Headers, lookup: Lookup) -> RawHeaders:
        replaced = _computed(self.set, lookup)
        added = _computed(self.add, lookup)
        over = {name for name, _ in replaced}
        if len(over) < len(replaced):  # the last of several counts, in its place
            last = {name: position for position, (name, _) in enumerate(replaced)}
            replaced = [pair for position, pair in enumerate(replaced) if last[pair[0]] == position]
        return [*(pair for pair in kept if pair[0].lower() not in over), *replaced, *added]


def first_value(headers: RawHeaders, name: str) -> str | None:
    """The first value of a header (``name`` in lower case), as Envoy's operators read it."""
    wanted = name.encode("latin-1")
    for raw_name, value in headers:
        if raw_name.lower() == wanted:
            return value.decode("latin-1")
    return None


def _computed(operations: tuple[tuple[bytes, Value], ...], lookup: Lookup) -> RawHeaders:
    """The headers that set or add make; as in Envoy, an empty value makes none (and replaces none)."""
    made = [(name, value if isinstance(value, bytes) else value(lookup)) for name, value in operations]
    return [pair for pair in made if pair[1]]


def compile_ops(
    remove: Sequence[str], set_: Mapping[str, str], add: Mapping[str, str], skip: frozenset[str] = frozenset()
) -> HeaderOps:
    """Operations of one level; ``skip`` names headers that are handled elsewhere (Host). A value with an operator that is
    not known here is left out: a warning of its resource says so (see ``unknown_operators``)."""
    unknown = unknown_operators(set_).union(unknown_operators(add))

    def pairs(of: Mapping[str, str]) -> tuple[tuple[bytes, Value], ...]:
        return tuple(
            (name.lower().encode(), compile_value(value))
            for name, value in sorted(of.items())
            if name.lower() not in skip and name not in unknown
        )

    return HeaderOps(tuple(n.lower().encode() for n in remove if n.lower() not in skip), pairs(set_), pairs(add))


def unknown_operators(values: Mapping[str, str]) -> set[str]:
    """Names of headers whose values hold an operator that is not known here."""
    found = set()
    for name, value in values.items():
        try:
            compile_value(value)
        except UnknownOperator:
            found.add(name)
    return found


def merge(route: HeaderOps, destination: HeaderOps) -> HeaderOps:
    """The one level that Istio makes of a rule's and its sole destination's operations: the destination's follow the
    rule's, so its set wins (unless its value is empty), both adds count, all removals come first."""
    return HeaderOps(
        (*route.remove, *destination.remove),
        (*route.set, *destination.set),
        (*route.add, *destination.add),
    )
