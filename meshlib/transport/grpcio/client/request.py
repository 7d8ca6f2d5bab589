"""A gRPC call as policy sees it, an HTTP/2 POST to ``/package.Service/Method`` whose metadata are the headers, and as it is
handed to grpcio, attempt after attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeAlias

from meshlib.engine.message_size import FRAME
from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, joined_value, shadow_host, size_of
from meshlib.policy.deadline import GRPC_TIMEOUT
from meshlib.policy.deadline import write as write_deadline
from meshlib.transport.grpcio.contracts import Messages
from meshlib.transport.grpcio.metadata import from_raw, to_raw, to_text

if TYPE_CHECKING:
    import grpc

    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.transport.grpcio.client.method import Method
    from meshlib.transport.grpcio.contracts import LoopMessages, Metadata, Pairs, RequestMessages, ThreadMessages

ALWAYS = {
    "content-type": "application/grpc",
    "te": "trailers",
    "grpc-accept-encoding": "identity, deflate, gzip",
}
"""Headers that grpcio sends by itself and that a rule may match."""


COUNT_NAME = ATTEMPT_COUNT.decode()
MANY = 32
# bytes, which grpcio takes too and need not encode: 0.5 % of a call in `make bench`
COUNTS: tuple[Pairs, ...] = tuple(((ATTEMPT_COUNT, b"%d" % attempt),) for attempt in range(MANY))


class CallOptions(NamedTuple):
    """What few calls are given of their own."""

    credentials: grpc.CallCredentials | None
    compression: grpc.Compression | None


class GrpcRequest(Generic[Messages]):
    """A ``Request`` on a gRPC call. ``messages``: serialized bytes, or what keeps a stream of them (``requests.py``).
    ``method_called`` is the caller's, by which an attempt's multicallable is made; ``call_options`` the call's own arguments,
    None without any."""

    __slots__ = (
        "_metadata",
        "_raw",
        "_repeated",
        "_timeout",
        "_values",
        "authority",
        "call_options",
        "counted",
        "dialled",
        "has_envoy_headers",
        "messages",
        "method_called",
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
        method: Method[Any, Any],
        messages: bytes | Messages,
        scheme: str,
        authority: str,
        dialled: str,
        metadata: Metadata = (),
        timeout: float | None = None,
        call_options: CallOptions | None = None,
        with_call: bool = True,
    ) -> None:
        self.method_called = method
        self.messages = messages
        self.path = method.path
        self.target = method.target
        self.scheme = scheme
        self.authority = authority
        self.dialled = dialled
        self.sent_authority = ""  # one that a rule sets, "" for the channel's
        self.call_options = call_options
        self.with_call = with_call  # whether anybody will look at grpcio's object of the call; making one costs
        self.has_envoy_headers = metadata != () and _may_ask(metadata)
        self._metadata = metadata
        self._timeout = timeout
        # set when they are made: ``_repeated`` with ``_values``, ``counted`` with ``_raw``
        self._raw: RawHeaders | None = None
        self._values: dict[str, str] | None = None

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
        if not self._metadata:
            return None
        if self._values is None:
            self._read()
        return self._repeated.get(name)

    alike = names = None

    def sent_header(self, name: str) -> str | None:
        """Value of a header as it is sent; ``host`` is the authority that a rule has set."""
        if name == "host":
            return self.sent_authority or self.authority
        return self.header(name) if self._raw is None else joined_value(self._raw, name)

    def sent_values(self, wanted: WantedHeaders) -> Values:
        """Values of several headers as they are sent."""
        return wanted.of_texts(map(self.sent_header, wanted.names))

    def _read(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        repeated: dict[str, list[str]] = {}
        for name, value in self._metadata:
            text = value if type(value) is str and value.isascii() else to_text(name, value)
            if name in headers:
                repeated.setdefault(name, [headers[name]]).append(text)
                headers[name] = ",".join(repeated[name])
            else:
                headers[name] = text
        self._repeated = repeated
        self._values = headers
        return headers

    def _grpc_timeout(self) -> str | None:
        return None if self._timeout is None else write_deadline(GRPC_TIMEOUT, self._timeout)

    @property
    def headers(self) -> RawHeaders:
        """The metadata as raw headers, for those who read or change them; the first time they are made."""
        raw = self._raw
        if raw is None:
            self.counted = False
            raw = self._raw = to_raw(self._metadata)
        return raw

    @headers.setter
    def headers(self, headers: RawHeaders) -> None:
        own = {value for name, value in to_raw(self._metadata) if name == HOST} if self._metadata else ()
        if self._raw is None:
            self.counted = False
        self._raw = headers
        for name, value in headers:
            if name == HOST and value not in own:  # set by a rule: metadata of that name says nothing of the authority
                self.sent_authority = value.decode("latin-1")

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, before what rules add."""
        headers = self.headers
        self.counted = True
        return [*headers, (ATTEMPT_COUNT, b"1")]

    def metadata(self, attempt: int) -> Pairs:
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

    def sent_bytes(self) -> int:
        """Its bytes: method, path, metadata, and as many messages as have been seen, with what frames them."""
        messages = self.messages
        if not self._metadata and not self._raw and type(messages) is bytes:  # nearly always
            return self.method_called.bare + len(messages)
        head = len(self.method) + len(self.path) + (size_of(self.headers) if self._metadata or self._raw else 0)
        return head + self.body_bytes()

    def body_bytes(self) -> int:
        """As many messages as have been seen, with what frames them."""
        messages = self.messages
        if isinstance(messages, bytes):
            return FRAME + len(messages)
        count, size = messages.seen()
        return FRAME * count + size

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same messages."""
        messages = self.messages
        return isinstance(messages, bytes) or messages.replayable

    @property
    def whole(self) -> bool:
        """Whether all request messages are at hand and the response is a single one (else it can be neither hedged nor
        mirrored before its response is there)."""
        messages = self.messages
        return not self.method_called.streaming and (isinstance(messages, bytes) or messages.whole)

    @property
    def sent(self) -> bool:
        """Whether copies can be sent elsewhere: a mirror of a stream follows it as it goes on."""
        return self.replayable

    def shadow(self) -> Self:
        """The same call for a mirror: ``-shadow`` on its authority, before the port."""
        messages, options = self.messages, self.call_options
        copy = type(self)(
            self.method_called,
            messages if isinstance(messages, bytes) else messages.copy(),  # type: ignore[arg-type]  # of the same runtime
            self.scheme,
            self.authority,
            self.dialled,
            self._metadata,
            self._timeout,
            None if options is None or options.compression is None else CallOptions(None, options.compression),
        )
        copy.target = self.target
        if self._raw is not None:
            copy._raw, copy.counted = self._raw, self.counted
        copy.sent_authority = shadow_host((self.sent_authority or self.authority).encode("latin-1")).decode("latin-1")
        return copy


def _may_ask(metadata: Metadata) -> bool:
    """Whether there may be a header whose name begins with ``x-envoy-``."""
    try:
        for name, _ in metadata:
            if name[:8] == "x-envoy-" or not isinstance(name, str):
                return True
    except (TypeError, ValueError):
        return True  # these are no pairs, as grpcio will say
    return False


def _count(attempt: int) -> Pairs:
    return COUNTS[attempt] if attempt < MANY else ((COUNT_NAME, str(attempt)),)


if TYPE_CHECKING:
    AnyRequest: TypeAlias = GrpcRequest[RequestMessages]
    ThreadRequest: TypeAlias = GrpcRequest[ThreadMessages]
    LoopRequest: TypeAlias = GrpcRequest[LoopMessages]
