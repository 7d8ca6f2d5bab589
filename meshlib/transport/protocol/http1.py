"""HTTP/1.1 as bytes in, events out: no socket here. Shared by the blocking and the asyncio connections.

Parsing is httptools' (llhttp, strict): it refuses two lengths, a length beside chunks, spaces before colons and the like.

Stricter than most servers need: what cannot be read in exactly one way is an error, and a connection on which anything
odd was seen is never used again.
"""

from __future__ import annotations

import operator
from typing import Any

import httptools

from meshlib.engine.outcome import Failure
from meshlib.policy.header_ops import RawHeaders
from meshlib.problems import said
from meshlib.transport.protocol.known_heads import LONGEST_HEAD, known, remember
from meshlib.transport.protocol.raw_head import Headers
from meshlib.transport.protocol.request_head import upgrades

MAX_HEAD_BYTES = 60 * 1024  # Envoy's max_response_headers_kb; interim heads, chunk extensions and trailers count, too
MAX_HEADERS = 100  # Envoy's max_headers_count; with the trailers

CHUNK_OVERHEAD = 20
"""What a chunk has besides its body that needs no explanation: 16 digits of size and two line ends. Whatever more there is
(extensions, leading zeros) counts against ``MAX_HEAD_BYTES``."""

_NO_BODY_STATUS = (204, 304)
_NAME = operator.itemgetter(0)
_END_OF_HEAD = b"\r\n\r\n"

LINES = len("HTTP/1.1 200 \r\n\r\n")
"""Bytes of a head beside its reason and headers."""

FEW_MISSES = 16
"""Heads in a row that were not known, after which only one response in ``SELDOM`` of that connection is looked up."""

SELDOM = 64


class BodyFailed(Exception):
    """The response's body was cut. ``failure`` says how, ``error`` what the system said; raised while reading it."""

    def __init__(self, failure: Failure, detail: str, error: BaseException | None = None) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.error = error


