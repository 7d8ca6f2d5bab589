"""``meshlib serve``: an application, a mesh around it, a port, and as many processes as are wanted."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from meshlib.clock import SystemClock
from meshlib.problems import MeshError
from meshlib.serving.application import load_application
from meshlib.serving.health import has_route
from meshlib.serving.workers import Workers
from meshlib.serving.wsgi_application import WsgiApplication
from meshlib.transport.asgi.middleware import MeshASGIMiddleware

if TYPE_CHECKING:
    from meshlib.serving.http_server import HttpSettings
    from meshlib.transport.asgi.messages import App
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.runtimes.serving import Server
    from meshlib.transport.wsgi.contracts import Application

log = logging.getLogger("meshlib.serving")

HEALTH = "/healthz"
OLDEST = (0, 30)
"""Of uvicorn."""
BACKLOG = 2048
STARTUP_FAILED = 3
"""The exit code, uvicorn's."""
FEW = 4
"""Connections that one of several workers accepts at a time: the others are there for the rest."""


class Serves(Protocol):
    """A ``Mesh``."""

    _core: MeshCore

    def _server(self, propagate_deadline: bool = True) -> Server: ...
    def reload(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. ``health_path`` None: ``/healthz``, unless the application may have that itself."""

    target: str
    host: str = "127.0.0.1"
    port: int = 8000
    wsgi: bool = False
    factory: bool = False
    folder: str = "."
    threads: int = 40
    workers: int = 1
    health_path: str | None = None
    health_port: int | None = None


def serve(options: ServeOptions, settings: HttpSettings, make_mesh: Callable[[], Serves]) -> int:
    """Until it is told to stop; returns the exit code. ``make_mesh`` is called once in each process that serves. Raises
    ``MeshError`` for what it cannot begin with, ``ConfigError`` for resources that are wrong."""
    sock = listen(options.host, options.port, "--port")
    health = None if options.health_port is None else listen(options.host, options.health_port, "--health-port")
    if options.workers == 1:
        return _work(options, settings, make_mesh, sock, health, lambda: None, -1)

    def work(ready: Callable[[], None], parent: int, _slot: int) -> int:
        try:
            return _work(options, replace(settings, batch=FEW), make_mesh, sock, health, ready, parent)
        except MeshError as error:
            log.error("%s", error)
            return 1

    return Workers(options.workers, work, SystemClock(), settings.drain).run()


def _work(
    options: ServeOptions,
    settings: HttpSettings,
    make_mesh: Callable[[], Serves],
    sock: socket.socket,
    health: socket.socket | None,
    ready: Callable[[], None],
    parent: int,
) -> int:
    from meshlib.serving.http_server import HttpServer

    found = load_application(options.target, wsgi=options.wsgi, factory=options.factory, folder=options.folder)
    path = _health_path(options, found)
    app = cast("App", WsgiApplication(cast("Application", found), options.threads) if options.wsgi else found)
    mesh = make_mesh()
    try:

        def began() -> None:
            log.info("serving %s as process %d, listening on %s", options.target, os.getpid(), _address(sock))
            if parent >= 0:
                asyncio.get_running_loop().add_reader(parent, server.stop)
            ready()

        server = HttpServer(
            cast("App", MeshASGIMiddleware(app, mesh)),
            mesh._core,
            sock,
            replace(settings, health_path=path),
            health_sock=health,
            reload=mesh.reload,
            ready=began,
        )
        server.run()
    finally:
        mesh.close()
    return 0 if server.started else STARTUP_FAILED


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _health_path(options: ServeOptions, app: object) -> str:
    if options.health_path is not None:
        return options.health_path
    own = has_route(app, HEALTH)
    if own is False:
        return HEALTH
    why = "is served by the application" if own else "may be served by the application"
    log.info("%s %s, and policies act on it; with --health-path PATH the server responds to PATH itself", HEALTH, why)
    return ""


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens. Raises ``MeshError`` with the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MeshError(
                f"port {port} of {host} is in use: stop who has it (ss -ltnp 'sport = :{port}'), or give {option} another one"
            ) from None
        if error.errno == errno.EACCES:
            raise MeshError(
                f"port {port} needs privileges: give {option} one above 1023, or the process the capability to bind it"
            ) from None
        raise MeshError(f"{host} cannot be listened on: {error.strerror or error}") from None
    except OverflowError as error:
        raise MeshError(f"{option} {port} is not a port that can be listened on: {error}") from None
    sock.set_inheritable(False)
    return sock


def require_uvicorn() -> None:
    """Raises ``MeshError`` where it is missing or too old."""
    try:
        import uvicorn
    except ImportError as error:
        raise MeshError("meshlib serve needs uvicorn: pip install 'sidecarless[serve]'") from error
    found = tuple(int(part) for part in uvicorn.__version__.split(".")[:2] if part.isdigit())
    if found < OLDEST:
        raise MeshError(
            f"meshlib serve needs uvicorn {'.'.join(map(str, OLDEST))} or newer, not {uvicorn.__version__}: "
            "pip install -U 'sidecarless[serve]'"
        )
