"""What the channels of both runtimes have in common: the mesh host they are for, and how a call begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib import errors
from meshlib.engine import deadlines
from meshlib.engine.call import NO_TIMEOUTS, Call, CallerTimeouts
from meshlib.engine.exchange import exchange_of
from meshlib.engine.explanation import Exchange as Record
from meshlib.engine.route import route, route_again
from meshlib.engine.until_ready import until_ready
from meshlib.policy.deadline import GRPC_TIMEOUT
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.request import CallOptions, GrpcRequest
from meshlib.transport.grpcio.client.upstreams import upstreams_of_mesh
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    import grpc

    from meshlib.engine.effects import Exchange
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.connect import ChannelSettings
    from meshlib.transport.grpcio.contracts import Messages, Metadata, Options, Req, Resp

served = deadlines.current

AS_IT_IS: object = None if PLAIN else exchange_of
"""What ``MeshCore.exchange_of`` is where nothing is put around the exchanges of calls, which ``run_call`` may make then."""


def authority_of(target: str) -> str:
    """The mesh host (and port) of a gRPC target: ``ratings:9080``, also as ``dns:///ratings:9080``. Raises ``MeshError``
    for targets that name no host."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract", "vsock"):
        raise errors.MeshError(
            f"{target!r} is a socket of this machine, not a host of the mesh: use grpc.insecure_channel for it"
        )
    if colon and scheme in ("dns", "passthrough", "ipv4", "ipv6"):
        target = rest.rpartition("/")[2]
    port = target.rpartition(":")[2] if target.count(":") == 1 or target.startswith("[") else ""
    if port and not port.endswith("]") and not (port.isascii() and port.isdigit()):
        raise errors.MeshError(f"{port!r} in {target!r} is not a port; write the host as ratings:9080")
    if not target:
        raise errors.MeshError("a gRPC channel needs the host to call, for example ratings:9080")
    return target


class Dialer:
    """Makes calls. ``dialled`` is the host that the target names, ``authority`` what servers are told (the same, unless
    ``grpc.default_authority`` says otherwise), ``scheme`` "https" with channel credentials."""

    __slots__ = ("_timeouts", "authority", "core", "dialled", "scheme", "settings")

    def __init__(
        self,
        core: MeshCore,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
    ) -> None:
        self.core = core
        self._timeouts = NO_TIMEOUTS
        pairs = tuple((str(name), value) for name, value in options or ())
        self.dialled = authority_of(target)
        self.authority = str(dict(pairs).get("grpc.default_authority") or self.dialled)
        self.scheme = "http" if credentials is None else "https"
        self.settings: ChannelSettings = upstreams_of_mesh(core).settings(
            self.authority, credentials, pairs, compression
        )

    def begin(
        self,
        method: Method[Req, Resp],
        messages: bytes | Messages,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> tuple[Call[GrpcRequest[Messages]], Exchange[GrpcRequest[Messages]]]:
        """Route the call and make its exchange, not watched by telemetry yet. Arguments as for ``routed``."""
        call = self.routed(method, messages, timeout, metadata, credentials, compression)
        return call, self.exchange_of(call, wait_for_ready)

    def routed(
        self,
        method: Method[Req, Resp],
        messages: bytes | Messages,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        compression: grpc.Compression | None,
        with_call: bool = True,
    ) -> Call[GrpcRequest[Messages]]:
        """The call, which has its route. ``messages``: serialized bytes, or what keeps a stream of them; ``with_call``: whether
        anybody will look at grpcio's object of the call."""
        core = self.core
        live = core.live
        if live is None:
            raise errors.MeshClosed("the mesh is closed: make the call before mesh.close(), or make a new Mesh")
        if served.get() is not None:
            timeout = self._left(timeout)
        request: GrpcRequest[Messages] = GrpcRequest(
            method,
            messages,
            self.scheme,
            self.authority,
            self.dialled,
            tuple(metadata) if metadata else (),
            timeout,
            None if credentials is None and compression is None else CallOptions(credentials, compression),
            with_call,
        )
        timeouts = self._timeouts
        if timeouts.read != timeout:  # mostly it is that of the last call
            timeouts = self._timeouts = NO_TIMEOUTS if timeout is None else CallerTimeouts(None, timeout)
        call = Call(request, live, core.clock, core.rng, timeouts, core.retry_wait)
        if metadata or PLAIN:
            call.record = route(live.snapshot, request)
        else:
            taken = live.taken.get(method)  # nearly always there; as in ``route_again``, without its function
            call.record = route_again(live, request, method, GRPC_TIMEOUT) if taken is None else Record(*taken)
        return call

    def _left(self, timeout: float | None) -> float | None:
        """``timeout``, or what the call that this program is serving leaves, if that is less: nobody waits for a response after
        it."""
        around = deadlines.around()
        if around is None:
            return timeout
        left = max(0.0, around - self.core.clock.monotonic())
        return left if timeout is None or left < timeout else timeout

    def exchange_of(
        self, call: Call[GrpcRequest[Messages]], wait_for_ready: bool | None, brief: bool = False
    ) -> Exchange[GrpcRequest[Messages]]:
        """The exchange of a call. ``brief``: see ``outbound``."""
        make = self.core.exchange_of
        return until_ready(call, make) if wait_for_ready else make(call, brief and not PLAIN)
