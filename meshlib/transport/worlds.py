"""How effects are performed: in threads, on asyncio, or through somebody else's httpx transport.

``MeshCore`` is what all transports of a mesh share: the live configuration, the clock, the random numbers, and the
upstream connections (one set for threads, one per event loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from meshlib.clock import Clock, waiting
from meshlib.engine.cluster import BoundCluster
from meshlib.engine.drivers import discard, run, run_async
from meshlib.engine.effects import Acquire, Exchange, Race, Send
from meshlib.engine.live import Live
from meshlib.engine.outcome import Outcome
from meshlib.policy.endpoint import EndpointState
from meshlib.telemetry.observe import Telemetry
from meshlib.transport.alarms import Alarms, wake
from meshlib.transport.asyncio_connection import closed
from meshlib.transport.asyncio_upstream import AsyncioUpstream
from meshlib.transport.background import MAX_WAITING, Background
from meshlib.transport.client_limits import ClientLimits
from meshlib.transport.closing import Closing
from meshlib.transport.environment import asyncio_loop
from meshlib.transport.followed import Followed
from meshlib.transport.forked import take_all
from meshlib.transport.http2_codec import installed
from meshlib.transport.inner import AsyncInner, SyncInner
from meshlib.transport.names import Names
from meshlib.transport.problems import HTTP2_REMEDY, mesh_closed
from meshlib.transport.race import ThreadRace, race_on_loop
from meshlib.transport.shared_storages import SharedStorages
from meshlib.transport.sync_upstream import SyncUpstream
from meshlib.transport.target import Target, Timeouts
from meshlib.transport.tls import Context, caller_context, upstream_context

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.policy.http_match import RequestView
    from meshlib.transport.grpcio.upstreams import Upstreams


class MeshCore:
    """Shared by all transports of one mesh. ``live`` is the one reference that a reload swaps; None once closed."""

    def __init__(self, clock: Clock, rng: random.Random, retry_wait: Any, telemetry: Telemetry, alarms: Alarms) -> None:
        self.clock = clock
        self.wait = waiting(clock)
        self.alarms = alarms
        # how long others (grpcio, the network) take is no matter of the mesh's clock
        self.real_alarms = alarms if alarms.real else Alarms()
        for each in {alarms, self.real_alarms}:  # of a mesh that is dropped, too; whoever calls through it keeps it
            weakref.finalize(self, each.close).atexit = False
        self.rng = rng
        self.retry_wait = retry_wait
        self.telemetry = telemetry
        self.live: Live | None = None
        self.closing = Closing()
        self.names = Names(clock, forget=self.forget_targets)
        self.owner: object = None
        self.breakers = SharedStorages()
        self.limits: weakref.WeakSet[ClientLimits] = weakref.WeakSet()
        self.upstream = SyncUpstream(clock, self.names)
        self.background = Background()
        self.loops: dict[asyncio.AbstractEventLoop, AsyncioUpstream] = {}
        self._grpc: Upstreams | None = None
        # of a mesh that is dropped without close() nothing may be left: no thread, no descriptor
        weakref.finalize(self, _drop, self.names, self.background, self.loops).atexit = False

    def sync_world(self, inner: Any, settings: ClientSettings, module: ModuleType) -> Any:
        """The world of a blocking transport."""
        return SyncNetwork(self, settings) if inner is None else SyncThroughInner(self, inner, module)

    def async_world(self, inner: Any, settings: ClientSettings, module: ModuleType) -> Any:
        """The world of an asyncio transport."""
        return AsyncNetwork(self, settings) if inner is None else AsyncThroughInner(self, inner, module)

    def loop_upstream(self) -> AsyncioUpstream:
        """The connections of the running loop; new ones after a fork."""
        loop = asyncio_loop()
        found = self.loops.get(loop)
        if found is None or found.pid != os.getpid():
            for ended in [other for other in list(self.loops) if other.is_closed()]:
                self.loops.pop(ended, None)  # its connections ended with it
            found = self.loops[loop] = AsyncioUpstream(loop, self.names, self.alarms)
            if self.closing.closed:  # looked at after ``close`` can find it
                found.close()
        return found

    def install(self, snapshot: Snapshot) -> None:
        """Serve new calls by ``snapshot``. Connections that it has no use for are closed once they are idle."""
        before = self.live
        self.live = live = Live(
            snapshot,
            self.clock.monotonic(),
            before,
            self.names.watch,
            self.breakers.storage,
            self.telemetry.resilience,
        )
        if before is None:
            return
        self.telemetry.reconfigured()
        gone: list[Any] = []
        for key, old in live.take_left_of(before).items():
            now = live.bound.get(key)
            old.retired = True
            kept = set(now.targets.values()) if now is not None else set()
            gone += [target for target in list(old.targets.values()) if target not in kept]
        self.forget_targets(gone)

    def forget_targets(self, targets: Sequence[Any]) -> None:
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
        for target in targets:
            if type(target) is not Target:
                target.forget()

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

    def certificates(self) -> list[dict[str, Any]]:
        """The files that connections of the mesh are made with, and what is wrong with them. For ``mesh.status()``."""
        live = self.live
        targets = (
            [] if live is None else [t for cluster in list(live.bound.values()) for t in list(cluster.targets.values())]
        )
        found = dict.fromkeys(t.tls for t in targets if isinstance(t.tls, Followed) and t.tls.files)
        return [followed.status() for followed in found]

    def grpc_upstreams(self) -> Upstreams:
        """What gRPC channels share; made (and grpcio imported) when there is one."""
        found = self._grpc
        if found is None:
            from meshlib.transport.grpcio.upstreams import Upstreams

            found = self._grpc = Upstreams()
        return found

    def after_fork(self) -> None:
        """In a forked child: locks may be held, slots taken and calls counted by threads that do not exist here."""
        take_all((
            self._abandon_channels,
            self.upstream.after_fork,
            self._begin_anew,
            *[limits.after_fork for limits in list(self.limits)],
            self.names.after_fork,
            self.telemetry.after_fork,
            self.breakers.after_fork,
            *([] if self.live is None else [self.live.after_fork]),
        ))  # fmt: skip

    def _begin_anew(self) -> None:
        self.background = Background()
        closed, self.closing = self.closing.closed, Closing()
        if closed:
            self.closing.close()
        weakref.finalize(self, self.background.close).atexit = False

    def _abandon_channels(self) -> None:
        if self._grpc is None:
            return
        self._grpc.after_fork()
        if self.live is not None:
            for cluster in self.live.bound.values():
                self._grpc.abandon(cluster)

    def close(self) -> None:
        """Refuse new calls, close connections; calls under way fail at once. Loops other than the running one do their part
        when they run next."""
        self.closing.close()
        self.telemetry.catch_up()
        live, self.live = self.live, None
        if live is not None and self._grpc is not None:
            for cluster in live.bound.values():
                for key, target in list(cluster.targets.items()):
                    if type(target) is not Target:
                        cluster.targets.pop(key, None)
                        target.close()
        self.upstream.close()
        self.alarms.close()
        self.real_alarms.close()
        self.names.close()
        self.breakers.close()
        self.background.close()
        try:
            here: Any = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, upstream in list(self.loops.items()):
            if loop is here:
                upstream.close()
            else:
                on_loop(loop, upstream.close)

    async def aclose(self) -> None:
        """Let the running loop finish closing what ``close`` began."""
        await closed()


def on_loop(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Have ``what`` called by a loop that may belong to another thread; not at all if it is closed."""
    with contextlib.suppress(RuntimeError):  # closed, perhaps at this moment
        loop.call_soon_threadsafe(what)


