"""The requests of one HTTP/1.1 client as bytes in, heads and bodies out: no socket here.

llhttp (httptools, strict) takes each head, or refuses it; the head stays the bytes that it came in. What it would let through
and another reader could understand in a second way is refused here: see ``_refuse`` and its callers. Whatever is refused is the
last that this connection has said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httptools

from meshlib.problems import said
from meshlib.transport.protocol.chunked_body import ChunkedBody, InvalidChunk
from meshlib.transport.protocol.http1_head import FramedHead
from meshlib.transport.protocol.http1_head import RequestHead as RequestHead
from meshlib.transport.protocol.refused import CHARACTERS as _CHARACTERS
from meshlib.transport.protocol.refused import Refused as Refused
from meshlib.transport.protocol.request_head import IN_VALUES, is_no_target
from meshlib.transport.protocol.special_lines import HOP_BY_HOP as HOP_BY_HOP
from meshlib.transport.protocol.special_lines import KNOWN as KNOWN_LINES
from meshlib.transport.protocol.special_lines import SPECIAL as SPECIAL
from meshlib.transport.protocol.special_lines import USUAL, special_lines
from meshlib.transport.protocol.strict_parser import REFUSES_ODD_REQUESTS

MAX_HEAD_BYTES = 60 * 1024
"""Envoy's max_request_headers_kb; the request line counts, too."""

MAX_HEADERS = 100
"""Envoy's max_headers_count."""

_FEW = len("a:\r\n") * MAX_HEADERS
"""Bytes that no more headers than those have."""

MOST_DIGITS = 18
"""Of a Content-Length: more bytes than any body has, and few enough for every server's integers."""

_END_OF_HEAD = b"\r\n\r\n"
_LINE_END = b"\r\n"
_HOST, _ONE_HOST = b"\r\nhost:", b"host:"
_LENGTH = b"\r\ncontent-length:"
_CODING = b"\r\ntransfer-encoding:"
_CONNECTION = b"\r\nconnection:"
_KEEP_ALIVE = b"\r\nconnection: keep-alive\r\n"
_PROXY_CONNECTION = b"\r\nproxy-connection:"
_EXPECT = b"\r\nexpect:"
_UPGRADE = b"\r\nupgrade:"
_BLANK = b" \t"

_NOT_TO_BE_NAMED = frozenset(b"host content-length x-forwarded-for x-forwarded-host x-forwarded-proto".split())
"""By Connection, and so be taken away: what says for whom a request is and where it comes from."""

MOST_NAMED = 10
"""Headers that Connection may name, as in Envoy."""

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL "
    b"MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""Those that Envoy takes."""

_FOLDED = re.compile(rb"\r\n[ \t]")
_LONGEST_METHOD = 16
_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*")
"""Headers."""
_BEGINNING = re.compile(rb"[A-Z]{1,%d}(?: |\Z)" % _LONGEST_METHOD)
"""Of a request, however little of it has come."""
_WEBSOCKET = b"websocket"
_HASH = ord("#")
_SPACE = ord(" ")
_USUAL_METHODS = METHODS - {b"CONNECT"}
_VERSION = b"HTTP/1.1"
_H2C = b"h2c"
_TE = b"\r\nte:"
_TE_LINE = b"te: trailers\r\n"


class _Once:
    """Hears of a parser that a head is over, which pops ``coming``; once, or it is an error. No step of bytecode."""

    __slots__ = ("on_headers_complete",)

    def __init__(self, coming: list[None]) -> None:
        self.on_headers_complete: Callable[[], None] = coming.pop


