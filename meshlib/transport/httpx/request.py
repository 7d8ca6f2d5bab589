"""httpx's request as policy sees it and as it is sent: wire strings, taken from it only when a rule asks."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, shadow_host
from meshlib.policy.deadline import write as write_deadline
from meshlib.policy.header_ops import RawHeaders
from meshlib.policy.regex import wire
from meshlib.transport.httpx.filled import raw_headers
from meshlib.transport.httpx.origins import place_of

if TYPE_CHECKING:
    import httpx

    from meshlib.transport.protocol.request_body import ReplayBody
    from meshlib.transport.upstream.trace import AsyncTrace, SyncTrace

_NAME, _VALUE = operator.itemgetter(0), operator.itemgetter(1)


class HttpxRequest:
    """A ``Request`` on an httpx (or httpx2) request, which stays at hand as ``original``. ``body`` is None, bytes or a
    ``ReplayBody``; ``trace`` the caller's trace extension. Raises ``BadUrl`` for a URL that leads nowhere."""

    __slots__ = (
        "_received",
        "_repeated",
        "_values",
        "authority",
        "body",
        "counted",
        "dialled",
        "full_path",
        "headers",
        "method",
        "original",
        "path",
        "query",
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
        raw = raw_headers(original.headers)
        self._received = self.headers = raw
        self.counted = False  # whether headers hold the number of the first attempt
        self._values: dict[bytes, bytes] | None = None
        self._repeated: dict[str, list[str]] | None = None
        # httpx puts Host first; a client that sets its own may put it anywhere
        if raw and raw[0][0].lower() == HOST:
            self.authority = raw[0][1].decode("latin-1") or self.dialled
        else:
            host = self.header("host")
            self.authority = host or self.dialled
            if host is None:  # HTTP/1.1 wants one, whoever removed it
                self._received = self.headers = [(b"Host", self.dialled.encode("latin-1")), *raw]

    # -- as it came ---------------------------------------------------------------------------------------------------

    @property
    def has_envoy_headers(self) -> bool:
        """Whether there may be a header whose name begins with ``x-envoy-``."""
        # names in one piece, made without a step of bytecode a header (row "policy cost of a call")
        return b"x-envoy-" in b" ".join(map(_NAME, self._received)).lower()

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; None when absent."""
        values = self._values
        if values is None:
            # without a step of bytecode a header, and nothing is decoded that nobody asks for
            raw = self._received
            values = self._values = dict(zip(map(bytes.lower, map(_NAME, raw)), map(_VALUE, raw), strict=True))
            if len(values) < len(raw):
                self._repeated = _lists(raw)
        found = values.get(name.encode("latin-1", "replace"))
        if found is None:
            return None
        return found.decode("latin-1") if self._repeated is None else ",".join(self._repeated[name])

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        if self._values is None:
            self.header(name)
        repeated = self._repeated
        return repeated.get(name) if repeated is not None else None

    # -- as it is sent ------------------------------------------------------------------------------------------------

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, where Envoy puts it: before what rules add."""
        self.counted = True
        return [*self.headers, (ATTEMPT_COUNT, b"1")]

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self.headers = [*rest, (name, write_deadline(header, seconds).encode())]

    def attempt_headers(self, attempt: int) -> RawHeaders:
        """The headers with the attempt's number, which tells a server (and a mesh behind it) of retries."""
        if not self.counted:
            return [*self.headers, (ATTEMPT_COUNT, b"%d" % attempt)]
        if attempt == 1:
            return self.headers
        return [pair if pair[0] != ATTEMPT_COUNT else (ATTEMPT_COUNT, b"%d" % attempt) for pair in self.headers]

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body."""
        body = self.body
        return body is None or isinstance(body, bytes) or bool(body.replayable)

    @property
    def whole(self) -> bool:
        """Whether all of the body is at hand already."""
        body = self.body
        return body is None or isinstance(body, bytes) or bool(body.ended)

    @property
    def sent(self) -> bool:
        """Whether all of the body has been seen by now, so that a copy of it can be sent elsewhere."""
        return self.whole

    def shadow(self) -> HttpxRequest:
        """The same request for a mirror: ``-shadow`` on its host, before the port. Nobody traces it."""
        copy = HttpxRequest.__new__(HttpxRequest)
        for name in _AS_IT_CAME:
            setattr(copy, name, getattr(self, name))
        copy.trace = None
        copy.headers = [
            (name, shadow_host(value)) if name.lower() == HOST else (name, value) for name, value in self.headers
        ]
        return copy


_AS_IT_CAME = tuple(name for name in HttpxRequest.__slots__ if name not in ("trace", "headers"))


def _lists(raw: RawHeaders) -> dict[str, list[str]]:
    """Headers of which some are repeated."""
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        headers.setdefault(raw_name.decode("latin-1").lower(), []).append(raw_value.decode("latin-1"))
    return headers
