"""The responses of one connection for somebody who passes them on: their heads stay bytes, and trailers are read over."""

from __future__ import annotations

from typing import cast

from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.known_heads import KnownHead
from meshlib.transport.protocol.received_head import ReceivedHead, received

_END_OF_HEAD = b"\r\n\r\n"
_known: dict[bytes, KnownHead] = {}


class RawResponseReader(ResponseReader):
    """A ``ResponseReader`` whose ``headers`` are a ``ReceivedHead``. No step of bytecode a header (row "proxy: HTTP/1.1")."""

    __slots__ = ("_raw",)

    on_header = None  # type: ignore[assignment] # llhttp tells nobody of them
    known = _known

    def begin(self, head_request: bool) -> None:
        """A response is expected now."""
        self._raw = b""
        super().begin(head_request)

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        if not self.head_done:
            raw = self._raw
            self._raw = raw + data if raw else data
        super().feed(data)

    def on_headers_complete(self) -> None:
        """httptools' callback."""
        if self.complete or self.error:
            return
        raw = self._raw
        end = raw.find(_END_OF_HEAD) + 4
        found = received(raw[:end]) if end > 3 else None
        if found is None:
            self._fail("the head of the response holds a control character, a bare line break or a folded header")
            return
        self._raw = raw[end:]  # of an interim response: the next one
        self.headers = found  # type: ignore[assignment]
        super().on_headers_complete()

    def _codings(self) -> list[bytes]:
        found = cast("ReceivedHead", self.headers)
        return found.values(b"transfer-encoding") if found.coded else []

    def _has_length(self) -> bool:
        return cast("ReceivedHead", self.headers).sized