def _drop(names: Names, background: Background, loops: dict[asyncio.AbstractEventLoop, AsyncioUpstream]) -> None:
    """What a mesh leaves that nobody closed."""
    names.close()
    background.close()
    for loop, upstream in list(loops.items()):
        on_loop(loop, upstream.close)


class ClientSettings:
    """What a client was made with: its TLS, for https URLs (the context is made on first use, it takes milliseconds), and
    ``limits`` of its own. ``http2``: HTTP/2 is offered in the handshake, and the server decides."""

    def __init__(
        self,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: ClientLimits | None = None,
    ) -> None:
        if http2 and not installed():
            raise ImportError(f"http2=True needs ngh2 or h2: {HTTP2_REMEDY}")
        self._verify = verify
        self._cert = cert
        self._trust_env = trust_env
        self._context: Context | None = None
        self.http2 = http2
        self.limits = limits

    def context(self) -> Context:
        """The context, or the files it follows; made once."""
        if self._context is None:
            self._context = caller_context(self._verify, self._cert, self._trust_env)
        return self._context


MAX_TARGETS = 2048
"""Per cluster. Only pass-through to ever new hosts gets there."""


def find_target(
    core: MeshCore, cluster: BoundCluster, endpoint: EndpointState, view: RequestView, client: ClientSettings
) -> Target:
    """Where to connect for this endpoint, made once per cluster, endpoint and TLS need.

    TLS of an https URL verifies the URL's host. TLS that a DestinationRule begins verifies its ``sni``, else the host of the
    mesh that the request chose (Envoy's ``auto_sni``); an address that the URL names is verified by the URL's name too."""
    settings = cluster.spec.tls
    scheme = view.scheme
    by_host = settings is not None and cluster.spec.resolution != "passthrough"
    authority = view.authority if by_host else view.dialled
    key: Any
    if settings is None and scheme != "https":
        key = endpoint
    elif settings is not None:
        key = (endpoint, settings.sni or authority)
    else:
        key = (endpoint, authority, client)
    if client.limits is not None:
        key = (key, client.limits)
    found = cluster.targets.get(key)
    if found is None or found.label != endpoint.key:
        if len(cluster.targets) >= MAX_TARGETS:
            oldest = next(iter(cluster.targets))
            core.forget_targets([cluster.targets.pop(oldest)])
        stale, found = found, _make_target(cluster, endpoint, scheme, authority, client)
        cluster.targets[key] = found
        if stale is not None:
            core.forget_targets([stale])
        if cluster.has_left(endpoint):  # looked at after the target can be found by who takes the endpoint out
            cluster.targets.pop(key, None)
            found.retire()
    return found


