"""What the channels of both runtimes have in common: the mesh host they are for, and how a call begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib import errors
from meshlib.engine import deadlines
from meshlib.engine.call import NO_TIMEOUTS, Call, CallerTimeouts
from meshlib.engine.fallback import exchange_of
from meshlib.engine.outbound import outbound
from meshlib.engine.patience import until_ready
from meshlib.engine.route import route
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.request import GrpcRequest
from meshlib.transport.grpcio.client.upstreams import upstreams_of_mesh

if TYPE_CHECKING:
    from meshlib.engine.effects import Exchange
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.connect import ChannelSettings


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
        raise errors.MeshError(f"{port!r} in {target!r} is no port; write the host as ratings:9080")
    if not target:
        raise errors.MeshError("a gRPC channel needs the host to call, for example ratings:9080")
    return target


class Dialer:
    """Makes calls. ``dialled`` is the host that the target names, ``authority`` what servers are told (the same, unless
    ``grpc.default_authority`` says otherwise), ``scheme`` "https" with channel credentials."""

    __slots__ = ("authority", "core", "dialled", "scheme", "settings")

    def __init__(self, core: MeshCore, target: str, credentials: Any, options: Any, compression: Any) -> None:
        self.core = core
        pairs = tuple((str(name), value) for name, value in options or ())
        self.dialled = authority_of(target)
        self.authority = str(dict(pairs).get("grpc.default_authority") or self.dialled)
        self.scheme = "http" if credentials is None else "https"
        self.settings: ChannelSettings = upstreams_of_mesh(core).settings(
            self.authority, credentials, pairs, compression
        )

    def begin(
        self,
        method: Method,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> tuple[Call, Exchange]:
        """Route the call and make its exchange, not watched by telemetry yet. ``request``: serialized bytes, or what keeps a
        stream of them."""
        core = self.core
        live = core.live
        if live is None:
            raise errors.MeshClosed("the mesh is closed: make the call before mesh.close(), or make a new Mesh")
        around = deadlines.current.get()
        if around is not None:  # the call that this program is serving has one: nobody waits for an answer after it
            left = max(0.0, around - core.clock.monotonic())
            if timeout is None or left < timeout:
                timeout = left
        pairs = tuple(metadata) if metadata else ()
        made = GrpcRequest(
            method, request, self.scheme, self.authority, pairs, timeout, credentials, compression, self.dialled
        )
        timeouts = NO_TIMEOUTS if timeout is None else CallerTimeouts(None, timeout)
        call = Call(made, live, core.clock, core.rng, timeouts, core.retry_wait)
        call.record = route(live.snapshot, made)
        if wait_for_ready:
            return call, until_ready(call, exchange_of)
        return call, outbound(call) if not live.snapshot.fallbacks else exchange_of(call)
