"""What a gRPC call that we serve looks like to the engine, and what the engine's responses look like to grpcio: everything
that the interceptors of both runtimes (``threads.py``, ``loop.py``) share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import unquote

import grpc

from meshlib.engine.effects import Ended
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.message_size import FRAME, size_of_message
from meshlib.transport.grpcio.server.queued import seconds_in_line
from meshlib.transport.grpcio.server.spliced import at
from meshlib.transport.runtimes.serving import Server
from meshlib.transport.runtimes.thread_line import ThreadLine

if TYPE_CHECKING:
    from grpc import RpcMethodHandler

    from meshlib.engine.inbound import InboundCall
    from meshlib.policy.refusal import Refusal
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.contracts import Pairs

# seconds; grpcio tells callers without a deadline by None (asyncio) or by hundreds of years (threads)
NO_DEADLINE = 1e9
MAX_METHODS = 4096
"""Methods whose wrapped handlers are kept; only generic handlers that serve any name get there."""

ENDED = tuple(Ended(200, code) for code in range(17))
UNKNOWN = 2
METHOD_NOT_FOUND = "Method not found!"  # grpcio's own words


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_NUMBERS: dict[object, int] = {
    None: 0,
    **{code: code.value[0] for code in grpc.StatusCode},
    **{n: n for n in range(17)},
}


def code_of(refusal: Refusal) -> grpc.StatusCode:
    """What grpcio calls the status of a refusal: never OK, with which nobody is refused."""
    return _CODES.get(refusal.grpc or UNKNOWN, grpc.StatusCode.UNKNOWN)


def ended(code: object) -> Ended:
    """The end of a call whose handler returned, by the code that it has set (None, a ``StatusCode`` or a number)."""
    try:
        return ENDED[_NUMBERS.get(code, UNKNOWN)]
    except TypeError:  # not hashable: whatever it is, grpcio makes it UNKNOWN
        return ENDED[UNKNOWN]


def failed(code: object) -> Ended:
    """The end of a call whose handler raised: an abort has set its code, anything else is UNKNOWN."""
    found = ended(code)
    return ENDED[UNKNOWN] if found is ENDED[0] else found


def note_request(call: InboundCall, message: object) -> None:
    """One more request has come."""
    call.request_messages += 1
    call.request_bytes += FRAME + len(message) if type(message) is bytes else size_of_message(message)


def note_response(call: InboundCall, message: object) -> None:
    """One more response goes, or has gone."""
    call.response_messages += 1
    call.response_bytes += FRAME + len(message) if type(message) is bytes else size_of_message(message)


Requests = TypeVar("Requests")
Behaviour = Callable[..., Any]
"""A function that serves: its requests and its responses are of the application's own types."""


class Context(Protocol):
    """What the contexts of both runtimes tell of a call."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...
    def invocation_metadata(self) -> Pairs | None: ...
    def peer(self) -> str: ...
    def time_remaining(self) -> float | None: ...
    def code(self) -> object: ...


class Served(Server):
    """Makes the engine's calls of the calls that grpcio hands to one mesh's interceptors. ``port``: the port that they come
    to, which grpcio does not tell; 0: unknown."""

    __slots__ = ("_line", "_port")

    def __init__(
        self, core: MeshCore, telemetry: InboundTelemetry, propagates: bool = True, port: int | None = None
    ) -> None:
        super().__init__(core, telemetry, propagates)
        self._port = port or 0
        self._line = ThreadLine(core.clock.monotonic)

    def is_of(self, core: MeshCore) -> bool:
        """Whether it judges calls for this mesh."""
        return self.core is core

    @property
    def looks_at_queue(self) -> bool:
        """Whether it matters how long calls stand in line for a thread."""
        live = self.core.live
        admission = None if live is None else live.inbound.of(self._port).admission
        return admission is not None and admission.looks_at_queue

    def begin(self, path: str, context: Context) -> InboundCall:
        """The call as the engine sees it. ``path`` is the full method name; grpcio tells servers no authority and no
        address of theirs. A port of the mesh (``spliced.py``) knows where it comes from and to which port."""
        peer = context.peer()
        connection = at(peer)
        auth = context.auth_context()
        shown = certificates(auth)
        peer_id = None if shown is None else self.core.peers.identity_of(*shown)
        secure = auth.get("transport_security_type", NOT_SECURE) != NOT_SECURE
        mutual = secure and "x509_pem_cert" in auth
        port = self._port
        if connection is None:
            peer = address(peer)
        else:
            peer, port = connection.peer, connection.port
            if shown is not None:
                connection.judged(shown, peer_id is not None)
        request = InboundRequest(
            "POST",
            path,
            context.invocation_metadata() or (),
            protocol="grpc",
            peer=peer,
            port=port,
            peer_id=peer_id,
            secure=secure,
            mutual=mutual,
            http2=True,
        )
        left = context.time_remaining()
        deadline = None if left is None or left > NO_DEADLINE else self.clock.monotonic() + left
        call = self.call(request, deadline)
        if call.admission is not None:
            waited = seconds_in_line(self.clock.monotonic())
            if waited is not None:
                self._line.waited(waited)
            if call.admission.looks_at_queue:
                call.queued = self._line.seconds()
        return call


NOT_SECURE = [b"insecure"]
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
Shown = tuple[bytes, tuple[bytes, ...]]
"""A peer's leaf and what it has shown behind it."""


