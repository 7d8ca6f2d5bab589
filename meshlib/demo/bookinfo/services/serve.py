"""One service as a process: ``python -m meshlib.demo.bookinfo.services.serve reviews --version v2 --mesh FOLDER``.

It binds its own port (so no other process can take it in between), prints one line of JSON with that port when it serves,
and with ``--lifeline`` ends when its standard input closes: however its parent dies, it leaves no orphan.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

import meshlib
from meshlib.demo.bookinfo.services import details, metrics, productpage, ratings, reviews
from meshlib.transport.asgi.middleware import MeshASGIMiddleware

SERVICES = ("productpage", "details", "reviews", "ratings")
GRACE_SECONDS = 2


def workload_of(service: str, version: str) -> meshlib.Workload:
    """Who a service's process is in the mesh: what its Pod would say."""
    return meshlib.Workload(
        f"{service}-{version}",
        labels={"app": service, "version": version},
        service_account=f"bookinfo-{service}",
    )


def build(service: str, version: str, pod: str, mesh: meshlib.Mesh | None) -> FastAPI:
    """The service's app. productpage and reviews call others, so they get the mesh's client and show its status."""
    if service == "details":
        return details.create_app(version=version, pod=pod)
    if service == "ratings":
        return ratings.create_app(version=version, pod=pod)
    if mesh is None:
        raise ValueError(f"{service} calls other services and needs a mesh (--mesh FOLDER)")
    client = mesh.async_client()
    create = productpage.create_app if service == "productpage" else reviews.create_app
    app = create(client, version=version, pod=pod)
    app.add_api_route("/mesh/status", mesh.status)
    app.add_route(metrics.PATH, metrics.metrics, methods=["GET"], include_in_schema=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await client.aclose()
            await mesh.aclose()

    app.router.lifespan_context = lifespan
    return app


def bind(port: int) -> socket.socket:
    """A listening-to-be socket on loopback: the wanted port, or any free one when it is 0 or taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        if port == 0:
            raise
        sock.bind(("127.0.0.1", 0))
    return sock


class ReportingServer(uvicorn.Server):
    """uvicorn that says, once it accepts connections, where."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            sys.stdout.write(json.dumps({"port": sockets[0].getsockname()[1], "pid": os.getpid()}) + "\n")
            sys.stdout.flush()


def watch_lifeline(server: uvicorn.Server) -> None:
    """End the server when standard input closes; by force when it does not end by itself."""

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        server.should_exit = True
        threading.Event().wait(GRACE_SECONDS + 2)
        os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m meshlib.demo.bookinfo.services.serve", description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--pod", default="", help="name of the replica; default: service-version")
    parser.add_argument("--mesh", default="", help="folder of the mesh's YAML, watched for changes")
    parser.add_argument(
        "--otlp", default="", help="URL of an OTLP receiver, which gets spans of what is served and called"
    )
    parser.add_argument("--port", type=int, default=0, help="wanted port; any free one when taken or 0")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input closes")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    workload = workload_of(args.service, args.version)
    provider = None
    if args.otlp:
        from meshlib import otel

        provider = otel.tracer_provider(args.otlp, service=workload.name, delay=1.0)
    mesh = None
    if args.mesh and (args.service in ("productpage", "reviews") or provider is not None):
        mesh = meshlib.Mesh.from_path(args.mesh, watch=True, workload=workload, tracer_provider=provider)
    app: ASGIApp = build(args.service, args.version, args.pod or f"{args.service}-{args.version}", mesh)
    if provider is not None and mesh is not None:
        app = MeshASGIMiddleware(app, mesh)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=GRACE_SECONDS
    )
    server = ReportingServer(config)
    if args.lifeline:
        watch_lifeline(server)
    server.run(sockets=[bind(args.port)])


if __name__ == "__main__":
    main()
