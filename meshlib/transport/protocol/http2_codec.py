"""What ``Http2Session`` asks of an HTTP/2 library, and what the library tells it: bytes, frames and header compression on one
side, what they mean on the other.

Two libraries fill it: nghttp2 (``http2_ngh2.py``, by the package ngh2), which is taken where it is installed, and h2
(``http2_h2.py``), which is Python throughout. One suite of tests holds both to the same promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

MAX_FRAME = 16384  # SETTINGS_MAX_FRAME_SIZE, the protocol's default
HEADER_TABLE = 4096  # bytes of both compression tables, whatever more the server would have
SEND_AT_ONCE = 64 * 1024  # of one body, before others get their turn


class Code(IntEnum):
    """Error codes of RST_STREAM and GOAWAY (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def name_of(code: int) -> str:
    """``CANCEL`` of 8, ``code 99`` of what has no name."""
    try:
        return Code(code).name
    except ValueError:
        return f"code {int(code)}"


CHOICE = "MESHLIB_HTTP2"
"""The environment variable that names the library: ``h2`` or ``ngh2``."""

try:  # as ngh2 has them, so that nobody looks for them among the headers of each request
    if os.environ.get(CHOICE) == "h2":
        raise ImportError("ngh2 is not asked for")
    from ngh2 import NeverIndexedHeader
except ImportError:  # it is h2 then

    class NeverIndexedHeader(NamedTuple):  # type: ignore[no-redef]
        """As ngh2's."""

        name: bytes
        value: bytes


SecretHeader = NeverIndexedHeader
"""A header that stays out of the compression tables."""


Head = Sequence[tuple[bytes, bytes]]
Whole = tuple[tuple[bytes, bytes], ...]
"""Headers that are all here, as what is looked up by them."""


class Violation(Exception):
    """The server broke the protocol or a limit. ``code`` is to go into our GOAWAY; None: the library has written one."""

    def __init__(self, detail: str, code: int | None = Code.PROTOCOL_ERROR) -> None:
        super().__init__(detail)
        self.code = code


class Sink(Protocol):
    """Who is told what the server sends, in its order, stream by stream. May raise ``Violation``."""

    def on_settings(self) -> None:
        """The server's settings came; limits and windows may be others."""

    def on_head(self, number: int, headers: Head) -> None:
        """The head of a final response: ``:status``, which is there and comes first, and the headers."""

    def on_interim(self, number: int, headers: Head) -> None:
        """A head of status 1xx, likewise."""

    def on_data(self, number: int, data: bytes, size: int) -> None:
        """A piece of a body; ``size``: what it takes of the stream's window (padding, if that is not given back yet)."""

    def on_last(self, number: int, data: bytes) -> None:
        """The last piece of a body, and the end with it: as ``on_data`` and ``on_end``, which a codec may say instead."""

    def on_trailers(self, number: int, headers: Head) -> None:
        """After the body."""

    def on_last_trailers(self, number: int, headers: Head) -> None:
        """They, and the end with them: as ``on_trailers`` and ``on_end``, which a codec may say instead."""

    def on_wholes(
        self, numbers: Iterable[int], heads: Iterable[Whole], bodies: Iterable[bytes], trailers: Iterable[Whole | None]
    ) -> list[int]:
        """Head, body and trailers of responses that are over with them: as ``on_head``, ``on_data`` and ``on_last_trailers``
        (None: ``on_last``) of each, which a codec may say instead, and then gives ``bodies`` back to the connection's window.
        Returns how many bytes head and trailers of each took at most; 0: nothing was taken, and they are to be said."""

    def on_end(self, number: int) -> None:
        """Of the response."""

    def on_reset(self, number: int, code: int) -> None:
        """The server reset the stream."""

    def on_broken(self, number: int, code: int) -> None:
        """The server broke the protocol in a way that ends this stream only; it has been told."""

    def on_window(self, number: int) -> None:
        """There may be more room for the body of the request; 0: of any."""

    def on_goaway(self, last: int) -> None:
        """The server takes no new streams, and has not touched those above ``last``."""


class Codec(Protocol):
    """One client connection. After every call, what ``outgoing`` returns must be written."""

    @property
    def max_streams(self) -> int:
        """What the server allows at a time."""

    def open(self, headers: Head, end: bool) -> int | None:
        """Begin a request. None: the numbers of streams are used up."""

    def send(self, number: int, data: memoryview, end: bool) -> int:
        """As much of ``data`` as the windows allow, ``SEND_AT_ONCE`` at most, and the end of the request if it is all and
        ``end``. Returns the number of bytes."""

    def open_whole(self, headers: Head, data: bytes) -> int:
        """As ``open``, with all of the body, which is not empty, and its end. 0: nothing was begun, ``open`` and ``send``."""

    def end(self, number: int, trailers: Head = ()) -> None:
        """The request is over, with these trailers."""

    def reset(self, number: int, code: int) -> None:
        """RST_STREAM. Nothing for a stream that is over, perhaps by what was not told yet."""

    def consumed(self, number: int, size: int) -> None:
        """The reader of the stream took ``size`` bytes: the server may send as many more."""

    def ignored(self, number: int, size: int) -> None:
        """Nobody will read ``size`` bytes of a stream that is over. Others share the connection."""

    def close(self, code: int) -> None:
        """GOAWAY. Nothing goes out after it."""

    def outgoing(self) -> bytes:
        """What must be written to the server."""

    def receive(self, data: bytes, now: float, sink: Sink) -> bool:
        """Bytes from the server; ``now`` in seconds refills budgets. True when there is more to be told than was told now:
        call again, with nothing if nothing came. Raises ``Violation``."""


class Factory(Protocol):
    """Makes the codec of a new connection. Windows in bytes, 65535 at least for the connection."""

    def __call__(self, now: float, stream_window: int, connection_window: int) -> Codec: ...
