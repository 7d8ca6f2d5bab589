"""What every door of servers shares: a ``Server`` makes the engine's calls of the requests that a library hands in, and has
what performs their exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.engine.check_failures import CheckFailures
from meshlib.engine.deadlines import DEFAULT_HEADER
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_state import SHUT
from meshlib.policy.deadline import GRPC_TIMEOUT
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.runtimes.lateness import Latenesses
from meshlib.transport.runtimes.loop import AsyncNetwork
from meshlib.transport.runtimes.threads import SyncNetwork
from meshlib.transport.upstream.client_settings import ClientSettings

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.drivers import AsyncRuntime, SyncRuntime
    from meshlib.engine.inbound import InboundExchange
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.inbound_state import BoundInbound, BoundPorts
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.core.mesh_core import MeshCore


DEADLINE_NAMES = (DEFAULT_HEADER, GRPC_TIMEOUT)
"""The headers that say how much time a request has left where no ResiliencePolicy names one."""


class _Blocking(SyncNetwork):
    """Asks by the mesh's own connections, and delays by its clock."""

    def sleep(self, seconds: float) -> None:
        self._core.clock.sleep(seconds)


class _Awaited(AsyncNetwork):
    """The same on a loop."""

    async def sleep(self, seconds: float) -> None:
        await self._core.clock.sleep_async(seconds)


class Serves(Protocol):
    """A ``Mesh``."""

    def _server(self, propagate_deadline: bool = True) -> Server: ...


def server_of(mesh: Serves, who: str) -> Server:
    """The server of ``mesh`` for the middleware ``who``. Raises TypeError for what is not a mesh: arguments in the wrong order
    are not found at the first request."""
    make = getattr(mesh, "_server", None)
    if make is None:
        raise TypeError(f"{who}(app, mesh) needs a meshlib.Mesh as its second argument, not {type(mesh).__name__}")
    made: Server = make()
    return made


def checked_port(port: int | None) -> int | None:
    """``port``, None when nobody has said one. Raises ValueError for what is not a port."""
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"port must be a number from 1 to 65535, not {port!r}")
    return port


