"""uvicorn behind our acceptor: its protocols, lifespan and limits, our connections.

The peer of a TLS connection is told to the application as ASGI's extension ``tls``. X-Forwarded-For changes nothing about
who the peer is (``proxy_headers`` of uvicorn is off).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import uvicorn

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.problems import MeshError
from meshlib.serving.acceptor import HTTP_1, Acceptor
from meshlib.serving.admission import BATCH
from meshlib.serving.asgi_tls import WithTls
from meshlib.serving.health import Front, nothing
from meshlib.serving.log_lines import keep_secrets
from meshlib.serving.port_mode import mode_of
from meshlib.serving.tls_connections import TlsConnections
from meshlib.serving.tls_minimum import tls_minimum_of

if TYPE_CHECKING:
    from meshlib.serving.tls_peer import TlsPeer
    from meshlib.transport.asgi.messages import App
    from meshlib.transport.core.mesh_core import MeshCore

log = logging.getLogger("meshlib.serving")

LAST_REQUESTS = 0.25
"""Seconds that kept connections have to ask once more, and to be told that it was the last time, when we stop."""
HTTP_2 = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``http``, ``loop`` and ``ws`` are uvicorn's; ``http2`` needs a uvicorn that has it. ``drain``: seconds that requests
    under way have when the server is told to stop. ``health_path`` "": there is none. ``keep_alive``: seconds that a
    connection may be idle."""

    http: str = "auto"
    loop: str = "auto"
    ws: str = "auto"
    http2: bool = False
    drain: int = 30
    keep_alive: int = 5
    health_path: str = ""
    access_log: bool = True
    root_path: str = ""
    batch: int = BATCH


