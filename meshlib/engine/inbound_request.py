"""A request that this program serves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from meshlib.engine.as_sent import AsSent
from meshlib.engine.header_changes import HeaderChanges
from meshlib.engine.wire_headers import HOST
from meshlib.policy.client_address import ip_of, last_forwarded
from meshlib.policy.header_ops import RawHeaders
from meshlib.policy.regex import wire

if TYPE_CHECKING:
    from meshlib.engine.body_source import BodySource
    from meshlib.engine.message import Request
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.ext_authz import Change
    from meshlib.policy.inbound_view import InboundView
    from meshlib.policy.peer_metadata import PeerMetadata
    from meshlib.policy.spiffe_id import SpiffeId

RawPairs = Sequence[tuple[str | bytes, str | bytes]]


class InboundRequest(AsSent):
    """A request as its server sees it: the facts that checks decide by (``InboundView``), and that handlers read with
    ``mesh.inbound()``. It is a ``Request`` as well: what a proxy serves it sends on, the same object.

    ``authority`` is None when the transport does not tell it (and "" is shown). Headers are read, and made into a list to be
    sent, when somebody asks; ``principal`` and its like say what ``InboundView`` does.

    What checks leave on it: ``claims``, ``request_principal``; ``change()``, what the application is to see otherwise, which is
    ``for_application`` then; ``for_caller``, headers that its response gets, beside what ``tell_caller`` says
    (``response_headers`` has both). ``put``, ``add``, ``take_away`` and ``retarget`` change it for the application and for
    the checks that come after, as filters in Envoy do.

    ``asked`` are the providers of authorizers that were asked about it. ``body_source`` is where a check may look at the
    beginning of the body; None: its server lets nobody look. ``deadline`` is by the mesh's monotonic clock, None when
    there is none. ``peer_metadata`` is what the peer has told of itself in headers, for labels of metrics and for nothing that
    decides. ``routed`` is the path of the route that the application's router has chosen, None before.
    """

    __slots__ = (
        "_for_caller",
        "_raw",
        "_sent_headers",
        "_source_ip",
        "_values",
        "asked",
        "authority",
        "body_source",
        "claims",
        "deadline",
        "for_application",
        "for_caller",
        "host_known",
        "http2",
        "local_ip",
        "method",
        "mutual",
        "path",
        "peer",
        "peer_id",
        "peer_metadata",
        "port",
        "principal",
        "protocol",
        "query",
        "request_principal",
        "routed",
        "scheme",
        "secure",
        "sni",
        "version",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: RawPairs = (),
        *,
        protocol: str = "http",
        authority: str | None = None,
        query: str = "",
        peer: str = "",
        local_ip: str = "",
        port: int = 0,
        sni: str = "",
        principal: str = "",
        peer_id: SpiffeId | None = None,
        secure: bool = False,
        mutual: bool = False,
        http2: bool = False,
        version: str | None = None,
        body: bytes | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self._raw = headers
        self._values: dict[str, list[str]] | None = None
        self._sent_headers: RawHeaders | None = None
        self.protocol = protocol
        self.version = version
        self.scheme = "https" if secure else "http"
        self.host_known = authority is not None
        self.authority = authority or ""
        self.peer = peer
        self.local_ip = local_ip
        self.port = port
        self.sni = sni
        self.http2 = http2
        self._source_ip: str | None = None
        self.peer_id = peer_id
        self.principal = principal if peer_id is None else peer_id.text
        self.secure = secure
        self.mutual = mutual
        self.claims: Mapping[str, object] | None = None
        self.request_principal = ""
        self.peer_metadata: PeerMetadata | None = None
        self.routed: str | None = None
        self.body_source: BodySource | None = None
        self.asked: tuple[str, ...] = ()
        self.deadline: float | None = None
        self.for_application: HeaderChanges | None = None
        self.for_caller: list[tuple[bytes, bytes]] = []
        self._for_caller: tuple[Change, ...] = ()
        super().__init__(self.full_path.encode("latin-1", "replace"), body)

    # -- as it came ---------------------------------------------------------------------------------------------------

    @property
    def full_path(self) -> str:
        """Path and query as sent."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def dialled(self) -> str:
        """The host that its sender meant: there is no URL to say anything else."""
        return self.authority

    @property
    def source_ip(self) -> str:
        """The IP of ``peer``, "" when it has none."""
        found = self._source_ip
        if found is None:
            found = self._source_ip = ip_of(self.peer)
        return found

    @property
    def remote_ip(self) -> str:
        """Whom the nearest proxy says it has seen; else ``source_ip``. A sidecar believes the last of X-Forwarded-For, of whose
        lines it overlooks those that are empty."""
        forwarded = self.header("x-forwarded-for")
        if forwarded is None:
            return self.source_ip
        several = self.header_values("x-forwarded-for")
        if several is not None:
            forwarded = next((line for line in reversed(several) if line.strip(" \t")), "")
        elif self.protocol == "grpc" and not self.host_known and not forwarded.strip(" \t"):
            return ""  # gRPC core keeps the last line alone: what stood before one that is empty nobody knows
        return last_forwarded(forwarded) or self.source_ip

    @property
    def forwarded(self) -> bool:
        """Whether somebody else than its connection says who it is from."""
        return self.header("x-forwarded-for") is not None

    def goes_on_in(self, names: Iterable[bytes], headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Its trace goes on in a span that was made for it: its application is told so by ``headers``, in place of those of
        these ``names`` (in lower case). Nothing, where the application is in this process: there it has the span itself."""

    def traced_by(self, traceparent: bytes, came: bytes) -> None:
        """The same of a request that has said so in a traceparent alone: this is the value of that, in place of the one that
        ``came``."""
        self.goes_on_in((b"traceparent",), ((b"traceparent", traceparent),))

    def change(self) -> HeaderChanges:
        """What the application is to see otherwise."""
        found = self.for_application
        if found is None:
            found = self.for_application = HeaderChanges()
        return found

    @property
    def has_envoy_headers(self) -> bool:
        """Whether there is a header whose name begins with ``x-envoy-``."""
        return any(name.startswith("x-envoy-") for name in self._read())

    def header(self, name: str) -> str | None:
        """Value of a header or metadata key (``name`` in lower case), repeated ones joined with ","; None when absent."""
        values = self._read().get(name)
        return None if values is None else values[0] if len(values) == 1 else ",".join(values)

    def values_of(self, wanted: WantedHeaders) -> Values:
        """``header`` of several at once, in their order."""
        return wanted.of_texts(map(self.header, wanted.names))

    def facts(self) -> tuple[Hashable, str, str]:
        """What decides protocol, version, principal, server name and local address of a line of the access log; the address of
        the peer; the authority."""
        of_all = self.version, self.http2, self.protocol, self.principal, self.sni, self.local_ip, self.port
        return of_all, self.peer, self.authority

    def header_bytes(self) -> int:
        """How large the header is, names and values, with what the request line says."""
        pairs = sum(len(name) + len(value) for name, value in self._raw)
        return pairs + len(self.method) + len(self.path) + len(self.query) + len(self.authority)

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        values = self._read().get(name)
        return values if values is not None and len(values) > 1 else None

    def _read(self) -> dict[str, list[str]]:
        found = self._values
        if found is None:
            found = {}
            for name, value in self._raw:
                found.setdefault(_text(name).lower(), []).append(_text(value))
            self._values = found
        return found

    # -- as checks change it ------------------------------------------------------------------------------------------

    def put(self, name: str, value: bytes) -> None:
        """Set a header (``name`` in lower case) in place of those it has of that name."""
        self.change().put(name, value)
        self._read()[name] = [value.decode("latin-1")]
        self._sent_headers = None

    def add(self, name: str, value: bytes) -> None:
        """One header more."""
        self.change().add(name, value)
        self._read().setdefault(name, []).append(value.decode("latin-1"))
        self._sent_headers = None

    def take_away(self, name: str) -> None:
        """No header of that name."""
        self.change().take_away(name)
        self._read().pop(name, None)
        self._sent_headers = None

    def retarget(self, query: str) -> None:
        """Another query."""
        self.query = query
        self.target = self.change().target = self.full_path.encode("latin-1", "replace")

    def header_lists(self) -> Mapping[str, Sequence[str]]:
        """All headers by their names in lower case, as they are by now."""
        return self._read()

    # -- as its response is changed -----------------------------------------------------------------------------------

    @property
    def changes_response(self) -> bool:
        """Whether the caller is to get headers that the application does not send."""
        return bool(self.for_caller or self._for_caller)

    def tell_caller(self, changes: tuple[Change, ...]) -> None:
        """Headers of the response, whoever makes it."""
        for change in changes:
            if change.action == "add":
                self.for_caller.append((change.name.encode("latin-1"), change.value))
            else:
                self._for_caller += (change,)

    def response_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers of a response as the caller gets them."""
        found = [*headers, *self.for_caller]
        for change in self._for_caller:
            key = change.name.encode("latin-1")
            there = any(name.lower() == key for name, _ in found)
            if change.action == "set" or there == (change.action == "set_if_present"):
                found = [pair for pair in found if pair[0].lower() != key]
                found.append((key, change.value))
        return found

    # -- as it is sent on ---------------------------------------------------------------------------------------------

    @property
    def headers(self) -> RawHeaders:
        """As they came, with Host; made the first time."""
        found = self._sent_headers
        if found is None:
            found = [(_bytes(name), _bytes(value)) for name, value in self._raw]
            if self.for_application is not None:
                found = self.for_application.applied(found)
            if not any(name.lower() == HOST for name, _ in found):
                found.insert(0, (HOST, self.authority.encode("latin-1", "replace")))
            self._sent_headers = found
        return found

    @headers.setter
    def headers(self, headers: RawHeaders) -> None:
        self._sent_headers = headers

    def shadow(self) -> Self:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        copy = type(self)(
            self.method,
            self.path,
            self._raw,
            protocol=self.protocol,
            authority=self.authority if self.host_known else None,
            query=self.query,
            secure=self.secure,
            version=self.version,
            body=self.body,
        )
        copy.target, copy.counted = self.target, self.counted
        copy.headers = self._shadow_headers()
        return copy

    def __repr__(self) -> str:
        return f"<InboundRequest {self.method} {self.path} from {self.principal or 'an unauthenticated peer'} at {self.peer}>"


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else wire(value)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else wire(value).encode("latin-1")


if TYPE_CHECKING:

    def _both(made: InboundRequest) -> tuple[Request, InboundView]:
        return made, made
