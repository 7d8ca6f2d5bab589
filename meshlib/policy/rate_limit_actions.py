"""What a request is counted by under an Envoy's rate limits: ``rate_limits`` of a route or virtual host, each a list of actions
that makes a descriptor, a list of keys with values."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from meshlib.policy.envoy_matchers import HeaderMatch, QueryMatch, header_of, query_parameter
from meshlib.policy.inbound_view import InboundView
from meshlib.policy.regex import wire

Entry: TypeAlias = tuple[str, str]
Descriptor: TypeAlias = tuple[Entry, ...]

ABSENT = object()
"""An action that adds nothing, and lets the others make a descriptor."""
Acting: TypeAlias = Callable[[InboundView], "Entry | object | None"]


class Action(Protocol):
    """One of ``actions``. What it is compiled to gives an entry; None: there is no descriptor then."""

    def compile(self) -> Acting: ...


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """The address of whom the nearest proxy has seen; the first bits of it where ``v4`` and ``v6`` say how many."""

    key: str = "remote_address"
    v4: int = 32
    v6: int = 128

    def compile(self) -> Acting:
        if (self.v4, self.v6) == (32, 128) and self.key == "remote_address":
            key = self.key
            return lambda request: (key, request.remote_ip) if request.remote_ip else None
        return self._masked

    def _masked(self, request: InboundView) -> Entry | None:
        if not request.remote_ip:
            return None
        address = ipaddress.ip_address(request.remote_ip)
        bits = self.v4 if address.version == 4 else self.v6
        return self.key, str(ipaddress.ip_network((address, bits), strict=False))


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """The value of a header, or pseudo-header."""

    header: str
    key: str
    skip_if_absent: bool = False

    def compile(self) -> Acting:
        value_of, key, otherwise = header_of(self.header), self.key, ABSENT if self.skip_if_absent else None

        def act(request: InboundView) -> Entry | object | None:
            value = value_of(request)
            return otherwise if value is None else (key, value)

        return act


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """The value of a parameter of the query."""

    name: str
    key: str
    skip_if_absent: bool = False

    def compile(self) -> Acting:
        def act(request: InboundView) -> Entry | object | None:
            value = query_parameter(request.query, self.name)
            if value is None:
                return ABSENT if self.skip_if_absent else None
            return self.key, value

        return act


@dataclass(frozen=True, slots=True)
class GenericKey:
    """The same for all requests."""

    value: str
    key: str = "generic_key"

    def compile(self) -> Acting:
        entry = (self.key, wire(self.value))
        return lambda request: entry


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """``value`` where all ``conditions`` hold (or, not ``expected``, where one does not)."""

    value: str
    key: str
    conditions: tuple[HeaderMatch | QueryMatch, ...]
    expected: bool = True

    def compile(self) -> Acting:
        entry = (self.key, wire(self.value))
        tests = [condition.compile() for condition in self.conditions]
        expected = self.expected
        return lambda request: entry if all(test(request) for test in tests) is expected else None


@dataclass(frozen=True, slots=True)
class RateLimitActions:
    """One of ``rate_limits``; ``hits``: what a request counts for."""

    actions: tuple[Action, ...]
    hits: int = 1
    stage: int = 0


Describe: TypeAlias = Callable[[InboundView], list[tuple[Descriptor, int]]]


def compile_actions(rate_limits: tuple[RateLimitActions, ...]) -> Describe:
    """The function that gives the descriptors of a request, with what it counts for at each."""
    compiled = [([action.compile() for action in limit.actions], limit.hits) for limit in rate_limits]

    def describe(request: InboundView) -> list[tuple[Descriptor, int]]:
        found: list[tuple[Descriptor, int]] = []
        for actions, hits in compiled:
            entries: list[Entry] = []
            for act in actions:
                entry = act(request)
                if entry is None:
                    break
                if isinstance(entry, tuple):
                    entries.append(entry)
            else:
                if entries:
                    found.append((tuple(entries), hits))
        return found

    return describe