class HttpServer(uvicorn.Server):
    """Serves ``app`` on ``sock``, and health in plain text on ``health_sock``, by the mesh of ``core``; both sockets listen
    already. ``reload`` is called, in a thread, at SIGHUP; ``ready`` once connections are accepted. ``port``: the
    container's, None: the socket's."""

    def __init__(
        self,
        app: App,
        core: MeshCore,
        sock: socket.socket,
        settings: HttpSettings = HttpSettings(),
        *,
        port: int | None = None,
        health_sock: socket.socket | None = None,
        reload: Callable[[], object] | None = None,
        ready: Callable[[], object] | None = None,
    ) -> None:
        self._core = core
        self._port = sock.getsockname()[1] if port is None else port
        self._front = Front(app, settings.health_path, self.why_not_ready)
        super().__init__(_config(self._front, settings))
        keep_secrets()
        self._settings = settings
        self._connections = TlsConnections(core.identity, core.peers.identity_of, core.clock, core.real_alarms)
        alpn = HTTP_2 if settings.http2 else HTTP_1
        self.acceptor = self._acceptor(sock, _Connections(self), lambda: mode_of(core, self._port), alpn)
        self._acceptors = [self.acceptor]
        if health_sock is not None:
            front = Front(nothing, settings.health_path or "/healthz", self._why_not_ready_or_draining)
            plain = _PlainAlone(self, front)
            self._acceptors.append(self._acceptor(health_sock, plain, lambda: MtlsMode.DISABLE, HTTP_1))
        self._reload = reload
        self._ready = ready
        self._reloading: asyncio.Task[None] | None = None

    def _acceptor(
        self, sock: socket.socket, serves: _Connections, mode: Callable[[], MtlsMode], alpn: Sequence[str]
    ) -> Acceptor:
        core = self._core
        return Acceptor(
            sock,
            serves,
            mode,
            core.identity,
            core.clock,
            core.real_alarms,
            self._connections,
            alpn=alpn,
            batch=self._settings.batch,
            minimum=functools.partial(tls_minimum_of, core),
        )

    def why_not_ready(self) -> str:
        """Why no requests should be sent here, in words that any caller may read; "" when they may."""
        identity = self._core.identity
        if self._core.live is None:
            return "closed"
        if identity is not None:
            current = identity.current()
            if current is None:
                return "no certificate yet"
            if current.svid.not_after <= self._core.clock.time():
                return "the certificate has expired"
        elif mode_of(self._core, self._port) is MtlsMode.STRICT:
            return "mTLS is required and there is no certificate"
        return ""

    def _why_not_ready_or_draining(self) -> str:
        return "draining" if self._front.draining else self.why_not_ready()

    # -- uvicorn's ---------------------------------------------------------------------------------------------------

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The lifespan's startup, then connections."""
        await super().startup(sockets=[])
        if self.lifespan.should_exit:  # it has not started, and has said why; newer uvicorns leave by SystemExit
            return
        self._connections.start()
        for acceptor in self._acceptors:
            acceptor.start()
        why = self.why_not_ready()
        if why:
            self._say_not_ready(why)
        if self._ready is not None:
            self._ready()

    def _say_not_ready(self, why: str) -> None:
        identity = self._core.identity
        strict = ""
        if mode_of(self._core, self._port) is MtlsMode.STRICT:
            strict = f"PeerAuthentication says STRICT for port {self._port}: nothing is served until there is one. "
        remedy = "Give --cert, --key and --bundle, or MESHLIB_CERT, MESHLIB_KEY and MESHLIB_BUNDLE."
        log.error("not ready: %s. %s%s", why, strict, (identity.problem if identity is not None else "") or remedy)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let what is under way end, close the rest."""
        self._front.draining = True
        for acceptor in self._acceptors:
            acceptor.stop()
        await self._core.real_alarms.pause(LAST_REQUESTS)
        for acceptor in self._acceptors:
            await acceptor.settled()
        await super().shutdown(sockets=[])
        self._connections.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not uvicorn's: it would die of the signal in the end, and a drained server has done what it was told."""
        loop = asyncio.get_running_loop()
        handled = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self._hangup}
        handled[signal.SIGUSR1] = _reopen_logs
        added = []
        for each, handler in handled.items():
            with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(each, handler)
                added.append(each)
        try:
            yield
        finally:
            for each in added:
                loop.remove_signal_handler(each)

    def stop(self) -> None:
        """Drain and end; told twice: end without waiting."""
        if self.should_exit:
            self.force_exit = True  # asked twice
        self.should_exit = True

    def _hangup(self) -> None:
        if self._reload is not None and (self._reloading is None or self._reloading.done()):
            self._reloading = asyncio.get_running_loop().create_task(self._reload_beside(self._reload))

    @staticmethod
    async def _reload_beside(reload: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(reload)
        except MeshError as error:
            log.error("%s", error)


class _Connections:
    """``acceptor.Serves``: a protocol of uvicorn for each connection."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server

    def plain(self) -> asyncio.Protocol:
        return self._made(self._server.config)

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        config = copy.copy(self._server.config)  # its protocols take their application from there, of WebSockets too
        config.loaded_app = WithTls(cast("App", config.loaded_app), peer)
        return self._made(config)

    def _made(self, config: uvicorn.Config) -> asyncio.Protocol:
        server = self._server
        make = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
        return make(config=config, server_state=server.server_state, app_state=server.lifespan.state)


class _PlainAlone(_Connections):
    """Of another application on a port of its own."""

    def __init__(self, server: HttpServer, app: App) -> None:
        super().__init__(server)
        self._app = app

    def plain(self) -> asyncio.Protocol:
        config = copy.copy(self._server.config)
        config.loaded_app = self._app
        return self._made(config)


def _config(app: App, settings: HttpSettings) -> uvicorn.Config:
    beside: dict[str, bool] = {"http2": True} if settings.http2 else {}
    try:
        return uvicorn.Config(
            cast("Callable[..., object]", app),
            http="zttp" if settings.http2 and settings.http == "auto" else settings.http,
            loop=settings.loop,
            ws=settings.ws,
            interface="asgi3",
            lifespan="auto",
            proxy_headers=False,
            access_log=settings.access_log,
            root_path=settings.root_path,
            timeout_keep_alive=settings.keep_alive,
            timeout_graceful_shutdown=settings.drain,
            log_config=None,
            **beside,  # type: ignore[arg-type]
        )
    except TypeError:
        raise MeshError(
            f"uvicorn {uvicorn.__version__} has no HTTP/2: install a newer one and zttp (pip install -U uvicorn zttp)"
        ) from None


def _reopen_logs() -> None:
    """After a rotation: files of access logs are opened again, beside the loop, as a disk may be slow."""
    from meshlib.telemetry.access_log.writer import reopen_all

    asyncio.get_running_loop().run_in_executor(None, reopen_all)