def _make_target(
    cluster: BoundCluster, endpoint: EndpointState, scheme: str, authority: str, client: ClientSettings
) -> Target:
    from meshlib.compiler.snapshot import split_authority

    settings, limits, spec = cluster.spec.tls, cluster.spec.limits, endpoint.endpoint
    context: Context | None = None
    name = ""
    if settings is not None:
        context = upstream_context(settings)
        name = settings.sni or split_authority(authority)[0]
    elif scheme == "https":
        context = client.context()
        name = split_authority(authority)[0]
    return Target(
        host=spec.address,
        port=spec.port,
        tls=context,
        server_hostname=name,
        subject_alt_names=settings.subject_alt_names if settings is not None else (),
        connect_timeout=limits.connect_timeout,
        idle_timeout=limits.idle_timeout
        if client.limits is None or client.limits.expiry is None
        else min(limits.idle_timeout, client.limits.expiry),
        max_requests=limits.max_requests_per_connection,
        max_duration=limits.max_connection_duration,
        keepalive=limits.tcp_keepalive,
        http2=cluster.spec.http2 or (settings is None and context is not None and client.http2),
        max_concurrent_streams=limits.max_concurrent_streams,
        limits=client.limits,
        label=endpoint.key,
    )


def _timeouts(effect: Send) -> Timeouts:
    wire = effect.call.wire
    caller = wire.timeouts
    return Timeouts(caller.connect, effect.timeout, caller.write, caller.read, effect.deadline, caller.pool, wire.trace)


class ThreadWorld:
    """What all blocking worlds have in common. ``traces``: the caller's trace extension is told of the wire here, and not by
    another transport."""

    traces = False

    def __init__(self, core: MeshCore) -> None:
        self._core = core

    def sleep(self, seconds: float) -> None:
        if self._core.alarms.real:
            self._core.closing.sleep(seconds)
        else:
            self._core.clock.sleep(seconds)

    def acquire(self, effect: Acquire) -> bool | None:
        changed = threading.Condition(threading.RLock())

        def granted() -> None:
            with changed:
                changed.notify()

        waiter = effect.slots.enqueue(granted, effect.place)
        if waiter is None:
            return None
        core = self._core
        now = core.clock.monotonic
        until = None if effect.timeout is None else now() + effect.timeout
        try:
            with core.closing.waking(lambda: effect.slots.admit(waiter)), changed:
                while waiter.state == "waiting" and (until is None or now() < until):
                    if until is None:
                        changed.wait()
                    else:
                        core.wait(changed, until)
        except BaseException:
            if effect.slots.cancel(waiter):
                effect.slots.release(effect.place)
            raise
        return effect.slots.cancel(waiter)

    def spawn(self, exchange: Exchange) -> None:
        # each world that inherits this has send()
        self._core.background.submit(
            lambda: discard(run(exchange, self), exchange),  # type: ignore[arg-type]
            exchange.close,
        )


class SyncNetwork(ThreadWorld):
    """Threads, on the mesh's own connections."""

    traces = True

    def race(self, effect: Race) -> tuple[Send, Outcome]:
        return ThreadRace(effect, self._send, self._core.alarms).run()

    def __init__(self, core: MeshCore, settings: ClientSettings) -> None:
        super().__init__(core)
        self._settings = settings
        if settings.limits is not None:
            settings.limits.acquire = self.acquire
            core.limits.add(settings.limits)

    def send(self, effect: Send) -> Outcome:
        return self._send(effect, None)

    def _send(self, effect: Send, watch: Any) -> Outcome:
        call = effect.call
        view, wire = call.view, call.wire
        timeouts = _timeouts(effect)
        timeouts.watch = watch
        target = find_target(self._core, effect.cluster, effect.endpoint, view, self._settings)
        return self._core.upstream.send(
            view.method.encode("latin-1"),
            wire.target,
            wire.headers(effect.attempt),
            wire.body,
            target,
            timeouts,
        )

    def enter(self) -> None:
        """Nothing to open."""

    def leave(self, *_exc: Any) -> None:
        """The client is left."""
        self.close()

    def close(self) -> None:
        """Close idle connections. Other clients of the mesh that are still open make new ones when they need them."""
        self._core.forget_limits(self._settings.limits)
        self._core.upstream.close_idle()


