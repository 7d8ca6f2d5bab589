"""``MeshExtension``: a FastAPI application in the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meshlib.problems import MeshError
from meshlib.telemetry.exposition import exposition
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from meshlib_fastapi.dependencies import EXTENSION
from meshlib_fastapi.openapi import documented
from meshlib_fastapi.routed import look_at

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from meshlib import Mesh
    from meshlib.compiler.token_rules import TokenRules


class _Outermost(ServerErrorMiddleware):
    """An application's stack begins with one of these to whoever wraps it, as OpenTelemetry's instrumentation does; the one
    that acts is inside."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


STOPPED = frozenset(("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"))


class MeshExtension:
    """Adds ``app`` to the mesh. Create it once, where the app is created:

    - every request goes through ``meshlib.MeshASGIMiddleware``, outside all other middleware, whenever that is added;
    - the path that a router has matched (routes, routers and mounts) is checked against AuthorizationPolicies again, before
      the endpoint runs or a 405 is sent. A refusal there is an HTTPException, for the app's own handlers;
    - ``Caller``, ``Claims``, ``MeshClient``, ``requires`` and ``limit`` work;
    - the OpenAPI document describes how to send the tokens of RequestAuthentications;
    - the mesh is closed when the app has shut down.

    ``metrics_path`` serves the metrics of ``registry``, prometheus_client's, streamed, in the format that
    its Accept header asks for (it is a route of the app, so policies apply).
    ``health_path`` responds 200 or 503, depending on whether the mesh works, before any policy is checked, as probes have no
    identity (in Istio, its agent responds to them). ``port``: see ``MeshASGIMiddleware``. Raises ``MeshError`` for an app that
    is in a mesh already or has started to serve.
    """

    def __init__(
        self,
        app: FastAPI,
        mesh: Mesh,
        *,
        metrics_path: str | None = None,
        health_path: str | None = None,
        port: int | None = None,
    ) -> None:
        for name, path in (("metrics_path", metrics_path), ("health_path", health_path)):
            if path is not None and not path.startswith("/"):
                raise MeshError(f"{name} {path!r} does not begin with /")
        if getattr(app.state, "meshlib", None) is not None:
            raise MeshError("this application is in a mesh already")
        if app.middleware_stack is not None:
            raise MeshError("this application has begun to serve: call MeshExtension(app, mesh) where it is made")
        self.mesh = mesh
        self._client: httpx.AsyncClient | None = None
        self._health_path = health_path
        app.state.meshlib = self
        if metrics_path is not None:
            app.add_route(metrics_path, self._metrics, methods=["GET"], include_in_schema=False)
        look_at(app)
        build = app.build_middleware_stack

        def build_middleware_stack() -> ASGIApp:
            self._inner = MeshASGIMiddleware(build(), mesh, port)
            self.server = self._inner.tells_routes()
            return _Outermost(self._serve)

        app.build_middleware_stack = build_middleware_stack  # type: ignore[method-assign]
        app.openapi = documented(app.openapi, self._token_rules)  # type: ignore[method-assign]

    @property
    def client(self) -> httpx.AsyncClient:
        """The client of this application's mesh, created on first use."""
        if self._client is None:
            self._client = self.mesh.async_client()
        return self._client

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, self._until_stopped(send))
            return
        if self._health_path is not None and scope["type"] == "http" and _is(scope, self._health_path):
            await self._health()(scope, receive, send)
            return
        scope[EXTENSION] = self
        await self._inner(scope, receive, send)

    def _until_stopped(self, send: Send) -> Send:
        """The mesh is closed when the application's own shutdown has ended, which may still use it."""

        async def told(message: Message) -> None:
            if message["type"] in STOPPED:
                await self.aclose()
            await send(message)

        return told

    async def aclose(self) -> None:
        """Close the client and the mesh; the end of the application's lifespan does the same."""
        if self._client is not None:
            await self._client.aclose()
        await self.mesh.aclose()

    def _health(self) -> Response:
        if self.mesh._core.closed:
            return JSONResponse({"status": "closed"}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        accept, names = request.headers.get("accept", ""), request.query_params.getlist("name[]")
        content_type, pieces = exposition(self.mesh._registry, accept, names)
        first = next(pieces, b"")  # a collector that raises is a 500, not a response that breaks off

        async def streamed() -> AsyncIterator[bytes]:
            yield first
            for piece in pieces:
                await asyncio.sleep(0)  # others get their turn between two pieces
                yield piece

        return StreamingResponse(streamed(), headers={"content-type": content_type})

    def _token_rules(self) -> TokenRules | None:
        live = self.mesh._core.live
        return None if live is None else live.snapshot.inbound.default.tokens


def _is(scope: Scope, path: str) -> bool:
    """Whether this is a probe of ``path``."""
    root: str = scope.get("root_path", "")
    seen: Any = scope["path"]
    return scope["method"] in ("GET", "HEAD") and seen in (path, root + path)
