"""A request whose head is laid out as many before it (``head_layout.py``): what all of these have in common is known, and the
rest is read where it is known to stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.proxy.request import FIRST_COUNT, METHODS, ProxyRequest
from meshlib.transport.protocol.raw_head import RawHead

if TYPE_CHECKING:
    import re

    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.transport.protocol.head_layout import HeadLayout

_BLANK = b" \t"
_LINE_END = b"\r\n"
_new = object.__new__


class LaidOutRequest(ProxyRequest):
    """It has no body. ``laid_out`` makes one."""

    __slots__ = ("_found", "_layout", "_less", "_lower", "_traced")

    _found: re.Match[bytes] | None
    """None: its header lines are no longer those that it came with."""
    _layout: HeadLayout
    _less: int
    """By how many bytes its lines are longer than what they say, less those of its method."""
    _lower: bytes | None
    _traced: bytes | None
    """Its traceparent, where that is not the one that it came with."""

    @property
    def lower(self) -> bytes:
        """Made for who asks: most need none."""
        lower = self._lower
        if lower is None:
            self._lower = lower = _LINE_END + self.lines.lower()
        return lower

    @lower.setter
    def lower(self, lower: bytes) -> None:
        self._found = None
        self._lower = lower

    def header(self, name: str) -> str | None:
        """As ``ProxyRequest``'s."""
        found = self._found
        if found is not None:
            at = self._layout.at.get(name, -1)
            if at < 0:
                return None
            if at:
                value = found[at] if name != "traceparent" or self._traced is None else self._traced
                return value.strip(_BLANK).decode("latin-1")
        return ProxyRequest.header(self, name)

    def laid_out_values(self, wanted: WantedHeaders) -> Values | None:
        """As ``values_of``, where nothing has to be looked for but what is not known. None: ``lower`` says more."""
        found, layout = self._found, self._layout
        if found is None or (self._traced is not None and "traceparent" in wanted.names):
            return None
        read = layout.readings.get(wanted) or layout.reading(wanted)
        return read(found, self)

    def to_application_with(self, added: bytes, lower: bytes) -> None:
        """As ``ProxyRequest``'s."""
        if self._found is None or self._headers is not self._received:
            ProxyRequest.to_application_with(self, added, lower)
            return
        self.counts = False  # the rest is as it came
        self._relined(self.lines + added)
        self._less += 4 * added.count(b"\n")
        if self._lower is not None:
            self._lower += lower

    def traced_by(self, traceparent: bytes, came: bytes) -> None:
        """As ``ProxyRequest``'s."""
        found = self._found
        if found is not None:
            layout, received, size = self._layout, self._received, len(came)
            at = layout.at.get("traceparent", 0)
            if at and size == len(traceparent) and self._headers is received:
                lines: bytes = received.lines  # type: ignore[union-attr]
                start = found.start(at) - layout.before - len(self.target)
                received.lines = b"".join((lines[:start], traceparent, lines[start + size :]))  # type: ignore[union-attr]
                received._pairs = None  # type: ignore[union-attr]
                self._traced = traceparent
                return
            self.lower = self.lower  # from here on headers are looked for
        ProxyRequest.traced_by(self, traceparent, came)

    def head_bytes(self) -> int:
        """As ``ProxyRequest``'s."""
        headers = self._headers
        if headers is self._received and self._found is not None:
            return len(headers.lines) + len(self.target) - self._less  # type: ignore[union-attr]
        return ProxyRequest.head_bytes(self)

    sent_bytes = head_bytes

    def encoded(self, attempt: int) -> bytes | None:
        """As ``ProxyRequest``'s."""
        headers = self._headers
        if attempt == 1 and self.counts and headers is self._received and self._found is not None and not self.counted:
            lines: bytes = headers.lines  # type: ignore[union-attr]
            return b"".join((self.verb, b" ", self.target, b" HTTP/1.1\r\n", lines, FIRST_COUNT, _LINE_END))
        return ProxyRequest.encoded(self, attempt)


def laid_out(layout: HeadLayout, found: re.Match[bytes], authority: str, lines: bytes, added: int) -> LaidOutRequest:
    """One for ``authority``, of what ``layout`` has matched. ``lines``: its header lines, with ``added`` ones at the end that
    nobody is ``special`` to (``head_layout.MAY_COME``). Not its ``__init__``, which would look at what is known."""
    made: LaidOutRequest = _new(LaidOutRequest)
    made._found = found
    made._layout = layout
    made._lower = made._traced = None
    made.verb = verb = layout.method
    made.method = method = METHODS[verb]
    made._less = 4 * (layout.lines + added) - len(method)
    made.scheme = "http"
    made.authority = made.dialled = authority
    made.target = target = found[1]
    made.full_path = full_path = target.decode()
    made.path, _, made.query = full_path.partition("?")
    made.special = layout.special
    made.has_envoy_headers = made.counted = False
    made.protocol = "http"
    head = _new(RawHead)
    head.lines = lines
    head._pairs = None
    made._received = made._headers = head
    made.body = None
    made._framed = made.counts = True
    return made