class LoopWorld:
    """What all asyncio worlds have in common."""

    traces = False

    def __init__(self, core: MeshCore) -> None:
        self._core = core
        self._spawned: set[asyncio.Task[Any]] = set()

    async def sleep(self, seconds: float) -> None:
        upstream = self._core.loop_upstream()
        try:
            async with upstream.until_closed():
                await self._core.clock.sleep_async(seconds)
        except TimeoutError:
            if not upstream.closed:
                raise

    async def acquire(self, effect: Acquire) -> bool | None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def wake_from_anywhere() -> None:
            try:
                loop.call_soon_threadsafe(wake, over)
            except RuntimeError:  # the loop was closed under its waiting tasks: the slot goes to the next in line
                effect.slots.release(effect.place)

        waiter = effect.slots.enqueue(wake_from_anywhere, effect.place)
        if waiter is None:
            return None
        alarm = (
            None
            if effect.timeout is None
            else self._core.alarms.on_loop(loop, effect.timeout, functools.partial(wake, over))
        )
        try:
            with self._core.closing.waking(lambda: effect.slots.admit(waiter)):
                await over
        except BaseException:
            if effect.slots.cancel(waiter):
                effect.slots.release(effect.place)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        return effect.slots.cancel(waiter)

    def spawn(self, exchange: Exchange) -> None:
        background = self._core.background
        if len(self._spawned) >= MAX_WAITING:
            background.dropped += 1
            exchange.close()
            return

        async def run_to_its_end() -> None:
            try:
                discard(await run_async(exchange, self), exchange)  # type: ignore[arg-type]
            except Exception:  # noqa: BLE001 (nobody waits for it: counted and logged, never raised)
                background.failed()

        task = asyncio.get_running_loop().create_task(run_to_its_end())
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)


class AsyncNetwork(LoopWorld):
    """Asyncio, on the mesh's own connections of the running loop."""

    traces = True

    async def race(self, effect: Race) -> tuple[Send, Outcome]:
        return await race_on_loop(effect, self.send, self._core.alarms)

    def __init__(self, core: MeshCore, settings: ClientSettings) -> None:
        super().__init__(core)
        self._settings = settings
        if settings.limits is not None:
            settings.limits.acquire = self.acquire
            core.limits.add(settings.limits)

    async def send(self, effect: Send) -> Outcome:
        call = effect.call
        view, wire = call.view, call.wire
        target = find_target(self._core, effect.cluster, effect.endpoint, view, self._settings)
        return await self._core.loop_upstream().send(
            view.method.encode("latin-1"),
            wire.target,
            wire.headers(effect.attempt),
            wire.body,
            target,
            _timeouts(effect),
            self._core.clock.monotonic() if effect.deadline is not None else 0.0,
        )

    async def enter(self) -> None:
        """Nothing to open."""

    async def leave(self, *_exc: Any) -> None:
        """The client is left."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running loop's idle connections; other clients that are still open make new ones when they need them."""
        self._core.forget_limits(self._settings.limits)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # under trio, say: there are no connections here
        self._core.loop_upstream().close_idle()
        await closed()


class SyncThroughInner(ThreadWorld, SyncInner):
    """Threads, through another httpx transport."""

    def race(self, effect: Race) -> tuple[Send, Outcome]:
        # somebody else's transport cannot be broken off from outside: its calls are not hedged
        return effect.first, self.send(effect.first)

    def __init__(self, core: MeshCore, inner: Any, module: ModuleType, verbatim: bool = False) -> None:
        ThreadWorld.__init__(self, core)
        SyncInner.__init__(self, inner, module, verbatim)

    def send(self, effect: Send) -> Outcome:
        return mesh_closed() if self._core.closed else SyncInner.send(self, effect)


class AsyncThroughInner(LoopWorld, AsyncInner):
    """Asyncio, through another httpx transport."""

    async def race(self, effect: Race) -> tuple[Send, Outcome]:
        return await race_on_loop(effect, self.send, self._core.alarms)

    def __init__(self, core: MeshCore, inner: Any, module: ModuleType, verbatim: bool = False) -> None:
        LoopWorld.__init__(self, core)
        AsyncInner.__init__(self, inner, module, verbatim)

    async def send(self, effect: Send) -> Outcome:
        """The mesh's closing breaks it off too, by cancelling it."""
        upstream = self._core.loop_upstream()
        try:
            async with upstream.until_closed():
                return await AsyncInner.send(self, effect)
        except TimeoutError as error:
            if not upstream.closed:
                raise
            return mesh_closed(error)