def certificates(auth: Mapping[str, Sequence[bytes]]) -> Shown | None:
    """The leaf that the peer has shown, and what it has shown behind it, in PEM; None without one.

    gRPC core checks few of the rules of X.509-SVID: what it calls ``peer_spiffe_id`` may have a query, a port or upper
    case, and its certificate may sign others. So nothing is asked of it but the certificates. That these are verified,
    grpcio's server credentials have seen to: without ``require_client_auth`` they do not ask for any.
    """
    shown = auth.get("x509_pem_cert")
    if shown is None or len(shown) != 1 or auth.get("transport_security_type", NOT_SECURE) == NOT_SECURE:
        return None
    return shown[0], _blocks(tuple(auth.get("x509_pem_cert_chain", ())))


@functools.lru_cache(1024)
def _blocks(texts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The certificates in some texts of PEM, one by one."""
    return tuple(found for text in texts for found in CERTIFICATE.findall(text))


@functools.lru_cache(256)
def address(peer: str) -> str:
    """``127.0.0.1:4711``, ``[::1]:4711`` or ``unix:/path`` of what grpcio calls the peer."""
    kind, _, rest = peer.partition(":")
    return unquote(rest) if kind in ("ipv4", "ipv6") else peer


def rebuilt(handler: RpcMethodHandler, behaviour: Behaviour) -> RpcMethodHandler:
    """The handler with another behaviour."""
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def behaviour_of(handler: RpcMethodHandler) -> Behaviour:
    """The function that serves."""
    found: Behaviour | None
    if handler.request_streaming:
        found = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        found = handler.unary_stream if handler.response_streaming else handler.unary_unary
    assert found is not None
    return found


class Wrapped:
    """Handlers by method, each wrapped once: grpcio asks interceptors at every call and gives the same handler again."""

    __slots__ = ("_by_method", "_make")

    def __init__(self, make: Callable[[str, RpcMethodHandler | None], RpcMethodHandler]) -> None:
        self._make = make
        self._by_method: dict[str, tuple[RpcMethodHandler, RpcMethodHandler]] = {}

    def of(self, method: str, handler: RpcMethodHandler | None) -> RpcMethodHandler:
        """The wrapped handler. A missing one is made for this call only: anybody can make up names."""
        if handler is None:
            return self._make(method, None)
        found = self._by_method.get(method)
        if found is not None and found[0] is handler:
            return found[1]
        if len(self._by_method) >= MAX_METHODS:
            self._by_method.clear()
        made = self._make(method, handler)
        self._by_method[method] = (handler, made)
        return made


class CountedRequests(Generic[Requests]):
    """A handler's stream of requests, counted as it reads them. Each runtime's own iterates it."""

    __slots__ = ("_call", "_requests")

    def __init__(self, requests: Requests, call: InboundCall) -> None:
        self._requests = requests
        self._call = call
