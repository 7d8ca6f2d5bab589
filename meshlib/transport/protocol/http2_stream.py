"""One request on an HTTP/2 connection and its response: how far it is, and whether what the server sends is proper HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from meshlib.engine.outcome import Failure
from meshlib.engine.shared_keys import share_keys
from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, MAX_HEADERS
from meshlib.transport.protocol.http2_codec import Whole
from meshlib.transport.protocol.received_head import SERVICE_TIME

_UNSAFE = re.compile(rb"[\0\r\n]")  # h2 before 4.3 lets them pass
_name = itemgetter(0)
_value = itemgetter(1)
_flat = chain.from_iterable
_GRPC_STATUS = b"grpc-status"
_GOOD = [(_GRPC_STATUS, b"0")]
Received = Sequence[tuple[bytes, bytes]]
A_HEADER = 16
"""Bytes that a compressed header may take besides its name and value."""
_BODILESS = (204, 304)
_STATUSES = {b"%d" % status: status for status in range(100, 1000)}


class ProperHead:
    """A head of a response that was found to be proper, as it will be whenever it comes again. ``length``: what content-length
    says; ``bodiless``: its status is one without a body; ``roomy``: however many trailers are ``FEW`` and ``SMALL``, it
    leaves room for them; ``size``: bytes of names and values; ``silent``: a 200 without ``grpc-status``, of which nobody has
    to look at a header to decide by it; ``timed``: it says ``SERVICE_TIME``; ``weight``: bytes that it takes at most;
    ``written``: what a client of HTTP/2 is sent in its place, kept by who has made that (``http2_response.py``)."""

    __slots__ = ("bodiless", "headers", "length", "roomy", "silent", "size", "status", "timed", "weight", "written")

    def __init__(self, status: int, headers: RawHeaders, length: int | None, size: int) -> None:
        self.status = status
        self.headers = headers
        self.length = length
        self.size = size
        self.bodiless = status in _BODILESS
        self.roomy = size <= MAX_HEAD_BYTES // 2 and len(headers) <= MAX_HEADERS // 2
        self.silent = status == 200 and _GRPC_STATUS not in map(_name, headers)
        self.timed = SERVICE_TIME in map(_name, headers)
        self.weight = size + A_HEADER * (len(headers) + 1)
        self.written: RawHeaders | None = None

    def with_body(self, trailers: ProperTrailers | None) -> int:
        """How many bytes they take together at most, of a response that has a body; 0: it can have none, or the head leaves no
        room for the trailers."""
        if self.bodiless:
            return 0
        if trailers is None:
            return self.weight
        return self.weight + trailers.weight if self.roomy else 0


class ProperTrailers:
    """Trailers that were found to be few, small and proper. ``weight``: as of heads; ``good``: they say that a call of gRPC has
    done what it was asked for, and nothing else, as nearly all do."""

    __slots__ = ("good", "headers", "weight")

    def __init__(self, headers: RawHeaders, size: int) -> None:
        self.headers = headers
        self.weight = size + A_HEADER * len(headers)
        self.good = headers == _GOOD


_proper: HeadsSeen[ProperHead] = HeadsSeen()
_few: HeadsSeen[ProperTrailers] = HeadsSeen()
FEW_TRAILERS = 8
SMALL_TRAILERS = 1024
"""Bytes."""


class StreamFailure(NamedTuple):
    """Why a stream has no (whole) response. ``stale``: the server has not worked on the request."""

    failure: Failure
    detail: str
    stale: bool = False
    error: BaseException | None = None


@share_keys
class Stream:
    """One request and its response. ``head_done``, ``complete`` and ``failed`` tell how far it is; ``wake`` is called when
    something changed: the head or data came, it ended or failed, or more of the body may be sent."""

    # No slots: what most streams keep as it is stands here, and need not be set (row "HTTP/2 at 32 in flight"), unless they are
    # asked for it: CPython 3.11 takes ten times as long to find it here as in the stream.
    status = 0
    received = 0
    """Bytes of the body."""
    length: int | None = None
    """What content-length says."""
    credit = 0
    """Bytes taken by the reader and not given back to the stream's window yet."""
    unread = 0
    """Bytes that the reader has not taken."""
    head_done = False
    complete = False
    continue_seen = False
    sent = False
    """The request is over."""
    head: ProperHead | None = None
    """That of the response, where it is known."""
    compact = False
    """Whoever is woken takes a response that has come at once as ``head``, ``whole`` and ``few``; the rest stands here when it
    was ``unfolded``."""
    whole = b""
    """All of the body of such a response."""
    few: ProperTrailers | None = None
    """Its trailers, if it has any."""
    headers: RawHeaders = []  # noqa: RUF012 (nothing is put into these: a stream has lists of its own from its head on)
    trailers: RawHeaders = []  # noqa: RUF012
    chunks: list[bytes] = []  # noqa: RUF012
    """Pieces of the body that the reader has not taken."""

    def __init__(self, number: int, head_request: bool, reused: bool, wake: Callable[[], None]) -> None:
        self.id = number
        self.head_request = head_request
        self.reused = reused
        self.wake = wake
        self.begun = False
        self.failed: StreamFailure | None = None

    @property
    def settled(self) -> bool:
        """Nothing more will come."""
        return self.complete or self.failed is not None

    def rest(self) -> bytes:
        """What is left of the body of a response that is complete: there is no window to give it back to."""
        chunks = self.chunks
        if len(chunks) == 1:
            return chunks.pop()
        data = b"".join(chunks)
        chunks.clear()
        return data

    # -- what the server sends for it: each says what is wrong with that, None: nothing ------------------------------

    def take_head(self, headers: Received) -> str | None:
        """The head of the response. The codec has seen to it that ``:status`` is the one pseudo header and comes first."""
        self.begun = True
        self.trailers, self.chunks = [], []
        key = tuple(headers)
        known = _proper.of(key)
        if known is not None:
            self.head = known
            self.status = known.status
            self.headers = known.headers.copy()
            self.length = None if self.head_request or self.status in _BODILESS else known.length
            self.head_done = True
            return None
        (_, status), *kept = headers
        self.status = _STATUSES.get(status, 0)
        if not self.status:
            return f"the status of the response is {status[:20]!r}"
        text = b"".join(_flat(kept))
        if _UNSAFE.search(text):
            name = next((name for name, value in kept if _UNSAFE.search(value)), b"")
            return f"the value of the response's header {name[:50]!r} holds a line break"
        names = list(map(_name, kept))
        if b"content-length" in names:
            length = kept[names.index(b"content-length")][1]
            if not length.isdigit() or len(length) > 18 or names.count(b"content-length") > 1:
                lengths = [value for name, value in kept if name == b"content-length"]
                wrong = next((value for value in lengths if not _says(value, length)), None)
                if wrong is not None:
                    return f"the response's content-length is {wrong[:20]!r}"
            self.length = int(length)
        if len(text) + 4 * len(kept) > MAX_HEAD_BYTES:
            return f"the head of the response is larger than {MAX_HEAD_BYTES} bytes"
        if len(kept) > MAX_HEADERS:
            return f"the response has more than {MAX_HEADERS} headers"
        self.head = proper = ProperHead(self.status, kept.copy(), self.length, len(text))
        _proper.learn(key, proper)
        if self.head_request or self.status in _BODILESS:
            self.length = None  # it may tell of a body that does not come
        self.headers = kept
        self.head_done = True
        return None

    def take_last(self, data: bytes) -> bool:
        """The last piece of a body that is as long as the head says; else nothing is taken."""
        size = len(data)
        received = self.received + size
        if received != self.length or not size or self.failed is not None:
            return False
        self.received = received
        self.unread += size
        self.chunks.append(data)
        self.complete = True
        return True

    def take_whole(self, known: ProperHead, data: bytes, few: ProperTrailers | None) -> bool:
        """A head that was met before (``known_head``) and goes with a body and with these trailers (``known_trailers``), if any
        (``with_body``), and all of a body as long as that head says, of a response of which nothing has come yet, and which
        has not failed; else nothing is taken."""
        length, size = known.length, len(data)
        if (length is not None and length != size) or self.begun or self.head_request or not size:
            return False
        self.head = known
        self.whole = data
        if few is not None:
            self.few = few
        self.complete = True
        if not self.compact:
            self.unfolded()
        return True

    def unfolded(self) -> None:
        """What has come at once stands where it would if it had come in pieces."""
        known, data, few = self.head, self.whole, self.few
        if known is None or not data:
            return
        self.whole = b""
        self.status = known.status
        self.headers = known.headers.copy()
        self.length = known.length
        self.received = self.unread = len(data)
        self.chunks = [data]
        self.trailers = [] if few is None else few.headers.copy()
        self.begun = self.head_done = True

    def take_interim(self, headers: Received) -> str | None:
        """A head of status 1xx."""
        self.begun = True
        status = headers[0][1]
        if status == b"101":
            return "the server switched protocols (101), which HTTP/2 does not know"
        if status == b"100":
            self.continue_seen = True
        return None

    def take_data(self, data: bytes) -> str | None:
        """A piece of the body."""
        size, length = len(data), self.length
        self.received = received = self.received + size
        self.unread += size
        if length is not None and received > length:
            return f"the response's body is longer than its content-length of {self.length}"
        if self.head_request:
            return "the server sent a body in response to HEAD"
        self.chunks.append(data)
        return None

    def take_trailers(self, headers: Received) -> str | None:
        """What comes after the body."""
        together = [*self.headers, *headers]
        if len(together) > MAX_HEADERS:
            return f"the response has more than {MAX_HEADERS} headers and trailers"
        if len(b"".join(_flat(together))) + 4 * len(together) > MAX_HEAD_BYTES:
            return f"the trailers of the response are, with its head, larger than {MAX_HEAD_BYTES} bytes"
        if _UNSAFE.search(b"".join(map(_value, headers))):
            return "a trailer of the response holds a line break"
        self.trailers.extend(headers)
        return None

    def take_last_trailers(self, headers: Received) -> bool:
        """Few and small ones, and the end of a response that is as long as its head says; else nothing is taken."""
        head = self.head
        if head is None or not head.roomy or self.failed is not None or self.length not in (None, self.received):
            return False
        few = known_trailers(tuple(headers))
        if few is None:
            return False
        self.trailers.extend(few.headers)  # who was told of the head has this list
        self.complete = True
        return True

    def take_end(self) -> str | None:
        """The response is over."""
        if self.length is not None and self.received != self.length:
            return f"the response's body ended after {self.received} of {self.length} bytes"
        self.complete = True
        return None


def known_head(headers: Whole) -> ProperHead | None:
    """One that was met before; None: it was not."""
    return _proper.of(headers)


def known_trailers(trailers: Whole) -> ProperTrailers | None:
    """Few and small ones. None: they are others."""
    known = _few.of(trailers)
    if known is not None:
        return known
    if len(trailers) > FEW_TRAILERS:
        return None
    text = b"".join(_flat(trailers))
    if len(text) > SMALL_TRAILERS or _UNSAFE.search(text):
        return None
    few = ProperTrailers(list(trailers), len(text))
    _few.learn(trailers, few)
    return few


def _says(length: bytes, other: bytes) -> bool:
    """Whether it is a length, and the same as another."""
    return length.isdigit() and len(length) <= 18 and other.isdigit() and int(length) == int(other)
