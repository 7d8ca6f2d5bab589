"""What a server says of its own state, and the application behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import App, Message, Receive, Scope, Send

HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


class Front:
    """The outermost application. GET and HEAD of ``path`` are responded to here, before any policy: 200, or 503 with what
    ``why_not_ready`` says. ``path`` "": nowhere. While ``draining`` each response over HTTP/1 ends its connection."""

    def __init__(self, app: App, path: str, why_not_ready: Callable[[], str]) -> None:
        self._app = app
        self._path = path
        self._why_not_ready = why_not_ready
        self.draining = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if self.draining and scope.get("http_version", "1.1")[0] == "1":
                send = _closing(send)
            if self._path and scope["path"] == self._path and scope["method"] in ("GET", "HEAD"):
                return self._health(scope, send)
        return self._app(scope, receive, send)

    async def _health(self, scope: Scope, send: Send) -> None:
        why = "draining" if self.draining else self._why_not_ready()
        body = f"{why or 'ok'}\n".encode()
        headers = [*HEADERS, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 503 if why else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a port that has health alone."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return closing


def has_route(app: object, path: str) -> bool | None:
    """Whether an application of Starlette, FastAPI or Flask has a route for GET ``path``; None: of this one it cannot
    tell."""
    for _ in range(100):  # what is wrapped around it
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            return any(_matches(route, path) for route in routes)
        url_map = getattr(app, "url_map", None)
        if url_map is not None:
            return bool(url_map.bind("localhost").test(path, method="GET"))
        inner = getattr(app, "app", None) or getattr(app, "_app", None)
        if inner is None or inner is app:
            return None
        app = inner
    return None


def _matches(route: object, path: str) -> bool:
    matches = getattr(route, "matches", None)
    if matches is None:
        return True  # whatever it is, it may
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": [], "path_params": {}}
    found, _ = matches(scope)
    return bool(found.value == 2)  # Match.FULL
