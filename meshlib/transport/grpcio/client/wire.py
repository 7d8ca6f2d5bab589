"""A gRPC call on its way to grpcio: what is handed to it, attempt after attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.engine.call import NO_TIMEOUTS
from meshlib.engine.wire_headers import ATTEMPT_COUNT, shadow_host
from meshlib.policy.deadline import GRPC_TIMEOUT
from meshlib.policy.deadline import write as write_deadline
from meshlib.transport.grpcio.metadata import from_raw, to_raw

if TYPE_CHECKING:
    from meshlib.engine.outcome import RawHeaders
    from meshlib.transport.grpcio.metadata import Metadata

HOST = b"host"
COUNT_NAME = ATTEMPT_COUNT.decode()
MANY = 32
# bytes, which grpcio takes too and need not encode: 0.5 % of a call in `make bench`
COUNTS: tuple[tuple[Any, ...], ...] = tuple(((ATTEMPT_COUNT, b"%d" % attempt),) for attempt in range(MANY))


class GrpcWire:
    """``Call.wire`` for gRPC. ``request``: serialized bytes, or what keeps a stream of them (``requests.py``).
    ``credentials``, ``wait_for_ready`` and ``compression`` are the call's own arguments. ``method`` is the caller's
    multicallable, which knows how to make the attempt's."""

    __slots__ = (
        "_metadata",
        "_raw",
        "authority",
        "compression",
        "counted",
        "credentials",
        "method",
        "request",
        "target",
        "view_authority",
        "with_call",
    )

    protocol = "grpc"
    multiplexed = True
    timeouts = NO_TIMEOUTS

    def __init__(
        self,
        method: Any,
        request: Any,
        metadata: Metadata,
        credentials: Any,
        compression: Any,
        authority: str,
    ) -> None:
        self.method = method
        self.request = request
        self.target: bytes = method.target
        self.credentials = credentials
        self.compression = compression
        self.authority = ""  # one that a rule sets, "" for the channel's
        self.view_authority = authority
        self.counted = False
        self.with_call = True  # whether anybody will look at grpcio's object of the call; making one costs
        self._metadata = metadata
        self._raw: RawHeaders | None = None

    @property
    def base_headers(self) -> RawHeaders:
        """The metadata as raw headers, for those who read or change them; the first time they are made."""
        if self._raw is None:
            self._raw = to_raw(self._metadata)
        return self._raw

    @base_headers.setter
    def base_headers(self, headers: RawHeaders) -> None:
        own = {value for name, value in to_raw(self._metadata) if name == HOST} if self._metadata else ()
        self._raw = headers
        for name, value in headers:
            if name == HOST and value not in own:  # set by a rule: metadata of that name says nothing of the authority
                self.authority = value.decode("latin-1")

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, before what rules add."""
        self.counted = True
        return [*self.base_headers, (ATTEMPT_COUNT, b"1")]

    def metadata(self, attempt: int) -> tuple[Any, ...]:
        """The metadata of an attempt, with its number."""
        if self._raw is None:
            if not self._metadata and attempt < MANY:
                return COUNTS[attempt]
            return (*self._metadata, *_count(attempt))
        if not self.counted:
            return (*from_raw(self._raw), *_count(attempt))
        return tuple(
            (name, str(attempt)) if name == COUNT_NAME else (name, value) for name, value in from_raw(self._raw)
        )

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left. (grpc-timeout says it by itself.)"""
        if header == GRPC_TIMEOUT:
            return
        name = header.encode("latin-1")
        rest = [pair for pair in self.base_headers if pair[0].lower() != name]
        self._raw = [*rest, (name, write_deadline(header, seconds).encode())]

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same messages."""
        request = self.request
        return type(request) is bytes or bool(request.replayable)

    @property
    def whole(self) -> bool:
        """Whether all request messages are at hand and the answer is a single one (else it can be neither hedged nor
        mirrored before it is answered)."""
        request = self.request
        return not self.method.streaming and (type(request) is bytes or bool(request.whole))

    @property
    def sent(self) -> bool:
        """Whether copies can be sent elsewhere: a mirror of a stream follows it as it goes on."""
        return self.replayable

    def shadow(self) -> GrpcWire:
        """The same call for a mirror: ``-shadow`` on its authority, before the port."""
        copy = GrpcWire(
            self.method,
            self.request if type(self.request) is bytes else self.request.copy(),
            self._metadata,
            None,
            self.compression,
            self.view_authority,
        )
        copy.target = self.target
        copy._raw, copy.counted = self._raw, self.counted
        copy.authority = shadow_host((self.authority or self.view_authority).encode("latin-1")).decode("latin-1")
        return copy


def _count(attempt: int) -> tuple[Any, ...]:
    return COUNTS[attempt] if attempt < MANY else ((COUNT_NAME, str(attempt)),)
