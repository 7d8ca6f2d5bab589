"""Authorizers for tests: small servers over HTTP and gRPC, and the checks that ask them."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, NamedTuple

import meshlib
from meshlib.compiler.clusters import cluster_key
from meshlib.compiler.custom import Custom, authorizer_of, route_of
from meshlib.compiler.inbound import Inbound
from meshlib.compiler.mesh_settings import ExtAuthzProvider
from meshlib.compiler.routes import Destination
from meshlib.engine.authorizers import Authorizers
from meshlib.engine.custom import CustomCheck
from meshlib.engine.drivers import finish, run, run_async
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from meshlib.transport.runtimes.loop import AsyncNetwork
from meshlib.transport.runtimes.threads import SyncNetwork
from meshlib.transport.upstream.client_settings import ClientSettings
from tests.support.ads_server import message
from tests.support.resources import Resource

HOST = "authorizer.test"


class Seen(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Response = tuple[int, list[tuple[str, str]], bytes]


@contextlib.contextmanager
def over_http(decide: Callable[[Seen], Response]) -> Iterator[tuple[int, list[Seen]]]:
    """(port, what it was asked)."""
    seen: list[Seen] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            seen.append(asked)
            status, headers, body = decide(asked)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextlib.contextmanager
def over_grpc(decide: Callable[[Any], Any]) -> Iterator[tuple[int, list[Any]]]:
    """``decide`` gets a CheckRequest and gives a CheckResponse, or bytes that are sent in its place."""
    import grpc

    seen: list[Any] = []

    def check(raw: bytes, _context: Any) -> bytes:
        asked = message("envoy.service.auth.v3.CheckRequest")().FromString(raw)
        seen.append(asked)
        found = decide(asked)
        return found if isinstance(found, bytes) else found.SerializeToString()

    handler = grpc.method_handlers_generic_handler(
        "envoy.service.auth.v3.Authorization", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, seen
    finally:
        server.stop(0).wait(60)


def resources(port: int, protocol: str = "HTTP") -> list[Resource]:
    """As Istio's sample of a local authorizer: a ServiceEntry."""
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "authorizer", "namespace": "default"},
            "spec": {
                "hosts": [HOST],
                "endpoints": [{"address": "127.0.0.1", "ports": {"x": port}}],
                "ports": [{"name": "x", "number": 8000, "protocol": protocol}],
                "resolution": "STATIC",
            },
        }
    ]


@dataclass(frozen=True)
class Hit:
    id: str = "ns[default]-policy[ask]-rule[0]"


class Below:
    """Rules that match what is below a path."""

    def __init__(self, path: str = "/") -> None:
        self.path = path

    def first(self, request: Any) -> Hit | None:
        return Hit() if request.path.startswith(self.path) else None


def provider(protocol: Any = "http", **settings: Any) -> ExtAuthzProvider:
    return ExtAuthzProvider(name="opa", protocol=protocol, service=HOST, port=8000, **settings)


def custom(made: ExtAuthzProvider, rules: Any = None) -> Custom:
    """As ``compile_custom`` makes it."""
    destination = Destination(HOST, "", made.port, 1, cluster_key(HOST, "", made.port))
    return Custom("opa", rules or Below(), HOST, authorizer_of(made), route_of(made, destination))


class Asking:
    """Requests that are served in one runtime ("threads" or "asyncio") by a mesh with one provider."""

    def __init__(self, mesh: meshlib.Mesh, how: Custom, runtime: str) -> None:
        self.core = mesh._core
        self.known = Authorizers()
        self.check = CustomCheck(how, self.core.ask, self.core.clock, self.known, self.core.inbound.own)
        self.runtime = runtime

    def serve(self, request: InboundRequest, deadline: float | None = None) -> InboundCall:
        """Up to its application, which says 200."""
        core = self.core
        call = InboundCall(request, Inbound(), core.clock, core.rng, deadline, checks=(self.check,))
        exchange = inbound(call)
        if self.runtime == "threads":
            end = run(exchange, SyncNetwork(core, ClientSettings()))
        else:
            end = asyncio.run(self._awaited(exchange))
        finish(exchange, None if end.refusal else Ended(200))
        if call.failures.count:
            raise AssertionError("the check has raised")
        return call

    async def _awaited(self, exchange: Any) -> Any:
        runtime = AsyncNetwork(self.core, ClientSettings())
        try:
            return await run_async(exchange, runtime)
        finally:
            await runtime.aclose()
