"""The responses of one connection for somebody who passes them on: their heads stay bytes, and trailers are read over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httptools

from meshlib.transport.protocol.http1 import FEW_MISSES, MAX_HEAD_BYTES, MAX_HEADERS, SELDOM, ResponseReader
from meshlib.transport.protocol.known_heads import LONGEST_HEAD, KnownHead, remember
from meshlib.transport.protocol.received_head import UNTOLD, ReceivedHead, at_a_glance, laid_out, received
from meshlib.transport.protocol.request_head import IN_VALUES
from meshlib.transport.protocol.response_layout import LOOKED_AT, response_layout_of
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.protocol.strict_parser import REFUSES_ODD_RESPONSES

if TYPE_CHECKING:
    from meshlib.transport.protocol.received_head import Shape
    from meshlib.transport.protocol.response_layout import ResponseLayout

NO_CONTENT = 204
NOT_MODIFIED = 304
_END_OF_HEAD = b"\r\n\r\n"
_LINE_END = b"\r\n"
_LENGTH = b"content-length"
_OK = b"OK"
_BEFORE_REASON = len("HTTP/1.1 200 ")
_STATUSES = {b"HTTP/1.1 %d " % each: each for each in range(200, 600) if each not in (NO_CONTENT, NOT_MODIFIED)}
"""Of responses that have a body."""
_FEW = len("a:\r\n") * MAX_HEADERS
"""Bytes that no more headers than those have."""
_known: dict[bytes, KnownHead] = {}


class _Whole:
    """Hears of a parser that a message is over, which pops ``coming``; once, or it is an error. No step of bytecode."""

    __slots__ = ("on_message_complete",)

    def __init__(self, coming: list[None]) -> None:
        self.on_message_complete: Callable[[], None] = coming.pop


class RawResponseReader(ResponseReader):
    """A ``ResponseReader`` whose ``headers`` are a ``ReceivedHead``. No step of bytecode a header (row "proxy: HTTP/1.1")."""

    __slots__ = ("_as_new", "_coming", "_glances", "_layout", "_looks", "_raw")

    on_header = None  # type: ignore[assignment] # llhttp tells nobody of them
    on_status = None  # type: ignore[assignment] # the status line says it
    known = _known

    def __init__(self) -> None:
        self._as_new = False
        """Whether nothing has changed since ``begin`` but what a known head changes."""
        self._glances: Any = None
        """llhttp again, for responses that are whole as they come; it hears of nothing but their end."""
        self._coming: list[None] = []
        self._layout: ResponseLayout[Shape] | None = None
        """Of some of the responses before."""
        self._looks = 0
        """At responses of which no layout was known."""
        super().__init__()

    def begin(self, head_request: bool) -> None:
        """A response is expected now."""
        if self._as_new and not head_request:  # the last one was known
            self._as_new = self.begun = self.head_done = self.complete = False
            self._size = 0
            if self.chunks:
                self.chunks = []
            return
        self._as_new = False
        self._raw = b""
        super().begin(head_request)

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        head_end = 0
        if not self.head_done:
            if not self.begun and self._bare is None:
                # as ``ResponseReader`` does, without what it has to set for others
                misses = self._misses
                if misses < FEW_MISSES:
                    head_end = data.find(_END_OF_HEAD, 0, LONGEST_HEAD) + 4
                    found = self.known.get(data[:head_end])
                    if found is not None and len(data) == head_end + found[3]:
                        self.status, self.reason, self.headers, length = found
                        self._size = len(data)
                        self._as_new = self.begun = self.head_done = self.complete = self.keep_alive = True
                        if length:
                            self.chunks.append(data[head_end:])
                        self._misses = 0
                        return
                self._misses = misses + 1 if misses < FEW_MISSES + SELDOM - 1 else FEW_MISSES - 1
                self.begun = True
                if self._glanced(data, head_end):
                    return
            raw = self._raw
            self._raw = raw + data if raw else data
            if not self.begun:  # a response to HEAD
                super().feed(data)
                return
        elif self.complete:
            self.poisoned = True  # nobody asked for these
            return
        self._parse(data, head_end)

    def _glanced(self, data: bytes, known_end: int) -> bool:
        """Read what is a whole response that keeps its connection, as nearly all are, with fewer looks at it (row
        "proxy-inprocess"). False: it is not one, or not to be taken, and nothing has happened. ``known_end``: where its head
        ends, to be remembered; 0: it is not to be."""
        status = _STATUSES.get(data[:_BEFORE_REASON])
        if status is None or not REFUSES_ODD_RESPONSES or PLAIN:
            return False
        size, layout = len(data), self._layout
        found = None if layout is None or known_end else layout.match(data)
        if found is None:
            end = data.find(_END_OF_HEAD) + 4
            if not 4 <= end <= MAX_HEAD_BYTES:
                return False
            line_end = data.find(_LINE_END)
            reason = data[_BEFORE_REASON:line_end]
            head = at_a_glance(data[line_end + 2 : end - 2], size - end)
            if head is None or (end > _FEW and head.lines.count(b"\n") > MAX_HEADERS):
                return False
        else:
            end, parts = found.end(), found.groups()
            reason = parts[0]
            if end > MAX_HEAD_BYTES or parts[layout.length] != b"%d" % (size - end):  # type: ignore[union-attr]
                return False
            head = laid_out(data[_BEFORE_REASON + 2 + len(reason) : end - 2], layout, parts)  # type: ignore[arg-type]
        if reason != _OK and reason.translate(None, IN_VALUES):
            return False
        coming = self._coming
        parser = self._glances
        if parser is None:
            self._glances = parser = httptools.HttpResponseParser(_Whole(coming))
        coming.append(None)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            coming.append(None)
        if coming:  # none, or more than one
            coming.clear()
            self._glances = None
            return False
        self.status = status
        self.reason = reason
        self.headers = head  # type: ignore[assignment]
        self._size = size
        self._as_new = self.head_done = self.complete = self.keep_alive = True
        if size != end:
            self.chunks.append(data[end:])
        if found is None:
            self._looks += 1
            if self._looks % LOOKED_AT == 1:
                self._layout = response_layout_of(head.lines, head.shape) or layout
        if known_end == end:
            head.told = UNTOLD
            remember(self.known, data[:end], (status, reason, head, size - end))  # type: ignore[arg-type]
        return True

    def on_headers_complete(self) -> None:
        """httptools' callback."""
        if self.complete or self.error:
            return
        raw = self._raw
        if raw[:1] != b"H":  # behind an interim one: llhttp has passed over empty lines, and these bytes have them
            self._fail("the response does not begin with HTTP/1")
            return
        end = raw.find(_END_OF_HEAD) + 4
        found = received(raw[:end]) if end > 3 else None
        if found is None:
            self._fail("the head of the response holds a control character, a bare line break or a folded header")
            return
        self._raw = b""
        self.headers = found  # type: ignore[assignment]
        self.reason = raw[_BEFORE_REASON : raw.find(_LINE_END)]
        super().on_headers_complete()
        status = self.status
        if status < 200:  # an interim response: the next one follows
            self._raw = raw[end:]
        if (status < 200 or status == NO_CONTENT) and (found.sized or found.coded):
            self._without_content(found)

    def _without_content(self, found: ReceivedHead) -> None:
        """Of a status that has no content, whatever its head says: who gets that head might wait for some, and take the next
        response for it (RFC 9110, 8.6; RFC 9112, 6.1). As in Envoy a length of 0 is dropped, and nothing else taken."""
        if found.coded or found.values(_LENGTH) != [b"0"]:
            self._fail(f"the response says how long its body is, and its status, {self.status}, has none")
        elif self.head_done:
            self.headers = found.without(_LENGTH)  # type: ignore[assignment]

    def _codings(self) -> list[bytes]:
        found = cast("ReceivedHead", self.headers)
        return found.values(b"transfer-encoding") if found.coded else []

    def _has_length(self) -> bool:
        return cast("ReceivedHead", self.headers).sized
