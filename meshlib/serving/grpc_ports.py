"""A mesh's ports of gRPC servers: ``mesh.add_grpc_port``. What they share is a thread that moves bytes, and a look at all
connections after each rotation and every ten seconds: those whose peer is no longer trusted are closed, streams and all."""

from __future__ import annotations

import functools
import gc
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meshlib.problems import MeshError
from meshlib.security.validity import valid_until
from meshlib.serving.admission import usable
from meshlib.serving.grpc_port import GrpcPort, listen
from meshlib.serving.tls_minimum import tls13_alone
from meshlib.transport.upstream.socket_directory import socket_directory
from meshlib.transport.upstream.splice import Splicer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlib.identity.credentials import Credentials
    from meshlib.policy.mtls_mode import MtlsMode
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.server.spliced import Spliced

log = logging.getLogger("meshlib.serving")

LOOK = 10.0
"""Seconds between looks at all connections."""
FIRST_CALL = 20.0
"""Seconds in which a connection that was made under a root that is gone may still make its first call,
which tells who it is."""


class GrpcPorts:
    """Of one mesh. Nothing here keeps the mesh: its servers' interceptors do."""

    def __init__(self, core: MeshCore) -> None:
        self._core = weakref.ref(core)
        self._splicer = Splicer("meshlib-grpc-ports")
        self._lock = threading.Lock()
        self._ports: list[GrpcPort] = []
        self._suspects: dict[Spliced, float] = {}
        self._looking = False
        weakref.finalize(core, self.close).atexit = False
        if core.identity is not None:
            core.identity.subscribe(_weakly(self))

    def add(self, server: Any, address: str, port: int | None, reuse_port: bool) -> int:
        """See ``Doors.add_grpc_port``."""
        core = self._open_core()
        if not _judges(server, core):
            raise MeshError(
                "this server has no interceptors of this mesh, so its callers would not be authenticated: make it with "
                "grpc.server(pool, interceptors=mesh.grpc_server_interceptors()), or of asyncio with "
                "grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())"
            )
        listener = listen(address, reuse_port)
        directory = ""
        try:
            bound: int = listener.getsockname()[1]
            directory = socket_directory()
            plain, tls = os.path.join(directory, "plain"), ""
            server.add_insecure_port(f"unix:{plain}")
            if core.identity is not None:
                from meshlib.transport.grpcio.server.credentials import server_credentials

                tls = os.path.join(directory, "tls")
                server.add_secure_port(
                    f"unix:{tls}", server_credentials(core.identity, core.clock.time(), one_port=True)
                )
        except BaseException:
            listener.close()
            if directory:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        made = GrpcPort(
            listener,
            port or bound,
            plain,
            tls,
            self._splicer,
            core.real_alarms,
            functools.partial(self._mode, port or bound),
            self._credentials,
            self._tls13,
        )
        with self._lock:
            self._ports.append(made)
        _when_it_stops(server, made)
        weakref.finalize(server, _gone, made, directory, os.getpid())
        if not self._looking:
            self._looking = True
            self._look_later(core)
        _tell(made, core)
        return bound

    def _open_core(self) -> MeshCore:
        core = self._core()
        if core is None or core.closed:
            raise MeshError("the mesh is closed")
        return core

    def _mode(self, port: int) -> MtlsMode | None:
        core = self._core()
        live = None if core is None else core.live
        return None if live is None else live.inbound.of(port).settings.mtls

    def _tls13(self) -> bool:
        core = self._core()
        return core is None or tls13_alone(core)

    def _credentials(self) -> Credentials | None:
        core = self._core()
        return None if core is None else usable(core.identity, core.clock.time())

    # -- who is still trusted ---------------------------------------------------------------------------------------

    def _look_later(self, core: MeshCore) -> None:
        core.alarms.after(LOOK, _weakly(self, again=True))

    def look(self, _rotated: Credentials | None = None, *, again: bool = False) -> None:
        """Close the connections whose peer is not trusted any more."""
        core = self._core()
        if core is None or core.closed:
            return
        if again:
            self._look_later(core)
        usable = self._credentials()  # files are looked at
        current = None if core.identity is None else core.identity.current()
        with self._lock:
            ports = self._ports = [each for each in self._ports if each.accepting or each.connections]
        for port in ports:
            if usable is not None:
                port.can_show()
            for connection in list(port.connections):
                if connection.credentials is not None and not self._may_stay(core, connection, current):
                    self._suspects.pop(connection, None)
                    connection.close()
        self._suspects = {
            each: since for each, since in self._suspects.items() if any(each in p.connections for p in ports)
        }

    def _may_stay(self, core: MeshCore, connection: Spliced, current: Credentials | None) -> bool:
        accepted = connection.credentials
        assert accepted is not None
        now = core.clock.time()
        if current is None or now >= accepted.svid.not_after:
            return False
        shown = connection.shown
        if shown is not None and connection.trusted:
            return core.peers.identity_of(*shown) is not None
        if shown is not None and now >= valid_until(shown[0]):
            return False
        if set(accepted.bundles.roots) <= set(current.bundles.roots):
            return True
        if shown is not None:
            return False  # nobody knows which root has vouched for it: none of those that are gone may stay
        since = self._suspects.setdefault(connection, core.clock.monotonic())
        return core.clock.monotonic() - since < FIRST_CALL

    # -- for the core -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all ports and connections."""
        for port in list(self._ports):
            port.close()
        self._splicer.close()

    def after_fork(self) -> None:
        """In a forked child: they are the parent's."""
        self._lock = threading.Lock()
        ports, self._ports = self._ports, []
        for port in ports:
            port.after_fork()
        self._splicer.after_fork()
        self._suspects = {}

    def status(self) -> list[dict[str, object]]:
        """For ``mesh.status()``."""
        return [port.status() for port in list(self._ports) if port.accepting or port.connections]


