"""The second look: the path that the router has matched is judged again, before anything that it leads to is called.

What lies between the mesh's middleware and a router may rewrite the path, and a router may read it otherwise than a policy does
(``/items/007`` is item 7 to a convertor of integers). So each router of the application, and of what it mounts, gets a scope
that looks when a route is put into it: of routes, routers and mounts, also where the method is wrong and the response would be
a 405. A refusal is an ``HTTPException``, for the application's own handlers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, WebSocketException
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from meshlib.engine.authorization_check import judge_routed
from meshlib.engine.drivers import run_async
from meshlib.engine.inbound import InboundCall
from meshlib.engine.routed_limits import limits_of_route
from meshlib.policy.refusal import Refusal
from meshlib.problems import MeshError
from meshlib.transport.asgi.middleware import CALL
from meshlib.transport.asgi.request import other_path
from meshlib.transport.asgi.routes import route_of, template_of
from meshlib.transport.runtimes.serving import Server
from meshlib_fastapi.dependencies import EXTENSION

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundExchange


class Looks:
    """In front of a router: what it matches is judged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            call = scope.get(CALL)
            if call is None:
                raise MeshError(
                    "a request has come to this router that has not come through the mesh: it is not served"
                )
            before = dict(scope) if call.route_limits is not None else None
            if type(scope) is not RoutedScope:
                scope = RoutedScope(scope, call)
            scope.look()
            if before is not None:
                try:
                    await self._app(scope, receive, send)
                except AsksOthers as asks:
                    refusal = (await run_async(asks.exchange, asks.server.awaited)).refusal
                    if refusal is not None:
                        raise refused(scope, refusal) from None
                    scope = RoutedScope(before, call)
                else:
                    return
        await self._app(scope, receive, send)


class AsksOthers(BaseException):
    """Thrown out of a router that has matched a route, before anything of it is called: where a fleet counts is asked first,
    which cannot be done while a scope is written, and then the router is called again."""

    def __init__(self, exchange: InboundExchange, server: Server) -> None:
        self.exchange = exchange
        self.server = server


def look_at(app: object) -> None:
    """Have the router of an application, or the router itself, looked at. What is not a Starlette router stays as it is."""
    router = getattr(app, "router", app)
    if isinstance(router, Router) and not isinstance(router.middleware_stack, Looks):
        router.middleware_stack = Looks(router.middleware_stack)


class RoutedScope(dict[str, Any]):
    """A scope that a router writes its match into; whoever made the scope it is of sees that, too."""

    __slots__ = ("_call", "_judged", "_outer")

    def __init__(self, outer: Scope, call: InboundCall) -> None:
        super().__init__(outer)
        self._outer = outer
        self._call = call
        self._judged: set[str | None] = {None, call.request.routed}

    def update(self, *others: Any, **more: Any) -> None:
        """As a dict's. A match is judged."""
        found: Mapping[str, Any] = dict(*others, **more)
        super().update(found)
        self._outer.update(found)
        if "endpoint" in found:
            look_at(found["endpoint"])
        if "path_params" in found or "route" in found:
            self.look()
        if "endpoint" in found and self._call.route_limits is not None and not has_router(found["endpoint"]):
            self._count()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._outer[key] = value
        if key == "route":
            self.look()
            if self._call.route_limits is not None and is_included(self, value):
                self._count()

    def look(self) -> None:
        """Judge the paths that have not been judged yet: as it is here, and as the route reads it."""
        request = self._call.request
        root: str = self.get("app_root_path", self.get("root_path", ""))
        for path in (self["path"], matched_path(self)):
            seen = other_path(request.path, path, root)
            if seen not in self._judged:
                self._judged.add(seen)
                self._judge(seen)

    def _count(self) -> None:
        """Ask the limits that count by route, once it is known."""
        told = self.get("fastapi")
        if isinstance(told, dict) and told.get("included_router") and not is_included(self, self.get("route")):
            return  # its prefix is not known yet
        template = template_of(self) or self.get("root_path", "")
        server: Server = self[EXTENSION].server
        refusal, others = limits_of_route(self._call, template)
        if others is not None:
            raise AsksOthers(others, server)
        if refusal is not None:
            raise refused(self, refusal)

    def _judge(self, path: str | None) -> None:
        assert path is not None
        refusal = judge_routed(self._call, path)
        if refusal is not None:
            raise refused(self, refusal)


def has_router(app: object) -> bool:
    """Whether a match is followed by another one, behind a mount."""
    return isinstance(getattr(app, "router", app), Router)


def is_included(scope: Mapping[str, Any], route: object) -> bool:
    """Whether ``route`` is that of a router which another one includes, with its prefixes there (newer FastAPIs)."""
    told = scope.get("fastapi")
    included = told.get("effective_route_context") if isinstance(told, dict) else None
    return included is not None and getattr(included, "original_route", None) is route


def refused(scope: Mapping[str, Any], refusal: Refusal) -> Exception:
    """What to raise for it."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return WebSocketException(1008, refusal.text)
    return as_exception(refusal)


def as_exception(refusal: Refusal) -> HTTPException:
    """A refusal after routing, as FastAPI's users expect it."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in refusal.headers}
    return HTTPException(refusal.status, refusal.text, headers)


def matched_path(scope: Mapping[str, Any]) -> str:
    """The path with its parameters as the route's convertors read them; as it is when no route tells."""
    path: str = scope["path"]
    route = route_of(scope)
    regex, convertors = getattr(route, "path_regex", None), getattr(route, "param_convertors", None)
    if not convertors or regex is None:
        return path
    root = scope.get("root_path", "")
    local = path[len(root) :] if root and path.startswith(root) else path
    match = regex.match(local)
    if match is None:
        return path
    pieces, at = [path[: len(path) - len(local)]], 0
    for name, convertor in convertors.items():
        begin, end = match.span(name)
        pieces += [local[at:begin], str(convertor.to_string(convertor.convert(match[name])))]
        at = end
    return "".join([*pieces, local[at:]])
