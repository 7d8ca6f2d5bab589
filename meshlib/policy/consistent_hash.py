"""Consistent hashing (DestinationRule ``loadBalancer.consistentHash``): what is hashed, and the two tables that turn a hash
into an endpoint. Hash function, ring and Maglev table are Envoy's, so that a Python client and an Envoy beside it send
the same key to the same endpoint.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import xxhash

from meshlib.policy.endpoint import EndpointState
from meshlib.policy.http_match import RequestView, first_parameter

MAX_RING_SIZE = 8 * 1024 * 1024
TABLES_KEPT, ENTRIES_KEPT = 64, 1_000_000
"""Ring and Maglev tables remembered, and their entries together: an ejection and the return from it find theirs again."""
IN_ONE_SORT = 512
"""Points of a ring: to sort all of 100,000 at once stops every thread of the process for as long."""

_hash = xxhash.xxh64_intdigest


@dataclass(frozen=True, slots=True)
class Cookie:
    """``ttl`` None: hash the cookie when it is there; else make one that lasts so many seconds (0: for the session)."""

    name: str
    ttl: float | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def set_cookie(self, value: str) -> str:
        """The Set-Cookie of a made one, as Envoy writes it."""
        parts = [f'{self.name}="{value}"']
        if self.ttl:
            parts.append(f"Max-Age={int(self.ttl)}")
        if self.path:
            parts.append(f"Path={self.path}")
        parts += [f"{name}={value_}" if value_ else name for name, value_ in self.attributes]
        return "; ".join([*parts, "HttpOnly"])


@dataclass(frozen=True, slots=True)
class HashPolicy:
    """One key (``header``, ``cookie``, ``query`` or ``source``) and one table: ``maglev`` with ``size`` entries, else a
    ring of at least ``size``. Header names in lower case."""

    header: str = ""
    cookie: Cookie | None = None
    query: str = ""
    source: bool = False
    maglev: bool = False
    size: int = 1024

    def request_hash(self, view: RequestView, source: str) -> int | None:
        """The hash of a request, None when the key is not in it (then any endpoint does)."""
        if self.header:
            value = view.header(self.header)
        elif self.cookie is not None:
            value = cookie_value(view.header("cookie") or "", self.cookie.name) or None
        elif self.query:
            value = first_parameter(view.query, self.query)
        else:
            value = source or None
        return None if value is None else hash_of(value)

    def table(self, usable: Sequence[tuple[EndpointState, float]]) -> Table:
        """The table for these endpoints and their weights; known ones are found again."""
        key = (self.maglev, self.size, *_told(usable))
        found = _tables.get(key)
        if found is None:
            made = _maglev(usable, self.size) if self.maglev else _ring(usable, self.size)
            found = _tables[key] = made
            while len(_tables) > TABLES_KEPT or (len(_tables) > 1 and _entries() > ENTRIES_KEPT):
                _tables.popitem(last=False)
        members = [endpoint for endpoint, _ in usable]
        return found.over(members)

    @property
    def key(self) -> str:
        """For people: ``header x-user``."""
        if self.cookie is not None:
            return f"cookie {self.cookie.name}"
        return f"header {self.header}" if self.header else f"query {self.query}" if self.query else "source address"

    @property
    def kind(self) -> str:
        """For people: the table."""
        return "maglev" if self.maglev else "ring hash"


class Table(Protocol):
    """Finds the endpoint of a hash; ``attempt`` counts the picks that led to an endpoint which is to be avoided."""

    def find(self, value: int, attempt: int = 0) -> EndpointState: ...
    def over(self, members: Sequence[EndpointState]) -> Table: ...
    def __len__(self) -> int: ...


class _Ring:
    """Points on a circle in order, each the position of an endpoint."""

    __slots__ = ("_hashes", "_members", "_owners")

    def __init__(self, hashes: list[int], owners: list[int], members: Sequence[EndpointState]) -> None:
        self._hashes = hashes
        self._owners = owners
        self._members = members

    def find(self, value: int, attempt: int = 0) -> EndpointState:
        at = bisect_left(self._hashes, value)
        size = len(self._owners)
        return self._members[self._owners[((at if at < size else 0) + attempt) % size]]

    def over(self, members: Sequence[EndpointState]) -> Table:
        return _Ring(self._hashes, self._owners, members)

    def __len__(self) -> int:
        return len(self._owners)


class _Maglev:
    """A table in which every endpoint has its share of entries."""

    __slots__ = ("_members", "_owners", "_size")

    def __init__(self, owners: Sequence[int], members: Sequence[EndpointState]) -> None:
        self._owners = owners
        self._size = len(owners)
        self._members = members

    def find(self, value: int, attempt: int = 0) -> EndpointState:
        if attempt:
            value ^= 2**64 - attempt
        return self._members[self._owners[value % self._size]]

    def over(self, members: Sequence[EndpointState]) -> Table:
        return _Maglev(self._owners, members)

    def __len__(self) -> int:
        return self._size


_tables: OrderedDict[object, Table] = OrderedDict()


def _told(usable: Sequence[tuple[EndpointState, float]]) -> tuple[object, ...]:
    """What a table hangs on, in little room: names by a digest, weights where they differ."""
    names = blake2b("\n".join([endpoint.key for endpoint, _ in usable]).encode(), digest_size=32).digest()
    weights = [weight for _, weight in usable]
    return names, len(weights), weights[0] if weights.count(weights[0]) == len(weights) else tuple(weights)


def _entries() -> int:
    return sum(map(len, list(_tables.values())))


def _normalized(usable: Sequence[tuple[EndpointState, float]]) -> list[float]:
    total = sum(weight for _, weight in usable)
    return [weight / total for _, weight in usable]


def _ring(usable: Sequence[tuple[EndpointState, float]], minimum: int) -> Table:
    """Envoy's ring: the lightest endpoint gets a whole number of points, the ring at least ``minimum``."""
    weights = _normalized(usable)
    least = min(weights)
    scale = min(math.ceil(least * minimum) / least, MAX_RING_SIZE)
    bits = max(0, math.ceil(scale) // IN_ONE_SORT).bit_length()
    parts: list[list[tuple[int, int]]] = [[] for _ in range(1 << bits)]  # of the circle, in order
    shift = 64 - bits
    current = target = 0.0
    for owner, (endpoint, _) in enumerate(usable):
        target += scale * weights[owner]
        name = f"{endpoint.key}_".encode()
        number = 0
        while current < target:
            point = _hash(name + b"%d" % number)
            parts[point >> shift].append((point, owner))
            number += 1
            current += 1
    hashes: list[int] = []
    owners: list[int] = []
    for points in parts:
        points.sort()
        hashes += [point for point, _ in points]
        owners += [owner for _, owner in points]
    return _Ring(hashes, owners, ())


def _maglev(usable: Sequence[tuple[EndpointState, float]], size: int) -> Table:
    """The table of the Maglev paper with weights, as Envoy fills it."""
    weights = _normalized(usable)
    most = max(weights)
    owners = [-1] * size
    names = [endpoint.key.encode() for endpoint, _ in usable]
    at = [_hash(name) % size for name in names]
    skips = [_hash(name, 1) % (size - 1) + 1 for name in names]
    targets = [0.0] * len(names)
    filled = 0
    turn = 1
    even = all(weight == most for weight in weights)
    while filled < size:
        for owner, skip in enumerate(skips):
            if not even:
                if turn * weights[owner] < targets[owner]:
                    continue
                targets[owner] += most
            place = at[owner]
            while owners[place] >= 0:
                place += skip
                if place >= size:
                    place -= size
            owners[place] = owner
            filled += 1
            if filled == size:
                break
            place += skip
            at[owner] = place if place < size else place - size
        turn += 1
    return _Maglev(owners, ())


def hash_of(value: str) -> int:
    """Envoy's hash of a key."""
    return _hash(value.encode("latin-1", "replace"))


def combined(before: int | None, value: int) -> int:
    """The hash of a request by several policies: each turns what those before it have found, and adds its own."""
    if before is None:
        return value
    return ((before << 1) & (2**64 - 1) | before >> 63) ^ value


def cookie_value(header: str, name: str) -> str:
    """The value of a cookie in a Cookie header, without its quotes; "" when it is not there."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return ""


def new_cookie_value(rng: random.Random) -> str:
    """A value for a made cookie."""
    return f"{rng.getrandbits(64):016x}"
