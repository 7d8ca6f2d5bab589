"""A gRPC call as policy sees it, an HTTP/2 POST to ``/package.Service/Method`` whose metadata are the headers, and as it is
handed to grpcio, attempt after attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, shadow_host
from meshlib.policy.deadline import GRPC_TIMEOUT
from meshlib.policy.deadline import write as write_deadline
from meshlib.transport.grpcio.metadata import from_raw, to_raw, to_text

if TYPE_CHECKING:
    from meshlib.engine.message import RawHeaders
    from meshlib.transport.grpcio.metadata import Metadata

ALWAYS = {
    "content-type": "application/grpc",
    "te": "trailers",
    "grpc-accept-encoding": "identity, deflate, gzip",
}
"""Headers that grpcio sends by itself and that a rule may match."""


COUNT_NAME = ATTEMPT_COUNT.decode()
MANY = 32
# bytes, which grpcio takes too and need not encode: 0.5 % of a call in `make bench`
COUNTS: tuple[tuple[Any, ...], ...] = tuple(((ATTEMPT_COUNT, b"%d" % attempt),) for attempt in range(MANY))


class Named:
    """A method of which only the name is known, where no call is made."""

    __slots__ = ("path", "target")

    def __init__(self, path: str) -> None:
        self.path = path
        self.target = path.encode("latin-1", "replace")


class GrpcRequest:
    """A ``Request`` on a gRPC call. ``messages``: serialized bytes, or what keeps a stream of them (``requests.py``).
    ``credentials`` and ``compression`` are the call's own arguments. ``multicallable`` is the caller's, which knows how to make
    the attempt's."""

    __slots__ = (
        "_metadata",
        "_raw",
        "_repeated",
        "_timeout",
        "_values",
        "authority",
        "compression",
        "counted",
        "credentials",
        "dialled",
        "has_envoy_headers",
        "messages",
        "multicallable",
        "path",
        "scheme",
        "sent_authority",
        "target",
        "with_call",
    )

    protocol = "grpc"
    version = "HTTP/2"
    method = "POST"
    query = ""
    multiplexed = True

    def __init__(
        self,
        multicallable: Any,
        messages: Any,
        scheme: str,
        authority: str,
        metadata: Metadata,
        timeout: float | None = None,
        credentials: Any = None,
        compression: Any = None,
        dialled: str = "",
    ) -> None:
        self.multicallable = multicallable
        self.messages = messages
        self.path: str = multicallable.path
        self.target: bytes = multicallable.target
        self.scheme = scheme
        self.authority = authority
        self.dialled = dialled or authority
        self.sent_authority = ""  # one that a rule sets, "" for the channel's
        self.credentials = credentials
        self.compression = compression
        self.counted = False
        self.with_call = True  # whether anybody will look at grpcio's object of the call; making one costs
        self.has_envoy_headers = bool(metadata)  # whether there may be a header whose name begins with x-envoy-
        self._metadata = metadata
        self._timeout = timeout
        self._raw: RawHeaders | None = None
        self._values: dict[str, str] | None = None
        self._repeated: dict[str, list[str]] | None = None

    @property
    def full_path(self) -> str:
        return self.path

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; binary metadata in base64."""
        headers = self._values
        if headers is None:
            if not self._metadata:
                found = ALWAYS.get(name)
                return self._grpc_timeout() if found is None and name == GRPC_TIMEOUT else found
            headers = self._read()
        found = headers.get(name)
        if found is None:
            found = self._grpc_timeout() if name == GRPC_TIMEOUT else ALWAYS.get(name)
        return found

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        if self._values is None and self._metadata:
            self._read()
        return self._repeated.get(name) if self._repeated is not None else None

    def _read(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in self._metadata:
            text = value if type(value) is str and value.isascii() else to_text(name, value)
            if name in headers:
                if self._repeated is None:
                    self._repeated = {}
                self._repeated.setdefault(name, [headers[name]]).append(text)
                headers[name] = ",".join(self._repeated[name])
            else:
                headers[name] = text
        self._values = headers
        return headers

    def _grpc_timeout(self) -> str | None:
        return None if self._timeout is None else write_deadline(GRPC_TIMEOUT, self._timeout)

    @property
    def headers(self) -> RawHeaders:
        """The metadata as raw headers, for those who read or change them; the first time they are made."""
        if self._raw is None:
            self._raw = to_raw(self._metadata)
        return self._raw

    @headers.setter
    def headers(self, headers: RawHeaders) -> None:
        own = {value for name, value in to_raw(self._metadata) if name == HOST} if self._metadata else ()
        self._raw = headers
        for name, value in headers:
            if name == HOST and value not in own:  # set by a rule: metadata of that name says nothing of the authority
                self.sent_authority = value.decode("latin-1")

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, before what rules add."""
        self.counted = True
        return [*self.headers, (ATTEMPT_COUNT, b"1")]

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
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self._raw = [*rest, (name, write_deadline(header, seconds).encode())]

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same messages."""
        messages = self.messages
        return type(messages) is bytes or bool(messages.replayable)

    @property
    def whole(self) -> bool:
        """Whether all request messages are at hand and the answer is a single one (else it can be neither hedged nor
        mirrored before it is answered)."""
        messages = self.messages
        return not self.multicallable.streaming and (type(messages) is bytes or bool(messages.whole))

    @property
    def sent(self) -> bool:
        """Whether copies can be sent elsewhere: a mirror of a stream follows it as it goes on."""
        return self.replayable

    def shadow(self) -> GrpcRequest:
        """The same call for a mirror: ``-shadow`` on its authority, before the port."""
        copy = GrpcRequest(
            self.multicallable,
            self.messages if type(self.messages) is bytes else self.messages.copy(),
            self.scheme,
            self.authority,
            self._metadata,
            self._timeout,
            None,
            self.compression,
            self.dialled,
        )
        copy.target = self.target
        copy._raw, copy.counted = self._raw, self.counted
        copy.sent_authority = shadow_host((self.sent_authority or self.authority).encode("latin-1")).decode("latin-1")
        return copy


def _count(attempt: int) -> tuple[Any, ...]:
    return COUNTS[attempt] if attempt < MANY else ((COUNT_NAME, str(attempt)),)