def grpc_ports_of(core: MeshCore) -> GrpcPorts:
    """Made when there is one."""
    found = core.ports
    if not isinstance(found, GrpcPorts):
        found = core.ports = GrpcPorts(core)
    return found


def _weakly(ports: GrpcPorts, again: bool = False) -> Callable[..., None]:
    """``ports.look``, as long as there is the mesh."""
    found = weakref.ref(ports)

    def look(rotated: Credentials | None = None) -> None:
        here = found()
        if here is not None:
            here.look(rotated, again=again)

    return look


def _judges(server: object, core: MeshCore) -> bool:
    """Whether a server of grpcio has an interceptor of this mesh: it tells nobody, so it is looked for in what it refers
    to."""
    from meshlib.transport.grpcio.server.loop import MeshAioServerInterceptor
    from meshlib.transport.grpcio.server.threads import MeshServerInterceptor

    level: list[object] = [server]
    for _ in range(6):
        below: list[object] = []
        for each in level:
            if isinstance(each, (MeshServerInterceptor, MeshAioServerInterceptor)):
                if each.judges_for(core):
                    return True
            elif isinstance(each, (tuple, list)) or type(each) is dict or type(each).__module__.startswith("grpc"):
                below += gc.get_referents(each)
        level = below
    return False


def _when_it_stops(server: Any, port: GrpcPort) -> None:
    """grpcio has no hook for a server that is stopped, so its ``stop`` is wrapped."""
    here = weakref.ref(server)
    original = type(server).stop

    @functools.wraps(original)
    def stop(*args: Any, **named: Any) -> Any:
        for each in ports:
            each.stop()
        return original(here(), *args, **named)

    ports: Iterable[GrpcPort]
    before = getattr(server.__dict__.get("stop"), "meshlib_ports", None)
    if before is not None:
        before.append(port)
        return
    ports = [port]
    stop.meshlib_ports = ports  # type: ignore[attr-defined]
    server.stop = stop


def _gone(port: GrpcPort, directory: str, pid: int) -> None:
    """A server that was dropped, or the end of the process."""
    if os.getpid() == pid:
        port.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _tell(port: GrpcPort, core: MeshCore) -> None:
    from meshlib.policy.mtls_mode import MtlsMode

    if port.mode() is MtlsMode.STRICT and (core.identity is None or core.identity.current() is None):
        log.error(
            "port %s refuses every connection: its PeerAuthentication is STRICT, and there is no certificate to present%s",
            port.port,
            ": give the mesh an identity (Mesh(identity=meshlib.Identity...))"
            if core.identity is None
            else f" yet: {core.identity.problem or 'it has not come'}",
        )