class ResponseReader:
    """Reads the responses of one connection, one after another. ``begin`` before each request, ``feed`` what arrives.

    ``head_done`` and ``complete`` tell how far it is; ``chunks`` collects body bytes until taken; ``poisoned`` says that
    the connection must not be used again. A violation sets ``error``; ``feed`` raises only what interrupted it
    (KeyboardInterrupt), and the connection is poisoned then.

    What is not body is bounded by ``MAX_HEAD_BYTES`` in all: what is held of a line that does not end, and the work for it,
    do not grow with what a server sends.
    """

    __slots__ = (
        "_bare",
        "_explained",
        "_heads",
        "_misses",
        "_parser",
        "_size",
        "_spent",
        "_unusual",
        "begun",
        "chunked",
        "chunks",
        "complete",
        "continue_seen",
        "error",
        "head_done",
        "headers",
        "http_version",
        "keep_alive",
        "poisoned",
        "reason",
        "request_headers",
        "status",
        "switched",
        "trailers",
    )

    known = known
    """Heads that readers of this kind have read before."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self.poisoned = False
        self.request_headers: Headers = []  # looked at when the server switches protocols
        self.switched: bytes | None = None  # after 101: what came behind the head, which is not HTTP
        self.error = ""
        self._misses = 0  # heads in a row that were not known
        self.status = 0
        self.keep_alive = False
        self.chunks: list[bytes] = []
        self._heads = 0  # those that one response to HEAD has had, interim ones, too
        self._unusual = True
        self.begin(False)

    def begin(self, head_request: bool) -> None:
        """A response is expected now; ``head_request``: to HEAD, so that it has no body whatever its headers say."""
        if self._unusual:  # HTTP/1.0, interim heads, chunks and trailers; not touched by other responses
            self._unusual = False
            self._explained = 0  # bytes of the no-body part that is headers and trailers, of responses in chunks
            self.trailers: RawHeaders = []
            self.continue_seen = self.chunked = False
            self.http_version = b"HTTP/1.1"
        if self.chunks:
            self.chunks = []
        self._bare: bytearray | None = None
        if head_request:
            self._bare = bytearray()  # all bytes of a response to HEAD, to see where it ends
            self._heads = 0
        self._spent = 0  # bytes that were no body, less what chunks cost anyway
        self._size = 0  # all that has come of it
        self.begun = False  # a byte of the response has come
        self.reason = b""
        self.headers: RawHeaders = []
        self.head_done = False
        self.complete = False

    # -- input ------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        if self.complete:
            self.poisoned = True  # nobody asked for these
            return
        head_end = 0
        if not self.begun:
            self.begun = True
            if self._misses >= FEW_MISSES:
                self._misses += 1
                if self._misses == FEW_MISSES + SELDOM:
                    self._misses = FEW_MISSES - 1
            elif self._bare is None:
                head_end = data.find(_END_OF_HEAD, 0, LONGEST_HEAD) + 4
                found = self.known.get(data[:head_end])
                if (
                    found is not None and len(data) == head_end + found[3]
                ):  # all of a response whose head was read before
                    self.status, self.reason, headers, length = found
                    self._size = len(data)
                    self.headers = headers.copy()
                    self.head_done = self.complete = self.keep_alive = True
                    if length:
                        self.chunks.append(data[head_end:])
                    self._misses = 0
                    return
                self._misses += 1
        self._parse(data, head_end)

    def _parse(self, data: bytes, head_end: int) -> None:
        """Bytes that are not of a known response. ``head_end``: where its head ends, to be remembered; 0: it is not to be."""
        if not self._size and data[:1] != b"H":  # llhttp would pass over empty lines
            self._fail("the response does not begin with HTTP/1")
            return
        self._size += len(data)
        self._spent += len(data)
        bare = self._bare
        if bare is not None:
            bare += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._interrupted(error)
        except httptools.HttpParserUpgrade as switch:
            self._switch(data[switch.args[0] :])
        except httptools.HttpParserError as error:
            if self.complete:
                self.poisoned = True
            else:
                self._fail(said(error))
        if bare is not None and self.complete and not self._ends_with_its_heads(bare):
            self.poisoned = True
        spent = self._spent
        if spent > MAX_HEAD_BYTES:
            # of a whole response, bytes behind its end are counted, too
            if not self.complete or self._explained + (not self.chunked and _size(self.headers)) > MAX_HEAD_BYTES:
                self._fail(_too_large(self.head_done))
        elif spent < self._explained:
            self._spent = self._explained
        if head_end > 3 and self.complete:
            self._remember(data, head_end)

    def _remember(self, data: bytes, head_end: int) -> None:
        """A whole response has been read from ``data`` alone: remember its head, if nothing about it is special."""
        status = self.status
        if self._unusual or not self.reusable or status < 200 or status in _NO_BODY_STATUS:
            return
        body = data[head_end:]
        if self._has_length() and b"".join(self.chunks) == body:
            remember(self.known, data[:head_end], (status, self.reason, self.headers.copy(), len(body)))

    def _codings(self) -> list[bytes]:
        """The values of Transfer-Encoding."""
        headers = self.headers
        if 17 not in map(len, map(_NAME, headers)):  # the common case without a step of bytecode a header
            return []
        return [value for name, value in headers if len(name) == 17 and name.lower() == b"transfer-encoding"]

    def _has_length(self) -> bool:
        return any(len(name) == 14 and name.lower() == b"content-length" for name, _ in self.headers)

    def _ends_with_its_heads(self, response: bytearray) -> bool:
        """Whether a response to HEAD is over with its last head. llhttp, which expects a body, has read on: the beginning of
        one would be lost, and the rest of it be the next response on the connection."""
        at = 0
        for _ in range(self._heads):
            at = response.find(b"\r\n\r\n", at) + 4
        return at == len(response)

    def _switch(self, left: bytes) -> None:
        """101: the last HTTP on this connection, if it was asked for."""
        if self.error:
            return
        chosen = upgrades(self.headers)
        if not chosen or not chosen <= upgrades(self.request_headers):
            what = b", ".join(sorted(chosen)).decode("latin-1")
            self._fail(f"the server switched protocols (101{what and ' ' + what}), which was not asked for")
            return
        self.switched = left
        self._spent -= len(left)  # these bytes are the other protocol's
        self.head_done = True
        self.poisoned = True

    def feed_eof(self) -> bool:
        """The peer closed. True when that is the proper end of the response (one without a length), False when it cuts."""
        self.poisoned = True
        if self.complete:
            return True
        if self.head_done and not self.error and not self.chunked and not self._has_length():
            self.complete = True
            return True
        return False

    def take(self) -> bytes:
        """Body bytes received since the last call."""
        chunks = self.chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return data

    def over(self) -> None:
        """Nothing more comes. (It and its parser refer to each other: they would stay for the garbage collector.)"""
        self._parser = None

    @property
    def head_size(self) -> int:
        """Bytes of the head, as nearly all servers write it."""
        return LINES + len(self.reason) + _size(self.headers)

    @property
    def response_size(self) -> int:
        """Bytes of a response that is ``complete``, before any of its body is taken."""
        return self.head_size + sum(map(len, self.chunks)) if self._unusual else self._size

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.complete and self.keep_alive and not self.poisoned and not self.error

    def _fail(self, message: str) -> None:
        if not self.error:
            self.error = message
        self.poisoned = True

    def _interrupted(self, error: httptools.HttpParserCallbackError) -> None:
        """A callback raised. None of ours does by itself: it is an interrupt, and not the server's doing."""
        self.poisoned = True
        cause = error.__context__
        if cause is None or isinstance(cause, httptools.HttpParserError):
            self._fail(said(error))
        else:
            raise cause from None

    # -- httptools' callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self.poisoned = True

    def on_status(self, reason: bytes) -> None:
        if not self.complete:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        # once a header: what can be asked once a head is not asked here (row "httpx.Client p50")
        if self.head_done:
            self._trailer(name, value)
        else:
            self.headers.append((name, value))

    def _trailer(self, name: bytes, value: bytes) -> None:
        if self.complete or self.error:
            return
        self._unusual = True
        self._explained += len(name) + len(value) + 4
        if self._explained > MAX_HEAD_BYTES:
            self._fail(_too_large(True))
        self.trailers.append((name, value))
        if len(self.headers) + len(self.trailers) > MAX_HEADERS:
            self._fail(f"the response has more than {MAX_HEADERS} headers and trailers")

    def on_headers_complete(self) -> None:
        if self.complete or self.error:
            return
        headers = self.headers
        if len(headers) > MAX_HEADERS:
            self._fail(f"the response has more than {MAX_HEADERS} headers")
            return
        parser = self._parser
        self.status = status = parser.get_status_code()
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                self._fail(f"the response speaks HTTP/{version}, not HTTP/1.1")
                return
            self._unusual = True
            self.http_version = b"HTTP/1.0"
        if status < 100:
            self._fail(f"the status of the response is {status:03}")
            return
        self._heads += 1
        if status < 200:
            self._unusual = True
            self._explained += _size(headers)
            return  # 100, 103: a whole message without a body; the response is still to come
        codings = self._codings()
        if codings:
            self._unusual = self.chunked = True
            self._explained += _size(headers)
            if self._explained > MAX_HEAD_BYTES:
                self._fail(_too_large(False))
                return
            if len(codings) > 1 or codings[0].strip(b" ").lower() != b"chunked":
                self._fail("the response's Transfer-Encoding is not chunked, once")
                return
            if version == "1.0":
                self.poisoned = True  # HTTP/1.0 knows no chunks: who knows what stands between (RFC 9112, 6.1)
        self.head_done = True
        if self._bare is not None:
            # llhttp cannot be told that this response has no body: finish here, and start afresh
            self.keep_alive = parser.should_keep_alive()
            self.complete = True
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self.poisoned = True
        elif not self.error:
            self._spent -= len(data) + CHUNK_OVERHEAD
            self.chunks.append(data)

    def on_message_complete(self) -> None:
        if self.complete or self.error:
            return
        status = self.status
        if status == 101:
            return  # the parser says so next
        if 100 <= status < 200:
            self.continue_seen = self.continue_seen or status == 100
            self.headers = []
            self.reason = b""
            return
        self.keep_alive = self._parser.should_keep_alive()
        self.complete = True


def _size(headers: RawHeaders) -> int:
    """Bytes that these take in a head."""
    return sum([len(name) + len(value) + 4 for name, value in headers])


def _too_large(head_done: bool) -> str:
    what = (
        "chunk extensions and trailers of the response are, with its head," if head_done else "head of the response is"
    )
    return f"the {what} larger than {MAX_HEAD_BYTES} bytes"
