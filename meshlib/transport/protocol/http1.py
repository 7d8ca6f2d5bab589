"""HTTP/1.1 as bytes in, events out: no socket here. Shared by the blocking and the asyncio connections.

Parsing is httptools' (llhttp, strict): it refuses two lengths, a length beside chunks, spaces before colons and the like.

Stricter than most servers need: what cannot be read in exactly one way is an error, and a connection on which anything
odd was seen is never used again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

from meshlib.engine.outcome import Failure, RawHeaders

MAX_HEAD_BYTES = 60 * 1024  # Envoy's max_response_headers_kb; interim heads, chunk extensions and trailers count, too
MAX_HEADERS = 100  # Envoy's max_headers_count; with the trailers

CHUNK_OVERHEAD = 20
"""What a chunk costs that is no body and needs no explanation: 16 digits of size and two line ends. Whatever more there is
(extensions, leading zeros) counts against ``MAX_HEAD_BYTES``."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    _TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.1\r\n(?:" + _TOKEN + rb": [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n"
)
_NO_BODY_STATUS = (204, 304)


class InvalidHead(ValueError):
    """The request cannot be written as HTTP: a control character, a bad method, target or header name."""


class BodyFailed(Exception):
    """The answer's body was cut. ``failure`` says how, ``error`` what the system said; raised while reading it."""

    def __init__(self, failure: Failure, detail: str, error: BaseException | None = None) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.error = error


