"""``MeshCore``: what all transports of a mesh share: the live configuration, the clock, the random numbers, and the upstream
connections (one set for threads, one per event loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import random
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from meshlib.alarms import Alarms
from meshlib.clock import Clock, waiting
from meshlib.engine.call import Call, CallerTimeouts
from meshlib.engine.exchange import exchange_of
from meshlib.engine.inbound_state import InboundState
from meshlib.engine.live_mesh import LiveMesh
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route, straight
from meshlib.identity.peers import Peers
from meshlib.identity.servers import Servers
from meshlib.policy.telemetry_settings import expressions
from meshlib.problems import MeshError
from meshlib.telemetry.observe import InboundTelemetry, Telemetry
from meshlib.transport.core import events
from meshlib.transport.core.background import Background
from meshlib.transport.core.closing import Closing
from meshlib.transport.core.door_notices import DoorNotices
from meshlib.transport.core.loop_end import LoopEnds
from meshlib.transport.core.pool_counts import PoolCount, pool_counts
from meshlib.transport.core.shared_limits import SharedLimits
from meshlib.transport.core.shared_storages import SharedStorages
from meshlib.transport.core.trust_watch import TrustWatch
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.environment import asyncio_loop
from meshlib.transport.upstream.followed import Followed
from meshlib.transport.upstream.forked import take_all, this_process
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.loop_connection import closed
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.threads import SyncUpstream

if TYPE_CHECKING:
    from meshlib.compiler.routes import VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Exchange
    from meshlib.identity.identity import Identity
    from meshlib.identity.servers import Vouched
    from meshlib.policy.endpoint import EndpointState


@runtime_checkable
class Channel(Protocol):
    """A target of bound clusters that connects by itself. ``loop``: the one it belongs to, None for threads."""

    loop: asyncio.AbstractEventLoop | None

    def forget(self) -> None:
        """Close it when its last call has ended."""

    def close(self) -> None:
        """Close it now."""


class Channels(Protocol):
    """What connects by itself, and not through ``upstream``: grpcio's channels. They are ``targets`` of bound clusters."""

    def after_fork(self) -> None: ...
    def abandon(self, cluster: BoundCluster) -> None: ...
    def close(self) -> None: ...


class Ports(Protocol):
    """What accepts connections for servers by itself: ports of gRPC servers."""

    def close(self) -> None: ...
    def after_fork(self) -> None: ...
    def status(self) -> list[dict[str, object]]: ...


def shown(identity: Identity | None) -> str:
    """The SPIFFE ID of the certificate that servers of this mesh show, "" of one without."""
    current = None if identity is None else identity.latest
    return "" if current is None else current.svid.identity.text


