"""Who the peer is: its SPIFFE id, and the namespace, service account and trust domain in it.

Istio hands Envoy regular expressions for these; here is what they match, looked up. An id is never empty here: of a peer
without one nobody asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.policy.authorization.blocks import UnknownValue
from meshlib.policy.authorization.patterns import Entries, Patterns
from meshlib.policy.regex import compile_full_match, quoted

SCHEME = "spiffe://"
MOST_PARTS = 64
"""Of one id: more namespaces or accounts than that are in none that somebody means."""


class Principals:
    """Which bits have a pattern of the id, which they write without ``spiffe://``."""

    __slots__ = ("_patterns",)

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._patterns = Patterns(entries, certain)

    def __call__(self, principal: str) -> int:
        """The bits."""
        return self._patterns(principal[len(SCHEME) :]) if principal.startswith(SCHEME) else 0


class Namespaces:
    """Which bits have a pattern of what stands between ``/ns/`` and a later slash of the id."""

    __slots__ = ("_exact", "_others")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._exact = Patterns([(bits, [v for v in values if "*" not in v]) for bits, values in entries])
        self._others = [
            (bits, compile_full_match(f".*/ns/{'.*'.join(quoted(part) for part in value.split('*'))}/.*"))
            for bits, values in entries
            for value in values
            if "*" in value
        ]

    def __call__(self, principal: str) -> int:
        """The bits. Raises ``UnknownValue`` for an id with more namespaces than anybody means."""
        found = 0
        for namespace in _namespaces(principal):
            found |= self._exact(namespace)
        for bits, matches in self._others:
            if bits & ~found and matches(principal):
                found |= bits
        return found


def _namespaces(principal: str) -> Iterator[str]:
    left = MOST_PARTS
    start = principal.find("/ns/")
    while start >= 0:
        start += len("/ns/")
        end = principal.find("/", start)
        while end >= 0:
            left -= 1
            if left < 0:
                raise UnknownValue(principal)
            yield principal[start:end]
            end = principal.find("/", end + 1)
        start = principal.find("/ns/", start - 1)


class ServiceAccounts:
    """Which bits have a ``namespace/account`` that the id has: ``/ns/namespace/`` and later ``sa/account``, as segments."""

    __slots__ = ("_accounts",)

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._accounts: dict[str, int] = {}
        for bits, values in entries:
            for value in values:
                self._accounts[value] = self._accounts.get(value, 0) | bits

    def __call__(self, principal: str) -> int:
        """The bits. Raises ``UnknownValue`` for an id with more accounts than anybody means."""
        segments = principal.removeprefix(SCHEME).split("/")
        spaces = [i for i, segment in enumerate(segments) if segment == "ns" and i]
        accounts = [i for i, segment in enumerate(segments) if segment == "sa"]
        if len(spaces) * len(accounts) > MOST_PARTS:
            raise UnknownValue(principal)
        found = 0
        for space in spaces:
            for account in accounts:
                if account >= space + 2 and account + 1 < len(segments):
                    found |= self._accounts.get(f"{segments[space + 1]}/{segments[account + 1]}", 0)
        return found


class TrustDomains:
    """Which bits have a pattern of the id's trust domain. ``*`` stands for a part of one, too; alone for any."""

    __slots__ = ("_exact", "_others", "_present")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._present = 0
        self._exact: dict[str, int] = {}
        self._others: list[tuple[int, str, str]] = []
        for bits, values in entries:
            for value in values:
                if value == "*":
                    self._present |= bits
                elif "*" in value:
                    start, _, end = value.partition("*")
                    self._others.append((bits, start, end))
                else:
                    self._exact[value] = self._exact.get(value, 0) | bits

    def __call__(self, principal: str) -> int:
        """The bits."""
        if not principal.startswith(SCHEME):
            return 0
        domain, slash, _ = principal[len(SCHEME) :].partition("/")
        if not slash:
            return self._present
        found = self._present | self._exact.get(domain, 0)
        for bits, start, end in self._others:
            if len(domain) >= len(start) + len(end) and domain.startswith(start) and domain.endswith(end):
                found |= bits
        return found