def encode_head(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Request line and headers. Raises ``InvalidHead`` rather than write what another reader might split differently."""
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join([b"%b: %b\r\n" % header for header in headers]))
    # the count of line ends catches a value that smuggles a well-formed header line
    if _HEAD.fullmatch(head) is None or head.count(b"\n") != len(headers) + 2:
        raise InvalidHead(_what_is_wrong(method, target, headers))
    return head


def _what_is_wrong(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> str:
    if re.fullmatch(_TOKEN, method) is None:
        return f"the method {method!r} is not an HTTP token"
    if re.fullmatch(rb"[^\x00-\x20\x7f]+", target) is None:
        return f"the request target {target[:100]!r} is empty or holds a space or control character"
    for name, value in headers:
        if re.fullmatch(_TOKEN, name) is None:
            return f"the header name {name[:100]!r} is not an HTTP token"
        if re.fullmatch(rb"[^\x00-\x08\x0a-\x1f\x7f]*", value) is None:
            return f"the value of header {name.decode('latin-1')} holds a line break or control character"
    return "the request head is not valid HTTP"


def _protocols(headers: RawHeaders) -> set[bytes]:
    """The values of Upgrade."""
    return {
        token
        for name, value in headers
        if len(name) == 7 and name.lower() == b"upgrade"
        for piece in value.split(b",")
        if (token := piece.strip(b" \t").lower())
    }


def asks_for_websocket(headers: RawHeaders) -> bool:
    """Whether the request cannot be made over HTTP/2."""
    names = [value for name, value in headers if len(name) == 7 and name.lower() == b"upgrade"]
    return bool(names) and any(b"websocket" in value.lower() for value in names)


class ResponseReader:
    """Reads the answers of one connection, one after another. ``begin`` before each request, ``feed`` what arrives.

    ``head_done`` and ``complete`` tell how far it is; ``chunks`` collects body bytes until taken; ``poisoned`` says that
    the connection must not be used again. A violation sets ``error``; ``feed`` raises only what interrupted it
    (KeyboardInterrupt), and the connection is poisoned then.

    What is no body is bounded by ``MAX_HEAD_BYTES`` in all: what is held of a line that does not end, and the work for it,
    do not grow with what a server sends.
    """

    __slots__ = (
        "_bare",
        "_coded",
        "_explained",
        "_has_length",
        "_heads",
        "_parser",
        "_spent",
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

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.poisoned = False
        self.request_headers: RawHeaders = []  # looked at when the server switches protocols
        self.switched: bytes | None = None  # after 101: what came behind the head, which is no HTTP
        self.begin(False)

    def begin(self, head_request: bool) -> None:
        """An answer is expected now; ``head_request``: to HEAD, so that it has no body whatever its headers say."""
        self._heads = 0  # of one answer: interim ones, too
        self._bare = bytearray() if head_request else None  # all bytes of an answer to HEAD, to see where it ends
        self._spent = 0  # bytes that were no body, less what chunks cost anyway
        self._explained = 0  # the part of it that is headers and trailers, of answers in chunks
        self._has_length = False
        self._coded = False  # otherwise than by chunks alone
        self.begun = False  # a byte of the answer has come
        self.status = 0
        self.reason = b""
        self.http_version = b"HTTP/1.1"
        self.headers: RawHeaders = []
        self.trailers: RawHeaders = []
        self.chunks: list[bytes] = []
        self.chunked = False
        self.head_done = False
        self.complete = False
        self.continue_seen = False
        self.keep_alive = False
        self.error = ""

    # -- input ------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        if self.complete:
            self.poisoned = True  # nobody asked for these
            return
        if not self.begun:
            self.begun = True
            if data[:1] != b"H":  # llhttp would pass over empty lines
                self._fail("the answer does not begin with HTTP/1")
                return
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
                self._fail(str(error) or type(error).__name__)
        if bare is not None and self.complete and not self._ends_with_its_heads(bare):
            self.poisoned = True
        spent = self._spent
        if spent > MAX_HEAD_BYTES:
            # of a whole answer, bytes behind its end are counted, too
            if not self.complete or self._explained + (not self.chunked and _size(self.headers)) > MAX_HEAD_BYTES:
                self._fail(_too_large(self.head_done))
        elif spent < self._explained:
            self._spent = self._explained

    def _ends_with_its_heads(self, answer: bytearray) -> bool:
        """Whether an answer to HEAD is over with its last head. llhttp, which expects a body, has read on: the beginning of
        one would be lost, and the rest of it be the next answer on the connection."""
        at = 0
        for _ in range(self._heads):
            at = answer.find(b"\r\n\r\n", at) + 4
        return at == len(answer)

    def _switch(self, left: bytes) -> None:
        """101: the last HTTP on this connection, if it was asked for."""
        if self.error:
            return
        chosen = _protocols(self.headers)
        if not chosen or not chosen <= _protocols(self.request_headers):
            what = b", ".join(sorted(chosen)).decode("latin-1")
            self._fail(f"the server switched protocols (101{what and ' ' + what}), which was not asked for")
            return
        self.switched = left
        self._spent -= len(left)  # these bytes are the other protocol's
        self.head_done = True
        self.poisoned = True

    def feed_eof(self) -> bool:
        """The peer closed. True when that is the proper end of the answer (one without a length), False when it cuts."""
        self.poisoned = True
        if self.complete:
            return True
        if self.head_done and not self.error and not self._has_length and not self.chunked:
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
            self._fail(str(error) or type(error).__name__)
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
        # once a header: what can be counted once a head, or once a feed, is not counted here (row "httpx.Client p50")
        if self.head_done:
            self._trailer(name, value)
            return
        self.headers.append((name, value))
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._has_length = True
        elif size == 17 and name.lower() == b"transfer-encoding":
            self._coded = self._coded or self.chunked or value.strip(b" ").lower() != b"chunked"
            self.chunked = True

    def _trailer(self, name: bytes, value: bytes) -> None:
        if self.complete or self.error:
            return
        self._explained += len(name) + len(value) + 4
        if self._explained > MAX_HEAD_BYTES:
            self._fail(_too_large(True))
        self.trailers.append((name, value))
        if len(self.headers) + len(self.trailers) > MAX_HEADERS:
            self._fail(f"the answer has more than {MAX_HEADERS} headers and trailers")

    def on_headers_complete(self) -> None:
        if self.complete or self.error:
            return
        self._heads += 1
        headers = self.headers
        if len(headers) > MAX_HEADERS:
            self._fail(f"the answer has more than {MAX_HEADERS} headers")
            return
        parser = self._parser
        self.status = status = parser.get_status_code()
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                self._fail(f"the answer speaks HTTP/{version}, not HTTP/1.1")
                return
            self.http_version = b"HTTP/1.0"
        if status < 100:
            self._fail(f"the status of the answer is {status:03}")
            return
        if status < 200:
            self._explained += _size(headers)
            return  # 100, 103: a whole message without a body; the answer is still to come
        if self.chunked:
            self._explained += _size(headers)
            if self._explained > MAX_HEAD_BYTES:
                self._fail(_too_large(False))
                return
            if self._coded:
                self._fail("the answer's Transfer-Encoding is not chunked, once")
                return
            if version == "1.0":
                self.poisoned = True  # HTTP/1.0 knows no chunks: who knows what stands between (RFC 9112, 6.1)
        self.head_done = True
        if self._bare is not None:
            # llhttp cannot be told that this answer has no body: finish here, and start afresh
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
            self._has_length = False
            self.chunked = self._coded = False
            return
        self.keep_alive = self._parser.should_keep_alive()
        self.complete = True


def _size(headers: RawHeaders) -> int:
    """Bytes that these take in a head."""
    return sum([len(name) + len(value) + 4 for name, value in headers])


def _too_large(head_done: bool) -> str:
    what = "chunk extensions and trailers of the answer are, with its head," if head_done else "head of the answer is"
    return f"the {what} larger than {MAX_HEAD_BYTES} bytes"