class MeshCore:
    """Shared by all transports of one mesh. ``live`` is the one reference that a reload swaps; None once closed.
    ``exchange_of`` is what all doors make their exchanges with: the seam at which meshlib.testing comes in."""

    exchange_of = staticmethod(exchange_of)

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        retry_wait: Any,
        telemetry: Telemetry,
        alarms: Alarms,
        identity: Identity | None = None,
    ) -> None:
        self.clock = clock
        self.wait = waiting(clock)
        self.alarms = alarms
        # how long others (grpcio, the network) take does not depend on the mesh's clock
        self.real_alarms = alarms if alarms.real else Alarms()
        for each in {alarms, self.real_alarms}:  # of a mesh that is dropped, too; whoever calls through it keeps it
            weakref.finalize(self, each.close).atexit = False
        self.rng = rng
        self.retry_wait = retry_wait
        self.telemetry = telemetry
        self.serving: InboundTelemetry | None = None  # once there is a server
        self.logs = False
        """Whether the program has an access log of its own, beside those of resources."""
        self.live: LiveMesh | None = None
        self.on_install: Callable[[], None] = lambda: None
        """Told of each snapshot that is served from now on, in the thread that has made it."""
        self.shared_limits = SharedLimits(clock)
        self._resilience = functools.partial(events.resilience, telemetry)
        self.inbound = InboundState(
            clock,
            self.ask,
            self.shared_limits.counter,
            report=self._resilience,
            rng=rng,
            own=functools.partial(shown, identity),
        )
        self.inbound.tokens.key_sets.report = events.fetch_failure
        self.inbound.authorization.report = self.inbound.peers.report = events.authorization
        self.inbound.authorization.dry_run = telemetry.dry_run
        self.notices = DoorNotices()
        self.closing = Closing()
        self.names = Names(clock, forget=self.forget_targets)
        self.owner: object = None
        self.identity = identity
        self.peers = Peers(identity, self._trust_domain_aliases, clock)
        self.servers = Servers(identity, self._trust_domain_aliases, clock)
        self.breakers = SharedStorages()
        self.limits: weakref.WeakSet[ClientLimits] = weakref.WeakSet()
        self.upstream = SyncUpstream(clock, self.names)
        self.background = Background()
        self.loops: dict[asyncio.AbstractEventLoop, AsyncioUpstream] = {}
        self.trust_watch = TrustWatch(self.servers, identity, alarms, self.upstream, self.loops)
        self.channels: Channels | None = None  # of a door that makes some
        self.ports: Ports | None = None  # likewise
        self.loop_ends = LoopEnds(functools.partial(_loop_ended, weakref.ref(self)))
        # of a mesh that is dropped without close() nothing may be left: no thread, no descriptor
        weakref.finalize(self, _drop, self.names, self.background, self.loops, self.loop_ends).atexit = False

    def loop_upstream(self) -> AsyncioUpstream:
        """The connections of the running loop; new ones after a fork."""
        loop = asyncio_loop()
        found = self.loops.get(loop)
        if found is None or found.pid != this_process.pid:
            for ended in [other for other in list(self.loops) if other.is_closed()]:
                self.loops.pop(ended, None)  # its connections ended with it
            found = self.loops[loop] = AsyncioUpstream(loop, self.names, self.alarms)
            self.loop_ends.watch(loop)
            if self.closing.closed:  # looked at after ``close`` can find it
                found.close()
        return found

    def loop_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what was connected on a loop that ends now: nobody will use it or look after it again. Other asynchronous
        generators may end at this moment, and make a call as they do: it goes on. Call it on the loop."""
        upstream = self.loops.get(loop)
        if upstream is not None and upstream.pid == os.getpid():
            if upstream.in_use:
                upstream.leave()
            else:
                del self.loops[loop]
                upstream.close()
        live = self.live
        for cluster in () if live is None else list(live.bound.values()):
            for key, target in list(cluster.targets.items()):
                if isinstance(target, Channel) and target.loop is loop:
                    cluster.targets.pop(key, None)
                    target.forget()

    def ask(
        self, request: PlainRequest, timeout: float | None, path: VirtualHost | None = None
    ) -> Exchange[PlainRequest]:
        """The exchange of a call that a check of this mesh's servers makes, through the mesh: watched as every call is.
        ``timeout``: seconds to the head of its response. ``path``: it takes the rule of this virtual host, whatever
        VirtualServices say of its host. Raises ``MeshError`` when the mesh is closed."""
        live = self.live
        if live is None:
            raise MeshError("the mesh is closed")
        timeouts = CallerTimeouts(timeout, timeout, timeout, timeout)
        call = Call(request, live, self.clock, self.rng, timeouts, self.retry_wait)
        call.record = route(live.snapshot, request) if path is None else straight(live.snapshot, path)
        return self.telemetry.watch(call, self.exchange_of(call))

    def vouches_for(self, endpoint: EndpointState) -> Callable[[Vouched], None]:
        """What notes on an endpoint who it is, by each connection over mTLS of the mesh that is made to it."""
        telemetry = self.telemetry

        def note(vouched: Vouched) -> None:
            found = vouched.credentials.svid.identity.text, vouched.identity.text
            if endpoint.principals != found:
                endpoint.principals = found
                telemetry.vouched(endpoint.key)

        return note

    def install(self, snapshot: Snapshot) -> None:
        """Serve new calls by ``snapshot``. Connections that it has no use for are closed once they are idle. Raises
        ``MeshError``, and changes nothing, where it needs an extra that is not installed."""
        told = snapshot.telemetry
        if expressions(told.client) or expressions(told.server):
            from meshlib.telemetry import cel

            cel.require(told.client, told.server)
        before = self.live
        told = snapshot.telemetry
        self.telemetry.log_to(told.client.access_logs)  # before a call can begin with it: none goes untold
        if self.serving is not None:
            self.serving.log_to(told.server.access_logs)
        live = LiveMesh(
            snapshot,
            self.clock.monotonic(),
            before,
            self.names.watch,
            self.breakers.storage,
            self._resilience,
            self.inbound.take(snapshot.inbound, self.logs or bool(told.server.access_logs)),
            events.ejection,
        )
        live.tells = self.logs or bool(told.client.access_logs)
        serving = self.serving
        if serving is not None:
            # before a request can begin with it, which would learn to count by the old Telemetries; those that end by what was
            # there before know nothing that outlives it
            serving.reconfigured(told.server)
        self.live = live
        self.notices.forget()
        self.on_install()
        self.peers.reloaded()
        self.telemetry.reconfigured(told.client)
        if self.serving is not serving and self.serving is not None:  # it has come meanwhile
            self.serving.reconfigured(told.server)
        if before is None:
            live.check_failures.report = events.check_failure
            self.inbound.authorizers.report = events.authorizer
            return
        gone: list[object] = []
        for key, old in live.take_left_of(before).items():
            now = live.bound.get(key)
            old.retired = True
            kept = set(now.targets.values()) if now is not None else set()
            gone += [target for target in list(old.targets.values()) if target not in kept]
        self.forget_targets(gone)

    def serve_with(self, serving: InboundTelemetry) -> None:
        """``serving`` watches the calls of this mesh's servers; it is given every snapshot."""
        self.serving = serving
        live = self.live
        if live is not None:
            serving.reconfigured(live.snapshot.telemetry.server)

    def forget_targets(self, targets: Sequence[object]) -> None:
        """Targets that are not used any more: their idle connections go now, here and on every loop, those in use with their
        call; a channel of gRPC when its last call has ended. From any thread."""
        ours = [target for target in targets if type(target) is Target]
        for target in ours:
            target.retire()
            self.upstream.drop_idle(target)
        if ours:
            for loop, upstream in list(self.loops.items()):
                if upstream.pid == os.getpid():
                    on_loop(loop, functools.partial(upstream.drop_targets, ours))
        for other in targets:
            if isinstance(other, Channel):
                other.forget()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.closing.closed

    def forget_limits(self, limits: ClientLimits | None) -> None:
        """A client with limits of its own is closed: nobody else uses its targets."""
        live = self.live
        if limits is None or live is None:
            return
        for cluster in list(live.bound.values()):
            for key, target in list(cluster.targets.items()):
                if type(target) is Target and target.limits is limits:
                    cluster.targets.pop(key, None)
                    self.forget_targets([target])

    def _trust_domain_aliases(self) -> tuple[str, ...]:
        live = self.live
        return () if live is None else tuple(live.snapshot.inbound.default.mesh.trust_domain_aliases)

    def pools(self) -> dict[str, PoolCount]:
        """The connections of HTTP clients, in threads and on all loops, by cluster. (grpcio does not tell of its own.)"""
        live = self.live
        loops = [each.connections() for each in list(self.loops.values()) if each.pid == os.getpid()]
        connections = itertools.chain(self.upstream.connections(), *loops)
        return {} if live is None else pool_counts(list(live.bound.values()), connections)

    def certificates(self) -> list[dict[str, object]]:
        """The files that connections of the mesh are made with, and what is wrong with them. For ``mesh.status()``."""
        live = self.live
        targets = (
            [] if live is None else [t for cluster in list(live.bound.values()) for t in list(cluster.targets.values())]
        )
        contexts = [getattr(target, "tls", None) for target in targets]
        found = dict.fromkeys(tls for tls in contexts if isinstance(tls, Followed) and tls.files)
        return [followed.status() for followed in found]

    def after_fork(self) -> None:
        """In a forked child: locks may be held, slots taken and calls counted by threads that do not exist here."""
        take_all((
            self._abandon_channels,
            self.upstream.after_fork,
            self._begin_anew,
            *[limits.after_fork for limits in list(self.limits)],
            self.names.after_fork,
            *([] if self.identity is None else [self.identity.after_fork]),
            self.trust_watch.after_fork,
            *([] if self.ports is None else [self.ports.after_fork]),
            self.inbound.after_fork,
            self.telemetry.after_fork,
            self.breakers.after_fork,
            self.shared_limits.after_fork,
            *([] if self.live is None else [self.live.after_fork]),
        ))  # fmt: skip

    def _begin_anew(self) -> None:
        self.background = Background()
        closed, self.closing = self.closing.closed, Closing()
        if closed:
            self.closing.close()
        weakref.finalize(self, self.background.close).atexit = False

    def _abandon_channels(self) -> None:
        if self.channels is None:
            return
        self.channels.after_fork()
        if self.live is not None:
            for cluster in self.live.bound.values():
                self.channels.abandon(cluster)

    def close(self) -> None:
        """Refuse new calls, close connections; calls under way fail at once. Loops other than the running one do their part
        when they run next."""
        self.closing.close()
        if self.ports is not None:
            self.ports.close()
        live, self.live = self.live, None
        if live is not None and self.channels is not None:
            for cluster in live.bound.values():
                for key, target in list(cluster.targets.items()):
                    if isinstance(target, Channel):
                        cluster.targets.pop(key, None)
                        target.close()
        if self.channels is not None:
            self.channels.close()
        self.upstream.close()
        self.alarms.close()
        self.real_alarms.close()
        self.names.close()
        if self.identity is not None:
            self.identity.close()
        self.breakers.close()
        self.shared_limits.close()
        self.background.close()
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, upstream in list(self.loops.items()):
            if loop is here:
                upstream.close()
            else:
                on_loop(loop, upstream.close)
        self.telemetry.close()
        if self.serving is not None:
            self.serving.close()

    async def aclose(self) -> None:
        """Let the running loop finish closing what ``close`` began."""
        await closed()


def on_loop(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Have ``what`` called by a loop that may belong to another thread; not at all if it is closed."""
    with contextlib.suppress(RuntimeError):  # closed, perhaps at this moment
        loop.call_soon_threadsafe(what)


def _loop_ended(core: weakref.ref[MeshCore], loop: asyncio.AbstractEventLoop) -> None:
    """Whoever waits for the end of a loop does not keep the mesh."""
    found = core()
    if found is not None:
        found.loop_ended(loop)


def _drop(
    names: Names, background: Background, loops: dict[asyncio.AbstractEventLoop, AsyncioUpstream], ends: LoopEnds
) -> None:
    """What a mesh leaves that nobody closed."""
    ends.forget()
    names.close()
    background.close()
    for loop, upstream in list(loops.items()):
        on_loop(loop, upstream.close)
