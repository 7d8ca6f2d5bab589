"""Responses as httpx's (and httpx2's) own, whose body came with the head nearly always.

httpx reads any body through four iterators, a decoder and two context managers, which takes longer than all else a response
costs (rows "p50" of ``make bench``), and its client leaves a cycle of references a call for the garbage collector. A body
that is at hand is handed over at once, as long as nobody has come between: whoever replaced the stream, the headers or their
number gets httpx's own way. So does everybody with ``MESHLIB_PLAIN=1``.
"""

from __future__ import annotations

import copyreg
import operator
from typing import TYPE_CHECKING

from meshlib.transport.httpx.filled import compare, fill_response, responses_as_known
from meshlib.transport.httpx.met_headers import Head, met_headers_of
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from meshlib.engine.call import Call
    from meshlib.engine.outcome import Outcome
    from meshlib.httpx_module import HttpxModule
    from meshlib.policy.header_ops import RawHeaders

    Base = httpx.Response
else:
    Base = object

_VALUE = _LOWER = operator.itemgetter(1)
"""Of a pair; of a triple."""

MOST_HEADS = 256
LONGEST_VALUES = 2048
"""Bytes of the values of a head that is remembered; with ``MOST_HEADS``, what servers can make this process hold."""
GIVE_UP_AFTER = 64
"""Heads in a row that were not met before, after which a server is taken for one whose heads are all different."""


class WholeResponse(Base):
    """Mixed into httpx's ``Response``. ``sets_cookie``: whether there is a Set-Cookie among the headers that came."""

    _whole: bytes | None = None
    _own_stream: httpx.ByteStream
    _own_headers: httpx.Headers
    _count: int
    _plain: type[httpx.Response]
    """httpx's class, which a pickle or a copy is of."""
    _bound_in: str
    """The module of the stream that httpx's client puts around ours."""
    sets_cookie = True

    def read(self) -> bytes:
        """Read and return the response content."""
        close: Callable[[], None] | None = getattr(self.stream, "close", None)
        content = None if close is None else self._at_hand()
        if close is None or content is None:
            return super().read()
        close()
        self._release()
        return content

    async def aread(self) -> bytes:
        """Read and return the response content."""
        close: Callable[[], Awaitable[None]] | None = getattr(self.stream, "aclose", None)
        content = None if close is None else self._at_hand()
        if close is None or content is None:
            return await super().aread()
        await close()
        self._release()
        return content

    def _at_hand(self) -> bytes | None:
        whole = self._whole
        if whole is None:
            return None
        self._whole = None
        stream, headers = self.stream, self.headers
        if stream is not self._own_stream and (
            getattr(stream, "_stream", None) is not self._own_stream or type(stream).__module__ != self._bound_in
        ):
            return None
        if self.is_stream_consumed or self.is_closed or headers is not self._own_headers or len(headers) != self._count:
            return None
        self.is_stream_consumed = self.is_closed = True
        self._num_bytes_downloaded = len(whole)
        self._content = whole
        return whole

    def _release(self) -> None:
        # httpx's bound stream, which has just told how long it took, refers back to this response; httpx2's is asked for it
        if getattr(self, "_elapsed", None) is not None:  # its dict is not asked for: that would make one
            self.stream = self._own_stream

    def __reduce_ex__(self, _protocol: object) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
        state = self.__getstate__()
        for name in ("_whole", "_own_stream", "_own_headers", "_count", "sets_cookie"):
            state.pop(name, None)
        # as pickle itself makes an object without calling its class: read where there may be no meshlib
        return copyreg._reconstructor, (self._plain, object, None), state  # type: ignore[attr-defined]


class Responses:
    """Makes responses of one module's class."""

    __slots__ = ("_fills", "_headers", "_kind", "_met_headers", "_misses", "_of_head", "_stream")

    def __init__(self, module: HttpxModule) -> None:
        self._kind: type[WholeResponse] = type(
            "MeshResponse",
            (WholeResponse, module.Response),
            {"_plain": module.Response, "_bound_in": f"{module.__name__}._client"},
        )
        compare(module)
        self._fills = responses_as_known(module)
        self._stream = module.ByteStream
        self._headers = module.Headers
        self._met_headers = met_headers_of(module.Headers)
        # a server sends the same head again and again, in one second at least
        self._of_head: dict[tuple[tuple[bytes, bytes], ...], Head] = {}
        self._misses = 0

    def make(
        self, outcome: Outcome, call: Call, stream: httpx.SyncByteStream | httpx.AsyncByteStream | None
    ) -> httpx.Response:
        """The response to a call; ``stream`` None: the body is at hand."""
        extensions = {
            "mesh": call.record,
            "http_version": outcome.http_version,
            "reason_phrase": outcome.reason,
        }
        network_stream = outcome.stream
        if network_stream is not None:
            extensions["network_stream"] = network_stream
        raw = outcome.headers
        if not isinstance(raw, list):
            raw = list(raw)
        head = self._known(raw)
        headers: httpx.Headers
        whole = None
        if stream is None:
            whole = outcome.whole or b""
            stream = own = self._stream(whole)
        if self._fills:
            made = self._kind.__new__(self._kind)
            headers = met = self._met_headers.__new__(self._met_headers)
            met._list = head.headers.copy()
            met._encoding = None
            met._met = head
            fill_response(made, outcome.status, headers, stream, extensions)
        else:
            made = self._kind(outcome.status, stream=stream, extensions=extensions)
            made.headers = headers = self._headers(raw)
        made.sets_cookie = head.sets_cookie
        if whole is not None and not head.encoded and not PLAIN:
            made._whole = whole
            made._own_stream = own
            made._own_headers = headers
            made._count = len(raw)
        return made

    def _known(self, raw: RawHeaders) -> Head:
        """The headers, to be copied, and what matters of their names."""
        if PLAIN:
            return self._head(raw)
        if self._misses > GIVE_UP_AFTER:
            self._misses += 1
            if self._misses % GIVE_UP_AFTER:
                return self._head(raw)
        head = tuple(raw)
        found = self._of_head.get(head)
        if found is not None:
            self._misses = 0
            return found
        self._misses += 1
        found = self._head(raw)
        if len(b"".join(map(_VALUE, raw))) <= LONGEST_VALUES:
            if len(self._of_head) >= MOST_HEADS:
                self._of_head.clear()
            self._of_head[head] = found
        return found

    @staticmethod
    def _head(raw: RawHeaders) -> Head:
        triples = [(name, name.lower(), value) for name, value in raw]
        names = list(map(_LOWER, triples))
        return Head(triples, b"set-cookie" in names, b"content-encoding" in names)
