"""A proxy at work: a mesh, its listeners, and what is done to them: by signals, by the admin endpoint, by too much load."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meshlib.mesh.admin import MeshAdmin, Shown, responding
from meshlib.problems import MeshError
from meshlib.proxy.drain import Drain, Phase
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.freed_memory import keep_freed_memory
from meshlib.proxy.inbound_application import ApplicationAddress
from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.inbound_transparent import NO_ADMIN, TransparentInbound
from meshlib.proxy.iptables import InterceptionMode
from meshlib.proxy.listener import Listener
from meshlib.proxy.overload import Overload, ResidentMemory
from meshlib.proxy.shedding import Shedding
from meshlib.proxy.spans import SpansByProcess
from meshlib.proxy.transparent import TransparentListener
from meshlib.proxy.watchdog import LoopBeat
from meshlib.transport.core.mesh_core import on_loop
from meshlib.transport.runtimes.lateness import LoopLateness

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from meshlib.proxy.dns_server import DnsServer
    from meshlib.proxy.gateway_listeners import GatewayPlaces
    from meshlib.proxy.metrics import ProxyMetrics
    from meshlib.proxy.watchdog import Beat
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.runtimes.serving import Server

    DnsPart = Callable[[MeshCore], DnsServer]

log = logging.getLogger("meshlib.proxy")

COLLECTED = (20_000, 20, 50)
"""Objects that are made and not given up until the youngest are looked through, and how often that is until older ones are."""

LOOK = 0.05
"""Seconds between two looks at whether a drain is over."""
OUTBOUND = "outbound"


class Proxied(Shown, Protocol):
    """A ``Mesh``."""

    _tracer_provider: TracerProvider | None

    def _server(self, propagate_deadline: bool = True) -> Server: ...
    def _telemetry_of_servers(self) -> InboundTelemetry: ...
    def close(self) -> None: ...
    def reload(self) -> None: ...


class Inbound(NamedTuple):
    """A socket, which listens already, in front of an application; ``app`` None: in front of all ports that connections were
    meant for."""

    sock: socket.socket
    app: ApplicationAddress | None


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """``drain``: seconds that requests under way have once the proxy is told to stop (Istio's terminationDrainDuration).
    ``exit_on_zero``, ``most_connections``, ``most_requests`` (of one process), ``most_memory`` and ``most_lag`` as of ``Drain``
    and ``Overload``.
    ``admin``: the address of the admin endpoint, "" for none. ``transparent``: outbound ports take connections that were meant
    for others. ``interception``: how inbound ones are led to a port before all of an application's."""

    drain: float = 5.0
    exit_on_zero: bool = False
    most_connections: int | None = None
    most_memory: int | None = None
    most_lag: float | None = None
    most_requests: int | None = None
    admin: str = ""
    transparent: bool = False
    interception: InterceptionMode = InterceptionMode.REDIRECT

    @property
    def sheds(self) -> bool:
        """Whether there is a limit beyond which requests are turned away."""
        return self.most_requests is not None or self.most_memory is not None or self.most_lag is not None


class ProxyProcess:
    """Forwards what comes on ``outbound`` by ``mesh``, and serves what comes on each of ``inbound`` to its application; all
    listen already, and so does ``health``, the port for probes. ``gateway``: the ports of Gateways are its own to open.
    ``parent`` is a descriptor that ends with the process that has begun this one, -1 for none."""

    def __init__(
        self,
        mesh: Proxied,
        outbound: socket.socket | Sequence[socket.socket],
        settings: ProxySettings = ProxySettings(),
        inbound: Sequence[Inbound] = (),
        *,
        health: socket.socket | None = None,
        parent: int = -1,
        gateway: GatewayPlaces | None = None,
        beat: Beat | None = None,
        dns: DnsPart | None = None,
    ) -> None:
        """``beat``: who is to hear that the event loop turns. ``dns``: the part that tells names, made of the mesh's core."""
        self._mesh = mesh
        self.dns = None if dns is None else dns(mesh._core)
        self._beat = beat
        self._outbound = [outbound] if isinstance(outbound, socket.socket) else list(outbound)
        self._inbound = inbound
        self._health = health
        self._parent = parent
        self._gateway = gateway
        self._settings = settings
        self._changed = asyncio.Event()
        self._drain = Drain(settings.drain, mesh._core.clock.monotonic, on_zero=settings.exit_on_zero)
        self._memory = ResidentMemory() if settings.most_memory is not None else None
        self.overload: Overload | None = None
        self._listeners: dict[str, Listener] = {}
        self._inbound_only = False
        self._over = False
        self._loop: asyncio.AbstractEventLoop
        self._reloading: asyncio.Task[None] | None = None
        self._following: set[asyncio.Task[None]] = set()

    # -- what is done to it -------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Accept no more, let what is under way end, and end. A second time: at once."""
        self._drain.close_listeners()
        self.terminate()

    def terminate(self) -> None:
        """As SIGTERM does: tell clients to go, then as ``stop``. A second time: at once."""
        self._drain.begin()
        for listener in self._listeners.values():
            listener.draining = True
        self._changed.set()

    def close_listeners(self, inbound_only: bool) -> None:
        """Accept no more, and go on with what there is."""
        self._inbound_only = inbound_only
        self._drain.close_listeners()
        self._changed.set()

    def _hangup(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = self._loop.create_task(self._reload())

    async def _reload(self) -> None:
        try:
            await asyncio.to_thread(self._mesh.reload)
        except MeshError as error:
            log.error("%s", error)

    def _reopen_logs(self) -> None:
        from meshlib.telemetry.access_log.writer import reopen_all

        self._loop.run_in_executor(None, reopen_all)  # a disk may be slow

    def _orphaned(self) -> None:
        self._loop.remove_reader(self._parent)
        self.stop()

    # -- what is seen of it, from any thread --------------------------------------------------------------------------

    @property
    def listener(self) -> Listener | None:
        """The first."""
        return next(iter(self._listeners.values()), None)

    @property
    def connections(self) -> int:
        """Of clients, open now."""
        return sum(listener.connections for listener in list(self._listeners.values()))

    @property
    def state(self) -> str:
        """As of ``Phase``."""
        return self._drain.phase(self.connections).value

    def listeners(self) -> Sequence[tuple[str, str, Listener]]:
        """Name and address of each."""
        return [(name, listener.where, listener) for name, listener in list(self._listeners.items())]

    def drain_listeners(self, inbound_only: bool) -> None:
        """``close_listeners`` from another thread."""
        self._loop.call_soon_threadsafe(self.close_listeners, inbound_only)

    def quit(self) -> None:
        """``terminate`` from another thread."""
        self._loop.call_soon_threadsafe(self.terminate)

    # -- at work ------------------------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until it is told to stop. ``ready`` is called once connections are accepted. Raises ``MeshError`` for an admin
        address that cannot be listened at."""
        self._loop = asyncio.get_running_loop()
        self._overloaded()
        forwarder = self._forwarder()
        with contextlib.ExitStack() as undo:
            metrics = self._metrics()
            undo.callback(metrics.close)
            await self._listen(forwarder)
            if self.dns is not None:
                await self.dns.start()
            self._handle_signals(undo)
            if self._beat is not None:
                undo.callback(LoopBeat(self._loop, self._beat).close)
            self._show(undo)
            ready()
            await self._until_over()
        if self.dns is not None:
            await self.dns.close()
        if self._memory is not None:
            self._memory.close()
        await forwarder.close()
        self._end_spans()

    def _end_spans(self) -> None:
        """Those of requests that were cut, too, as far as the collector takes them within a few seconds."""
        spans = self._mesh._tracer_provider
        if isinstance(spans, SpansByProcess):
            self._mesh._core.telemetry.catch_up()
            spans.shutdown()

    def _overloaded(self) -> None:
        settings = self._settings
        if settings.most_connections is None and not settings.sheds:
            return
        self.overload = Overload(
            self._mesh._core.clock.monotonic,
            self._memory or (lambda: 0),
            LoopLateness(self._loop).seconds,
            most_connections=settings.most_connections,
            most_requests=settings.most_requests,
            most_memory=settings.most_memory,
            most_lag=settings.most_lag,
        )

    def _forwarder(self) -> Forwarder:
        if self.overload is None or not self._settings.sheds:
            return Forwarder(self._mesh._core)
        return Shedding(self._mesh._core, self.overload)

    def _metrics(self) -> ProxyMetrics:
        from meshlib.proxy.metrics import ProxyMetrics

        return ProxyMetrics(self._mesh._registry, self)

    async def _listen(self, forwarder: Forwarder) -> None:
        outbound = TransparentListener if self._settings.transparent else Listener
        for number, sock in enumerate(self._outbound):
            self._add(f"{OUTBOUND}-{number + 1}" if number else OUTBOUND, sock, outbound(sock, forwarder))
        server = self._mesh._server() if self._inbound else None
        for each in self._inbound:
            assert server is not None
            port = "*" if each.app is None else each.app.known_as
            name = f"inbound:{port}"
            if name in self._listeners:
                name = f"{name}-{len(self._listeners)}"
            self._add(name, each.sock, self._inbound_listener(each, server))
        for listener in self._listeners.values():
            await listener.start()
        if self._gateway is not None:
            await self._serve_gateway(forwarder, self._gateway)

    def _inbound_listener(self, inbound: Inbound, server: Server) -> Listener:
        if inbound.app is not None:
            return InboundListener(inbound.sock, server, inbound.app)
        try:
            return TransparentInbound(inbound.sock, server, self._settings.interception)
        except PermissionError as error:
            raise MeshError(f"{NO_ADMIN} ({error.strerror}): grant it, or use REDIRECT") from None

    async def _serve_gateway(self, forwarder: Forwarder, places: GatewayPlaces) -> None:
        """Its ports, and from now on those that reloads bring and take away."""
        from meshlib.proxy.gateway_listeners import GatewayListeners

        listeners = GatewayListeners(forwarder, places, self._settings.drain, self._add, self._remove)
        await listeners.begin()

        def reloaded() -> None:
            if self._drain.phase(self.connections) is Phase.SERVING:
                task = self._loop.create_task(listeners.follow())
                self._following.add(task)
                task.add_done_callback(self._following.discard)

        core = self._mesh._core
        core.on_install = lambda: on_loop(self._loop, reloaded)
        await listeners.follow()  # what has come meanwhile

    def _add(self, name: str, sock: socket.socket, listener: Listener) -> None:
        listener.where = address_of(sock)
        listener.overload = self.overload
        listener.all_connections = lambda: self.connections
        self._listeners[name] = listener  # last: other threads read it

    def _remove(self, name: str) -> None:
        self._listeners.pop(name, None)

    def _handle_signals(self, undo: contextlib.ExitStack) -> None:
        loop = self._loop
        handled = {
            signal.SIGTERM: self.terminate,
            # Ctrl-C reaches workers, too, and their parent tells them: once is enough
            signal.SIGINT: self.stop if self._parent < 0 else lambda: None,
            signal.SIGHUP: self._hangup,
            signal.SIGUSR1: self._reopen_logs,
        }
        for each, handler in handled.items():
            with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(each, handler)
                undo.callback(loop.remove_signal_handler, each)
        if self._parent >= 0:
            loop.add_reader(self._parent, self._orphaned)
            undo.callback(loop.remove_reader, self._parent)

    def _show(self, undo: contextlib.ExitStack) -> None:
        """The admin endpoint, and the port for probes."""
        if not self._settings.admin and self._health is None:
            return
        from meshlib.proxy.health import HealthPort
        from meshlib.proxy.pages import CHANGING, proxy_pages

        began, pages = self._mesh._core.clock.monotonic(), proxy_pages(self)
        if self._settings.admin:
            admin = MeshAdmin(self._mesh, self._settings.admin, began, pages, CHANGING)
            undo.callback(admin.close)
            if self._inbound:
                admin.serve(self._mesh._telemetry_of_servers())
            admin.start()
        if self._health is not None:
            health = HealthPort(self._health, responding(self._mesh, began, pages))
            undo.callback(health.close)
            health.start()

    async def _until_over(self) -> None:
        alarms = self._mesh._core.real_alarms
        while (phase := self._drain.phase(self.connections)) is not Phase.OVER:
            if phase is Phase.CLOSING:
                self._close()
            self._changed.clear()
            alarm = None if phase is Phase.SERVING else alarms.on_loop(self._loop, LOOK, self._changed.set)
            await self._changed.wait()
            if alarm is not None:
                alarm.cancel()
        self._over, self._inbound_only = True, False
        self._close()
        cut = [name for name, listener in self._listeners.items() if not await listener.drained(0.0)]
        if cut:
            log.warning(
                "requests were still under way after %g s of draining and are broken off (%s); a longer --drain lets them end",
                self._settings.drain,
                ", ".join(cut),
            )

    def _close(self) -> None:
        """Listeners accept no more. Those of the application's own requests stay open as long as there are others: it may need
        them to end well."""
        keeps = self._inbound_only or (bool(self._inbound) and not self._drain.closes_all and not self._over)
        for name, listener in self._listeners.items():
            if not listener.stopped and not (keeps and name.startswith(OUTBOUND)):
                listener.stopped = True
                listener.stop()


def address_of(sock: socket.socket) -> str:
    """Where it listens."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connections_each(most: int | None, workers: int) -> int | None:
    """What one of several workers may have of so many connections."""
    return None if most is None else math.ceil(most / workers)


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """The garbage collector of this process looks at what is new after ``COLLECTED`` says so. Requests leave nothing behind for
    it, and as Python sets it, it costs a call of gRPC 7 % (row "proxy-http2")."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTED)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def run(process: Callable[[], ProxyProcess], ready: Callable[[], None] = lambda: None) -> None:
    """In this thread, on uvloop where it is installed."""

    async def work() -> None:
        await process().run(ready)

    make: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop

        make = uvloop.new_event_loop
    keep_freed_memory()
    with seldom_collected(), asyncio.Runner(loop_factory=make) as runner:
        runner.run(work())
