"""The responses of one connection for somebody who passes them on: their heads stay bytes, and trailers are read over."""

from __future__ import annotations

from typing import cast

from meshlib.transport.protocol.http1 import FEW_MISSES, ResponseReader
from meshlib.transport.protocol.known_heads import LONGEST_HEAD, KnownHead
from meshlib.transport.protocol.received_head import ReceivedHead, received

NO_CONTENT = 204
_END_OF_HEAD = b"\r\n\r\n"
_LINE_END = b"\r\n"
_LENGTH = b"content-length"
_BEFORE_REASON = len("HTTP/1.1 200 ")
_known: dict[bytes, KnownHead] = {}


class RawResponseReader(ResponseReader):
    """A ``ResponseReader`` whose ``headers`` are a ``ReceivedHead``. No step of bytecode a header (row "proxy: HTTP/1.1")."""

    __slots__ = ("_as_new", "_raw")

    on_header = None  # type: ignore[assignment] # llhttp tells nobody of them
    on_status = None  # type: ignore[assignment] # the status line says it
    known = _known

    def __init__(self) -> None:
        self._as_new = False
        """Whether nothing has changed since ``begin`` but what a known head changes."""
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
            if not self.begun and self._bare is None and self._misses < FEW_MISSES:
                # as ``ResponseReader`` does, without what it has to set for others
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
                self.begun = True
                self._misses += 1
            raw = self._raw
            self._raw = raw + data if raw else data
            if not self.begun:  # a response to HEAD, or of a server whose heads are all different
                super().feed(data)
                return
        elif self.complete:
            self.poisoned = True  # nobody asked for these
            return
        self._parse(data, head_end)

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