class RequestReader:
    """Reads the requests of one connection, one after another. ``feed`` it what arrives; ``head`` is the next request once it
    is whole, then ``body`` gives what has come of its body until ``ended``; then ``head`` again. Bytes of the next request wait
    until it is asked for. ``head`` and ``body`` raise ``Refused``."""

    __slots__ = (
        "_after_empty_line",
        "_chunks",
        "_closed",
        "_coming",
        "_ends",
        "_glances",
        "_heads",
        "_left",
        "_looked_at",
        "_parser",
        "ended",
        "rest",
        "seen",
    )

    def __init__(self) -> None:
        self._parser: Any = None  # for heads that are looked through; made when one is
        self._glances: Any = (
            None  # for those that are whole as they come: llhttp again, which tells of no more than their end
        )
        self._coming: list[None] = []  # what it tells of
        self.rest = b""  # what has come and was not asked for
        self._heads = 0  # that llhttp has taken of what it was given last
        self._after_empty_line = False
        self._closed = False  # a request has said that it is the last one
        self.seen = 0  # bytes of a head that is not whole yet, which were looked through already
        self._ends = 0  # of lines among them
        self._looked_at = 0  # bytes of such lines that were looked at
        self._left = 0  # bytes of the body that are still to come
        self._chunks: ChunkedBody | None = None
        self.ended = True

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        rest = self.rest
        self.rest = rest + data if rest else data

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not asked for."""
        return len(self.rest)

    # -- heads --------------------------------------------------------------------------------------------------------

    def head(self) -> RequestHead | None:
        """The next request, None while its head is not whole. Raises ``Refused``."""
        data = self.rest
        if data[-4:] != _END_OF_HEAD or self.seen or self._closed or not REFUSES_ODD_REQUESTS:
            return self._looked_through(data)
        # nearly always it is all of the data, says of no body and has nothing for this connection: then as ``_looked_through``,
        # with fewer looks at the bytes (row "proxy-inprocess"). What is to be refused, is so there
        try:
            method, target, version = data[: (line_end := data.find(_LINE_END))].split(b" ")
        except ValueError:
            return self._looked_through(data)
        size = len(data)
        if (
            version != _VERSION
            or method not in _USUAL_METHODS
            or data[-5] < _SPACE  # one of several line ends, maybe
            or _HASH in target
            or not target.isascii()
            or size > MAX_HEAD_BYTES
            or (size > _FEW and data.count(b"\n") > MAX_HEADERS)
        ):
            return self._looked_through(data)
        lower = data[line_end:-2].lower()
        found = tuple(SPECIAL.findall(lower))
        special = KNOWN_LINES.get(found) or special_lines(found)
        kept_alive = -1
        if not special.usual:
            kept = special.kept
            kept_alive = lower.find(_KEEP_ALIVE)  # and nothing else, as most say who say something of the connection
            if kept is None or kept_alive < 0:
                return self._looked_through(data)
            special = kept
        coming, parser = self._coming, self._glances
        if parser is None:
            self._glances = parser = httptools.HttpRequestParser(_Once(coming))
        coming.append(None)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            coming.append(None)
        if coming:  # it was none, or more than one
            coming.clear()
            self._glances = None
            return self._looked_through(data)
        self.rest = b""
        self._after_empty_line = False
        self.ended = True
        lines = data[line_end + 2 : -2]
        if kept_alive >= 0:
            end = kept_alive + len(_KEEP_ALIVE) - 2
            lower = lower[:kept_alive] + lower[end:]
            lines = lines[: max(0, kept_alive - 2)] + lines[end - 2 if kept_alive else end :]
        start = lower.find(_HOST) + 7
        host = lines[start - 2 : lower.find(_LINE_END, start) - 2].strip(_BLANK)
        return RequestHead(method, target, lines, lower, host, special)

    def takes(self, data: bytes) -> bool:
        """Whether ``data``, all that has come, is a head that the parser takes; it is read with that. For who knows of it what
        ``head`` would say (``head_layout.py``). False: nothing has happened, and ``head`` has to look."""
        coming, parser = self._coming, self._glances
        if self.seen or self._closed or parser is None or len(data) > MAX_HEAD_BYTES:
            return False
        coming.append(None)  # as in ``head``
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            coming.append(None)
        if coming:
            coming.clear()
            self._glances = None
            return False
        self.rest = b""
        self._after_empty_line = False
        return True

    def _looked_through(self, data: bytes) -> RequestHead | None:
        """The head at the beginning of ``data``, if it is whole."""
        if data[:1] == b"\r" and not self._after_empty_line:
            data = self._without_empty_line(data)
        if not data:
            return None
        seen = self.seen
        if seen and data.find(_END_OF_HEAD, max(0, seen - 3)) < 0:
            self._refuse_early(data)
            return None
        head, end, rest = data.partition(_END_OF_HEAD)
        if not end:
            self._refuse_early(data)
            return None
        if len(head) > MAX_HEAD_BYTES:
            raise Refused(431, f"the request's head is larger than {MAX_HEAD_BYTES} bytes")
        self.rest = rest
        self._after_empty_line = False
        self.seen = self._ends = self._looked_at = 0
        first, _, lines = head.partition(_LINE_END)
        try:
            method, target, version = first.split(b" ")
        except ValueError:
            raise Refused(400, "the request line is not METHOD TARGET HTTP/1.1") from None
        if version != b"HTTP/1.1":
            _refuse_version(version)
        if method not in METHODS:
            raise Refused(400, f"the method {method[:40]!r} is not known")
        if not REFUSES_ODD_REQUESTS:
            _refuse_odd(head)
        if len(lines) > _FEW and lines.count(b"\n") >= MAX_HEADERS:
            raise Refused(431, f"the request has more than {MAX_HEADERS} headers", "http1.too_many_headers")
        self._validate(head + _END_OF_HEAD if rest else data)
        if _HASH in target or not target.isascii():
            raise Refused(400, "the request's target holds #, or a character that has to be escaped")
        lines += _LINE_END
        spelled = _LINE_END + lines
        lower = spelled.lower()
        special = SPECIAL.findall(lower)
        if special.count(_ONE_HOST) != 1:
            _refuse_hosts(special.count(_ONE_HOST))
        start = lower.find(_HOST) + len(_HOST)
        host = spelled[start : lower.find(_LINE_END, start)].strip(_BLANK)
        made = FramedHead(method, target, lines, lower, host, special)
        if not USUAL.issuperset(special):
            self._for_this_connection(made, spelled)
            made.special = SPECIAL.findall(made.lower)
        if b"content-length:" in special and made.length is not None:
            made.length = _length_of(lower)
        if made.length != 0 or made.upgrade or method == b"CONNECT":
            if made.upgrade and made.length != 0:
                raise Refused(400, "a request with Upgrade has a body")
            self._begin_body(made)
        else:
            self.ended = True
        return made

    def _without_empty_line(self, data: bytes) -> bytes:
        """One empty line before a request is passed over (RFC 9112, 2.2): there are clients that end a body with one."""
        if data == b"\r":
            return b""
        if data[1] == 10:
            self._after_empty_line = True
            self.rest = data = data[2:]
        return data

    def _refuse_early(self, data: bytes) -> None:
        """What is wrong with a head that is not whole: it need not be waited for."""
        if len(data) > MAX_HEAD_BYTES:
            raise Refused(431, f"the request's head is larger than {MAX_HEAD_BYTES} bytes")
        seen, size = self.seen, len(data)
        if seen <= _LONGEST_METHOD and _BEGINNING.match(data) is None:
            raise Refused(400, "the request does not begin with a method")
        # only what is new, and the byte before it: a head that comes byte by byte costs no more than its bytes
        before = max(0, seen - 1)
        ends = data.count(_LINE_END, before)
        if data.count(b"\n", seen) != ends or data.count(b"\r", before, size - 1) != ends:
            raise Refused(400, "the request's head holds a bare line break", _CHARACTERS)
        self.seen = size
        self._ends += ends
        if self._ends > MAX_HEADERS + 1:
            raise Refused(431, f"the request has more than {MAX_HEADERS} headers", "http1.too_many_headers")
        if ends:
            self._refuse_lines(data)

    def _refuse_lines(self, data: bytes) -> None:
        """What is wrong with the lines of such a head that have ended since they were last looked at."""
        start, end = self._looked_at, data.rfind(_LINE_END) + 2
        if not start:
            start = data.find(_LINE_END) + 2
            parts = data[: start - 2].split(b" ")
            if len(parts) != 3:
                raise Refused(400, "the request line is not METHOD TARGET HTTP/1.1")
            if parts[2] != b"HTTP/1.1":
                _refuse_version(parts[2])
            if parts[0] not in METHODS:
                raise Refused(400, f"the method {parts[0][:40]!r} is not known")
            if is_no_target(parts[0], parts[1]):
                raise Refused(400, "the request's target holds a character that has to be escaped, or is none")
        if _LINES.fullmatch(data, start, end) is None:
            raise Refused(400, "a line of the request's head is not NAME: VALUE")
        self._looked_at = end

    def _validate(self, head: bytes) -> None:
        self._heads = 0
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            _refuse_odd(head)  # which says what it is
            raise _not_http(head.lower(), said(error)) from None
        if not self._heads:
            raise Refused(400, "the request's head does not end where it seems to")

    def on_headers_complete(self) -> None:
        """httptools' callback."""
        self._heads += 1

    def _for_this_connection(self, made: FramedHead, head: bytes) -> None:
        """Headers that are not passed on, and what they say."""
        lower, special = made.lower, made.special
        tokens = [token.strip(_BLANK) for value in values_of(lower, _CONNECTION) for token in value.split(b",")]
        named = set(tokens)
        if len(tokens) > MOST_NAMED:
            raise Refused(400, f"Connection names more than {MOST_NAMED} headers")
        if any(token[:1] == b":" for token in tokens):
            raise Refused(400, "Connection names a pseudo header")
        if not named.isdisjoint(_NOT_TO_BE_NAMED):
            raise Refused(400, f"Connection names {min(named & _NOT_TO_BE_NAMED)!r}, which must not be removed")
        made.close = b"close" in named or any(b"close" in value for value in values_of(lower, _PROXY_CONNECTION))
        self._closed = self._closed or made.close
        expected = values_of(lower, _EXPECT)
        if expected:
            if expected != [b"100-continue"]:
                raise Refused(417, f"Expect is {expected[0][:100]!r}: only 100-continue can be met")
            made.expects_continue = True
        if b"upgrade:" in special:
            made.upgrade = _upgrade(values_of(lower, _UPGRADE, head), b"upgrade" in named)
        codings = values_of(lower, _CODING)
        if codings:
            if b"content-length:" in special:
                raise Refused(
                    400,
                    "the request has both a Content-Length and a Transfer-Encoding",
                    "http1.content_length_and_chunked_not_allowed",
                )
            if codings != [b"chunked"]:
                raise Refused(
                    501, f"Transfer-Encoding is {b', '.join(codings)[:100]!r}: only chunked, once, is accepted"
                )
            made.length = None
        gone = HOP_BY_HOP if made.upgrade else named.union(HOP_BY_HOP)
        kept = [line for line in head[2:].split(_LINE_END)[:-1] if line.partition(b":")[0].lower() not in gone]
        made.lines = b"".join([line + _LINE_END for line in kept])
        if b"te:" in special and _takes_trailers(lower, lower if b"te" in named else head):
            made.lines += _TE_LINE  # gRPC asks for it; the rest of TE is for this connection
        made.lower = b"\r\n" + made.lines.lower()

    # -- bodies -------------------------------------------------------------------------------------------------------

    def _begin_body(self, head: FramedHead) -> None:
        length = head.length
        if length == 0:
            self.ended = True
            if head.upgrade or head.method == b"CONNECT":
                self._parser = httptools.HttpRequestParser(self)
            return
        self._parser = httptools.HttpRequestParser(self)  # llhttp waits for the body, which it is not given
        self.ended = False
        if length is None:
            self._chunks = ChunkedBody()
        else:
            self._left = length

    def body(self) -> bytes:
        """What has come of the body since the last call. Raises ``Refused``."""
        data = self.rest
        if not data or self.ended:
            return b""
        if self._chunks is not None:
            try:
                taken, self.rest, self.ended = self._chunks.take(data)
            except InvalidChunk as error:
                raise Refused(400, str(error)) from None
            if self.ended:
                self._chunks = None
            return taken
        size = len(data)
        if size <= self._left:
            self._left -= size
            self.rest = b""
        else:
            data, self.rest = data[: self._left], data[self._left :]
            self._left = 0
        self.ended = not self._left
        return data

    def over(self) -> None:
        """Nothing more is asked for. (It and its parser refer to each other: they would stay for the garbage collector.)"""
        self.rest = b""
        self._parser = self._glances = None

    def all(self) -> bytes:
        """What has come and was not asked for, of a connection that speaks HTTP no more."""
        rest, self.rest = self.rest, b""
        return rest


