"""httpx's request as policy sees it and as it is sent: wire strings, taken from it only when a rule asks."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, joined_value, shadow_host, size_of
from meshlib.policy.deadline import write as write_deadline
from meshlib.policy.header_ops import RawHeaders
from meshlib.policy.regex import wire
from meshlib.transport.httpx.filled import headers_as_known, raw_headers
from meshlib.transport.httpx.origins import place_of
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.heads_to_send import sent_head_of
from meshlib.transport.protocol.request_body import Bodied
from meshlib.transport.protocol.sent_head import SentHead

if TYPE_CHECKING:
    import httpx

    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.transport.protocol.request_body import ReplayBody
    from meshlib.transport.upstream.trace import AsyncTrace, SyncTrace

_NAME, _VALUE = operator.itemgetter(0), operator.itemgetter(1)


class _Met:
    """What is the same for every request with certain headers. ``headers`` are never changed in place. ``values``: of each name
    in lower case, repeated ones joined; ``first``: the headers of a first attempt."""

    __slots__ = ("authority", "envoy", "first", "headers", "names", "repeated", "size", "values")

    def __init__(self, headers: RawHeaders, authority: str, first: SentHead) -> None:
        lists = _lists(headers)
        self.headers = headers
        self.names = b"\n".join(map(_NAME, headers)).lower()
        self.authority = authority
        self.first = first
        self.values = {name: ",".join(values) for name, values in lists.items()}
        self.repeated = lists if len(lists) < len(headers) else None
        self.envoy = _has_envoys(headers)
        self.size = size_of(headers)


_met: HeadsSeen[_Met] = HeadsSeen()
"""By the headers as httpx keeps them: those of requests that were built alike are even the same objects."""


class HttpxRequest(Bodied):
    """A ``Request`` on an httpx (or httpx2) request, which stays at hand as ``original``. ``body`` is None, bytes or a
    ``ReplayBody``; ``trace`` the caller's trace extension; ``received`` its headers as they came. Raises
    ``BadUrl`` for a URL that leads nowhere."""

    __slots__ = (
        "_repeated",
        "_values",
        "alike",
        "authority",
        "body",
        "counted",
        "dialled",
        "full_path",
        "has_envoy_headers",
        "headers",
        "method",
        "names",
        "original",
        "path",
        "query",
        "received",
        "scheme",
        "target",
        "trace",
    )

    protocol = "http"
    multiplexed = False
    version: str | None = None
    """The pseudo-header ``:protocol`` is known where the door knows what it speaks; here the connection decides."""

    def __init__(self, original: httpx.Request, body: bytes | ReplayBody | None) -> None:
        url = original.url
        self.original = original
        self.body = body
        self.trace: SyncTrace | AsyncTrace | None = None
        self.method: str = wire(original.method)
        self.scheme, self.dialled, self.target, self.full_path, self.path, self.query = place_of(url)
        self.counted = False  # whether headers hold the number of the first attempt
        self.alike = met = None if type(original.headers) not in headers_as_known else _known(original.headers)
        if met is not None:
            self.received = self.headers = met.headers
            self.authority = met.authority
            self.has_envoy_headers = met.envoy
            return
        raw = raw_headers(original.headers)
        self.received = self.headers = raw
        self.names = names = b"\n".join(map(_NAME, raw)).lower()  # without a step of bytecode a header
        self.has_envoy_headers = b"x-envoy-" in names
        self._values: dict[bytes, bytes] | None = None
        self._repeated: dict[str, list[str]] | None = None
        # httpx puts Host first; a client that sets its own may put it anywhere
        if raw and raw[0][0].lower() == HOST:
            self.authority = raw[0][1].decode("latin-1") or self.dialled
        else:
            host = self.header("host")
            self.authority = host or self.dialled
            if host is None:  # HTTP/1.1 wants one, whoever removed it
                self.received = self.headers = [(b"Host", self.dialled.encode("latin-1")), *raw]
                self.names = b"host\n" + names

    # -- as it came ---------------------------------------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; None when absent."""
        met = self.alike
        if met is not None:
            return met.values.get(name)
        values = self._values
        if values is None:
            # without a step of bytecode a header, and nothing is decoded that nobody asks for
            raw = self.received
            values = self._values = dict(zip(map(bytes.lower, map(_NAME, raw)), map(_VALUE, raw), strict=True))
            if len(values) < len(raw):
                self._repeated = _lists(raw)
        found = values.get(name.encode("latin-1", "replace"))
        if found is None:
            return None
        return found.decode("latin-1") if self._repeated is None else ",".join(self._repeated[name])

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        if self.alike is not None:
            repeated = self.alike.repeated
        else:
            if self._values is None:
                self.header(name)
            repeated = self._repeated
        return repeated.get(name) if repeated is not None else None

    # -- as it is sent ------------------------------------------------------------------------------------------------

    def sent_header(self, name: str) -> str | None:
        """Value of a header as it is sent."""
        return self.header(name) if self.headers is self.received else joined_value(self.headers, name)

    def sent_values(self, wanted: WantedHeaders) -> Values:
        """Values of several headers as they are sent."""
        met, headers = self.alike, self.headers
        if headers is not self.received:
            return wanted.values(headers)
        names = self.names if met is None else met.names
        try:
            take = wanted.takes[names]
        except KeyError:
            take = wanted.learn(names, headers)
        return take(headers)

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, where Envoy puts it: before what rules add."""
        self.counted = True
        return [*self.headers, (ATTEMPT_COUNT, b"1")]

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self.headers = [*rest, (name, write_deadline(header, seconds).encode())]

    def attempt_headers(self, attempt: int) -> RawHeaders | SentHead:
        """The headers with the attempt's number, which tells a server (and a mesh behind it) of retries."""
        if not self.counted:
            met = self.alike
            if met is not None and attempt == 1 and self.headers is met.headers:
                return met.first
            return [*self.headers, (ATTEMPT_COUNT, b"%d" % attempt)]
        if attempt == 1:
            return self.headers
        return [pair if pair[0] != ATTEMPT_COUNT else (ATTEMPT_COUNT, b"%d" % attempt) for pair in self.headers]

    def sent_bytes(self) -> int:
        """Its bytes: method, target, names and values of headers, and as much of the body as has been seen."""
        met, headers, body = self.alike, self.headers, self.body
        head = met.size if met is not None and headers is met.headers else size_of(headers)
        if body is None:
            return head + len(self.method) + len(self.target)
        return head + len(self.method) + len(self.target) + (len(body) if isinstance(body, bytes) else body.size)

    def shadow(self) -> HttpxRequest:
        """The same request for a mirror: ``-shadow`` on its host, before the port. Nobody traces it."""
        copy = HttpxRequest.__new__(HttpxRequest)
        for name in _AS_IT_CAME:
            if hasattr(self, name):
                setattr(copy, name, getattr(self, name))
        copy.trace = None
        copy.headers = [
            (name, shadow_host(value)) if name.lower() == HOST else (name, value) for name, value in self.headers
        ]
        return copy


_AS_IT_CAME = tuple(name for name in HttpxRequest.__slots__ if name not in ("trace", "headers"))


def _known(headers: httpx.Headers) -> _Met | None:
    """What was learned of headers like these."""
    key = tuple(headers._list)
    found = _met.of(key)
    if found is None and key and _met.worth_learning():
        _, host, value = key[0]
        raw = raw_headers(headers)
        first = sent_head_of([*raw, (ATTEMPT_COUNT, b"1")]) if host == HOST and value else None
        if first is not None:
            found = _Met(raw, value.decode("latin-1"), first)
            _met.keep(key, found)
    return found


def _has_envoys(headers: RawHeaders) -> bool:
    """Whether there may be a header whose name begins with ``x-envoy-``."""
    # names in one piece, made without a step of bytecode a header (row "policy cost of a call")
    return b"x-envoy-" in b" ".join(map(_NAME, headers)).lower()


def _lists(raw: RawHeaders) -> dict[str, list[str]]:
    """Headers of which some are repeated."""
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        headers.setdefault(raw_name.decode("latin-1").lower(), []).append(raw_value.decode("latin-1"))
    return headers
