"""Values of a request's header (``request.headers[..]``): its lines, and what stands between commas in them."""

from __future__ import annotations

from typing import TypeAlias

from meshlib.policy.authorization.patterns import Entries, Patterns, mapped
from meshlib.policy.regex import wire

JOINED = frozenset(
    (
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-type",
        "expect",
        "grpc-accept-encoding",
        "grpc-timeout",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-envoy-attempt-count",
        "x-envoy-external-address",
        "x-envoy-original-path",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
    )
)
"""Headers of which Envoy makes one line of several, which is compared as it is then (a real one: ``tests/differential``)."""

LAST_LINE_ALONE = frozenset(("x-forwarded-for", "x-forwarded-host"))
"""Headers of which gRPC core keeps the last line alone, and to which proxies add lines: nobody knows what the others were."""

UNSEEN = ("\n",)
"""Lines that are there and that nobody knows."""

Lines: TypeAlias = str | tuple[str, ...]
"""One line, or several; an empty tuple: the header is absent."""


class HeaderLines:
    """Which bits have a pattern of a header. Envoy asks whether any line matches, and an application may read any item between
    commas.

    So any line or item counts, and several lines joined, too; but for bits in ``certain`` each line must match, and each of its
    items; a pattern that has a comma itself is only compared with lines. ``*``: the header is there. Of lines that nobody knows
    all that need not be certain counts."""

    __slots__ = ("_all", "_of_lines", "_patterns", "_present", "certain")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self.certain = certain
        self._present = self._all = 0
        for bits, values in entries:
            self._all |= bits
            if "*" in values:
                self._present |= bits
        named = [(bits, [value for value in values if value != "*"]) for bits, values in mapped(entries, wire)]
        self._patterns = Patterns(named)
        self._of_lines = Patterns([(bits, [value for value in values if "," in value]) for bits, values in named])

    def __call__(self, lines: Lines) -> int:
        """The bits."""
        several = (lines,) if isinstance(lines, str) else lines
        if not several:
            return 0
        found = self._present
        if several is UNSEEN:
            return found | (self._all & ~self.certain)
        if self.certain:
            found |= self._every(several) & self.certain
        if self.certain != -1:
            found |= self._any(several) & ~self.certain
        return found

    def _any(self, lines: tuple[str, ...]) -> int:
        found = 0
        for line in lines:
            found |= self._patterns(line.strip(" \t"))
            if "," in line:
                for item in line.split(","):
                    found |= self._patterns(item.strip(" \t"))
        if len(lines) > 1:
            found |= self._patterns(",".join(lines)) | self._patterns(", ".join(lines))
        return found

    def _every(self, lines: tuple[str, ...]) -> int:
        found = -1
        for line in lines:
            whole = line.strip(" \t")
            here = self._patterns(whole)
            if "," in whole and here:
                items = here
                for item in whole.split(","):
                    items &= self._patterns(item.strip(" \t"))
                here = items | self._of_lines(whole)
            found &= here
        return found