def values_of(lower: bytes, name: bytes, head: bytes | None = None) -> list[bytes]:
    """The values of a header among ``lower`` (see ``RequestHead``), or as ``head``, the same bytes, spells them; ``name``: line
    end, name in lower case, colon."""
    found = []
    spelled = lower if head is None else head
    at = lower.find(name)
    while at >= 0:
        start = at + len(name)
        end = lower.find(_LINE_END, start)
        found.append(spelled[start:end].strip(_BLANK))
        at = lower.find(name, end)
    return found


def _refuse_odd(head: bytes) -> None:
    """What llhttp 9 refuses by itself (``strict_parser.py``)."""
    left = head.translate(None, IN_VALUES)
    if left != _LINE_END * (len(left) // 2):
        raise Refused(400, "the request's head holds a control character or a bare line break", _CHARACTERS)
    if _FOLDED.search(head):
        raise Refused(400, "a header is folded over several lines")


def _takes_trailers(lower: bytes, head: bytes) -> bool:
    return any(
        token.strip(_BLANK) == b"trailers" for value in values_of(lower, _TE, head) for token in value.split(b",")
    )


def _upgrade(asked: list[bytes], named: bool) -> bytes:
    """The protocol that a request's Upgrade lines ask for (``named``: Connection says so) and that a sidecar passes on:
    websocket, or none. Raises ``Refused``: 403, as Envoy does."""
    lower = [each.lower() for each in asked]
    if b"connect-udp" in lower:
        raise Refused(404, "no route takes Upgrade: connect-udp")
    if not named or lower == [_H2C]:
        return b""  # to be ignored (RFC 9110, 7.8): the request is served as HTTP/1.1
    if lower != [_WEBSOCKET]:
        raise Refused(403, f"Upgrade is {asked[0][:100]!r}: only websocket is passed on")
    return asked[0]


def _refuse_hosts(hosts: int) -> None:
    """There is none, or more than one."""
    if hosts:
        raise Refused(400, "the request has two Host headers")
    raise Refused(400, "the request has no Host", "missing_host_header", "")


def _length_of(lower: bytes) -> int:
    start = lower.find(_LENGTH) + len(_LENGTH)
    if lower.find(_LENGTH, start) >= 0:
        raise Refused(400, "the request has two Content-Length headers")
    digits = lower[start : lower.find(_LINE_END, start)].strip(_BLANK)
    if not digits.isdigit() or len(digits) > MOST_DIGITS:
        raise Refused(400, f"Content-Length is {digits[:40]!r}, not a number of at most {MOST_DIGITS} digits")
    return int(digits)


def _not_http(lower: bytes, why: str) -> Refused:
    """What llhttp does not take: with a coding in it, that is why."""
    codings = values_of(lower, _CODING)
    if codings and _LENGTH in lower:
        return Refused(400, f"the request is not HTTP: {why}", "http1.content_length_and_chunked_not_allowed")
    return Refused(501 if codings and codings != [b"chunked"] else 400, f"the request is not HTTP: {why}")


def _refuse_version(version: bytes) -> None:
    if version == b"HTTP/1.0":
        raise Refused(426, "the client speaks HTTP/1.0: HTTP/1.1 or HTTP/2 is needed (nginx: proxy_http_version 1.1)")
    raise Refused(400, f"the request line ends with {version[:40]!r}, not with HTTP/1.1")
