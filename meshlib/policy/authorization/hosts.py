"""Hosts (``hosts``; ``request.headers[:authority]``): any case, port and final dot as they come."""

from __future__ import annotations

import re

from meshlib.policy.authorization.patterns import Entries, Patterns, mapped
from meshlib.policy.regex import wire

_PORT = re.compile(r":[0-9]*\Z")


class Hosts:
    """Which bits have a pattern of the host that an authority names. Envoy compares the authority as it came, but for its
    case. So does this for bits in ``certain``; for others the host without port, without its final dot, and without both
    count too."""

    __slots__ = ("_patterns", "certain")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self.certain = certain
        self._patterns = Patterns(mapped(entries, lambda value: wire(value).lower()))

    def __call__(self, authority: str) -> int:
        """The bits."""
        name = authority.lower()
        found = self._patterns(name)
        if self.certain != -1:
            port = _PORT.search(name)
            host = name if port is None else name[: port.start()]
            bare = host.removesuffix(".")
            others = {host, bare, bare + ("" if port is None else port[0])}
            for other in others:
                if other != name:
                    found |= self._patterns(other) & ~self.certain
        return found


class Authorities(Hosts):
    """The same for the header ``:authority``, whose case Envoy compares: for bits in ``certain`` it must be that of the
    pattern."""

    __slots__ = ("_to_the_letter",)

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        super().__init__(entries, certain)
        self._to_the_letter = Patterns(mapped(entries, wire), certain)

    def __call__(self, authority: str) -> int:
        """The bits."""
        return (self._to_the_letter(authority) & self.certain) | (super().__call__(authority) & ~self.certain)