class Server:
    """One door of a mesh's servers. ``blocking`` and ``awaited`` perform what exchanges ask; ``propagates``: calls that
    handlers make end with the deadline of the request they serve. ``routes_told``: whoever has made this door tells which route
    was matched (``routed_limits.py``)."""

    __slots__ = (
        "_latenesses",
        "_names",
        "_names_of",
        "_propagates",
        "_straight",
        "awaited",
        "blocking",
        "clock",
        "core",
        "now",
        "peers",
        "rng",
        "routes_told",
        "telemetry",
    )

    def __init__(self, core: MeshCore, telemetry: InboundTelemetry, propagates: bool = True) -> None:
        self.core = core
        self._propagates = propagates
        self._names: tuple[str, ...] = ()
        self._names_of: Snapshot | None = None
        self._latenesses = Latenesses()
        self.telemetry = telemetry
        self.routes_told = False
        self.clock = core.clock
        self.now = core.clock.monotonic
        self.rng = core.rng
        self.peers = core.peers
        self._straight: tuple[BoundPorts, BoundInbound | None, dict[int, BoundInbound | None]] = (SHUT, None, {})
        settings = ClientSettings(guarded=True)
        self.blocking: SyncRuntime[PlainRequest] = _Blocking(core, settings)
        self.awaited: AsyncRuntime[PlainRequest] = _Awaited(core, settings)

    def call(self, request: InboundRequest, deadline: float | None = None, *, lasts: bool = False) -> InboundCall:
        """The call that serves ``request``; ``deadline`` is by the mesh's monotonic clock. Of a mesh that is closed it is
        refused. ``lasts``: a WebSocket, which no deadline binds."""
        core = self.core
        live = core.live
        if live is None:
            bound, failures = SHUT.default, None
        else:
            bound, failures = live.inbound.of(request.port), live.check_failures
        admission = bound.admission
        late = 0.0
        if admission is not None:
            if not lasts:
                deadline = admission.deadline(request, core.clock.monotonic(), deadline)
            if admission.looks_at_lag:
                late = self._latenesses.here()
        call = InboundCall(
            request, bound.settings, core.clock, core.rng, deadline, self._propagates, failures, bound.checks, admission
        )
        call.late = late
        if bound.route is not None and request.protocol != "grpc":
            if self.routes_told:
                call.checks, call.route_limits = bound.unrouted, bound.route
            else:
                self._route_unknown(bound)
        if bound.tells:
            call.tells = True
        return call

    def _route_unknown(self, bound: BoundInbound) -> None:
        settings = bound.settings.protection
        assert settings is not None
        self.core.notices.say(
            settings,
            "route-unknown",
            settings.by_route,
            "nobody tells this server which route is matched: all requests over HTTP share one bucket",
            "use MeshExtension of meshlib_fastapi, or Mesh of meshlib_flask; or another key",
        )

    def queue_unknown(self, call: InboundCall, why: str, hint: str) -> None:
        """Nobody can know how long ``call``, of which that matters, has stood in line for a thread: said once."""
        assert call.admission is not None
        self.core.notices.say(
            call.admission.settings,
            "queue-time-unknown",
            "spec.inbound.loadShedding.maxQueueTime",
            f"has no effect: {why}",
            hint,
        )

    def straight(self, port: int) -> BoundInbound | None:
        """What is bound for requests to ``port`` (0: nobody knows), where nothing is asked of those that have no protocol,
        deadline or form of their own but by checks that ``asked_at_once`` may ask; else None, and they take the exchange.
        Looked up once a configuration (row asgi-cost of the benchmarks)."""
        live = self.core.live
        if live is None:
            return None
        seen, default, ports = self._straight  # one tuple: other threads see all of it or nothing
        if live.inbound is not seen:
            default, ports = self._look(live.inbound)
        return ports.get(port, default) if ports else default

    def straight_for(self, request: InboundRequest) -> BoundInbound | None:
        """As ``straight``, of the port that ``request`` came to, which is asked for only where ports differ."""
        live = self.core.live
        if live is None:
            return None
        seen, default, ports = self._straight
        if live.inbound is not seen:
            default, ports = self._look(live.inbound)
        return ports.get(request.port, default) if ports else default

    def _look(self, found: BoundPorts) -> tuple[BoundInbound | None, dict[int, BoundInbound | None]]:
        usual = not PLAIN and self._propagates and self.deadline_names() is DEADLINE_NAMES
        default = found.default if usual and found.default.straight else None
        ports = {port: bound if usual and bound.straight else None for port, bound in found.ports.items()}
        self._straight = found, default, ports
        return default, ports

    @property
    def failures(self) -> CheckFailures:
        """What checks of the mesh have failed at."""
        live = self.core.live
        return CheckFailures() if live is None else live.check_failures

    def deadline_names(self) -> tuple[str, ...]:
        """The headers (lower case) that may say how much time a request has left, the one that counts first: those of
        ResiliencePolicies, then meshlib's and gRPC's. The same object while the configuration is."""
        live = self.core.live
        snapshot = None if live is None else live.snapshot
        if snapshot is not self._names_of or not self._names:
            policies = () if snapshot is None else snapshot.resilience.values()
            said = [policy.deadline[0].lower() for policy in policies if policy.deadline is not None]
            names = tuple(dict.fromkeys((*said, *DEADLINE_NAMES)))
            self._names = DEADLINE_NAMES if names == DEADLINE_NAMES else names
            self._names_of = snapshot
        return self._names

    def exchange(self, call: InboundCall) -> InboundExchange:
        """Its exchange, watched."""
        return self.telemetry.watch(call, inbound(call))
