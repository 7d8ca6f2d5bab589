"""Two clients with the same arguments, one through a mesh, and servers that respond to both: what callers see of each, and what
the server has seen. For httpx and for httpx2."""

from __future__ import annotations

import gzip
import http.server
import os
import pickle
import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import ModuleType
from typing import Any, ClassVar

import httpx
from prometheus_client import CollectorRegistry

import meshlib

REQUESTS = int(os.environ.get("MESHLIB_REQUESTS", "1000"))
"""Generated ones of each module, over all kinds of clients."""
PATHS = (
    *("/plain", "/plain", "/plain?a=1", "/empty", "/json", "/latin", "/500", "/cookie", "/cookies-seen", "/gzip"),
    *("/broken-gzip", "/to/plain", "/to/cookie", "/to/to/plain", "/to/loop", "/loop", "/no-location", "/to-nothing"),
    *("/stream", "/to/stream", "/guarded", "/to/guarded"),
    *("/connect-error", "/read-error", "/cut", "/to/cut", "/status/304", "/status/303"),
)  # fmt: skip
WHOLE = tuple(path for path in PATHS if "error" not in path and "cut" not in path)
"""Those whose connection lives: of others the mesh sends an idempotent request again, once."""


def pieces_of(module: ModuleType, cut: bool) -> Any:
    """A body in two pieces; ``cut``: and an error."""

    class Pieces(module.SyncByteStream, module.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            if cut:
                raise module.ReadError("cut")
            yield b"two"

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece

    return Pieces()


def respond(request: Any, module: ModuleType = httpx) -> Any:
    """What each of ``PATHS`` leads to."""
    path = request.url.path.removeprefix("/base")
    if path == "/guarded":
        told = request.headers.get("x-token", "")
        return module.Response(200 if told == "opened" else 401, text=f"token {told}")
    if path == "/empty":
        return module.Response(204)
    if path == "/json":
        return module.Response(200, json={"a": [1, 2]})
    if path == "/latin":
        return module.Response(200, headers={"content-type": "text/plain"}, content="grün".encode("latin-1"))
    if path in ("/cookie", "/to/cookie-too"):
        return module.Response(200, headers=[("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2")], content=b"set")
    if path == "/cookies-seen":
        return module.Response(200, text=request.headers.get("cookie", "none"))
    if path == "/gzip":
        return module.Response(
            200, headers={"content-encoding": "gzip"}, stream=module.ByteStream(gzip.compress(b"small", mtime=0))
        )
    if path == "/broken-gzip":
        return module.Response(200, headers={"content-encoding": "gzip"}, stream=module.ByteStream(b"no gzip at all"))
    if path.startswith("/to/"):
        return module.Response(302, headers={"location": path[3:], "set-cookie": "c=3"}, content=b"elsewhere")
    if path == "/loop":
        return module.Response(307, headers={"location": "/loop"})
    if path == "/no-location":
        return module.Response(302)
    if path == "/to-nothing":
        return module.Response(301, headers={"location": "http://shop.example:port/"})
    if path in ("/stream", "/cut"):
        return module.Response(200, stream=pieces_of(module, path == "/cut"))
    if path == "/connect-error":
        raise module.ConnectError("nobody there")
    if path == "/read-error":
        raise module.ReadTimeout("too long")
    if path == "/500":
        return module.Response(500, text="broken", extensions={"reason_phrase": b"So it goes"})
    if path.startswith("/status/"):
        return module.Response(int(path[8:]), headers={"location": "/plain"})
    return module.Response(200, text=f"{request.method} {request.url.query.decode()} {request.content.decode()}")


class Handler(http.server.BaseHTTPRequestHandler):
    """``respond`` over a socket: bodies come whole, with their length."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet
    seen: ClassVar[list[Any]] = []

    def respond(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = [(n, v) for n, v in self.headers.items() if not n.lower().startswith("x-envoy-")]
        self.seen.append((self.command, self.path, sorted(headers), content))
        self.close_connection = True  # when what follows raises
        response = respond(httpx.Request(self.command, f"http://x{self.path}", headers=headers, content=content))
        body = b"".join(response.stream)
        self.close_connection = False
        self.send_response(response.status_code)
        for name, value in response.headers.multi_items():
            if name != "content-length":
                self.send_header(name, value)
        if response.status_code not in (204, 304):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = respond

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Thu, 01 Jan 1970 00:00:00 GMT"  # the same of both clients


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Handlers that raise close their connection: that is what they are for."""


class Hooks:
    """What hooks of one client were called with."""

    def __init__(self, asynchronous: bool) -> None:
        self.called: list[Any] = []

        def on_request(request: Any) -> None:
            self.called.append((request.method, str(request.url)))
            request.headers["x-hooked"] = "1"

        def on_response(response: Any) -> None:
            self.called.append((response.status_code, str(response.url), response.is_closed, len(response.history)))

        async def on_request_async(request: Any) -> None:
            on_request(request)

        async def on_response_async(response: Any) -> None:
            on_response(response)
            if response.status_code == 200:
                await response.aread()

        self.hooks = {
            "request": [on_request_async if asynchronous else on_request],
            "response": [on_response_async if asynchronous else on_response],
        }


class Scene:
    """Two clients of ``module`` with the same arguments, the first through a mesh; what the other side has seen of each.
    Without a ``port`` it is a function. ``hooked``: both have hooks; ``mounted``: a transport for one host."""

    def __init__(
        self,
        asynchronous: bool,
        port: int = 0,
        module: ModuleType = httpx,
        hooked: bool = False,
        mounted: bool = False,
        **arguments: Any,
    ) -> None:
        self.mesh = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
        self.module = module
        self.seen: tuple[list[Any], list[Any]] = [], []
        self.hooks = Hooks(asynchronous), Hooks(asynchronous)
        self.port = port
        made = []
        own = module.AsyncClient if asynchronous else module.Client
        for which in (0, 1):
            more: dict[str, Any] = {} if port else {"transport": module.MockTransport(self.keeping(which))}
            if hooked:
                more["event_hooks"] = self.hooks[which].hooks
            if mounted:
                more["mounts"] = {"http://other.example": module.MockTransport(self.keeping(which, "mounted"))}
            if which:
                made.append(own(**more, **arguments))
            else:
                make: Callable[..., Any] = self.mesh.async_client if asynchronous else self.mesh.client
                made.append(make(module=None if module is httpx else module, **more, **arguments))
        self.meshed, self.plain = made

    def take(self, which: int) -> None:
        """What the server has seen was of this client."""
        self.seen[which].extend(Handler.seen)
        Handler.seen.clear()

    def keeping(self, which: int, how: str = "") -> Any:
        """A function in the place of a server."""

        def handler(request: Any) -> Any:
            headers = [(n, v) for n, v in request.headers.raw if not n.lower().startswith(b"x-envoy-")]
            self.seen[which].append((how, request.method, str(request.url), sorted(headers), request.content))
            response = respond(request, self.module)
            if not response.is_stream_consumed:
                return response
            # as transports give it: not read yet
            more = {"headers": response.headers, "extensions": response.extensions}
            return self.module.Response(response.status_code, stream=self.module.ByteStream(response.content), **more)

        return handler

    def clear(self) -> None:
        """Forget what was seen."""
        for seen in self.seen:
            seen.clear()
        for hooks in self.hooks:
            hooks.called.clear()


def of_request(request: Any) -> Any:
    """What a caller can see of a request that was sent. (Its body was read by what stands for a server, or was not.)"""
    return request.method, str(request.url), sorted(request.headers.multi_items()), request.extensions.get("timeout")


def shown(response: Any) -> Any:
    """All that a caller can see of a response that was read."""
    following = response.next_request
    return (
        pickle.loads(pickle.dumps(response)).content,  # before its cookies, which cannot be pickled
        pickle.loads(pickle.dumps(response)).request.headers.multi_items(),
        response.status_code,
        response.headers.multi_items(),
        response.content,
        response.encoding,
        response.text,
        str(response.url),
        response.reason_phrase,
        response.http_version,
        response.is_closed,
        response.is_stream_consumed,
        response.num_bytes_downloaded,
        response.default_encoding,
        response.elapsed.total_seconds() >= 0,
        [(r.status_code, str(r.url), r.content, r.is_closed, r.elapsed.total_seconds() >= 0) for r in response.history],
        None if following is None else of_request(following),
        of_request(response.request),
        sorted(set(response.extensions) - {"mesh", "http_version", "reason_phrase"}),  # which ours tell always
        dict(response.cookies),
    )


def of_stream(response: Any) -> Any:
    """All that a caller can see of a response that was not read yet."""
    try:
        elapsed: Any = response.elapsed
    except RuntimeError as error:
        elapsed = str(error)
    return response.status_code, response.is_closed, response.is_stream_consumed, type(elapsed), str(response.url)


def failed(error: Exception) -> Any:
    """Its kind, and whose it is; the mesh's own say more."""
    request = getattr(error, "_request", None)
    return type(error).__mro__[-4:], None if request is None else (request.method, str(request.url))


def jar(client: Any) -> list[tuple[str, str | None, str, str]]:
    """A client's cookies."""
    return sorted((cookie.name, cookie.value, cookie.domain, cookie.path) for cookie in client.cookies.jar)


def flow(module: ModuleType) -> Any:
    """An auth that reads what it is told, and asks again."""

    class Opening(module.Auth):
        requires_response_body = True

        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            request.headers["x-token"] = "first"
            response = yield request
            if response.status_code == 401:
                request.headers["x-token"] = "opened" if response.text == "token first" else "wrong"
                yield request

    return Opening()


READS = ("read", "bytes", "raw", "lines", "half", "none")


def generated(rng: random.Random, scene: Scene, based: bool) -> tuple[str, str, dict[str, Any], str]:
    """Method, URL, what else is given, and how the response is read ("": not streamed; "send": the request is made by hand)."""
    more: dict[str, Any] = {}
    if rng.random() < 0.3:
        more["headers"] = {"x-a": str(rng.randrange(3)), "accept": "text/plain"}
    if rng.random() < 0.15:
        more["params"] = {"q": rng.choice(["1", "ä"])}
    if rng.random() < 0.3:
        more["follow_redirects"] = rng.random() < 0.6
    if rng.random() < 0.15:
        more["auth"] = rng.choice([("jo", "secret"), None, flow(scene.module)])
    if rng.random() < 0.1:
        more["timeout"] = rng.choice([None, 3.0, scene.module.Timeout(1.0, read=2.0)])
    if rng.random() < 0.1:
        more["extensions"] = rng.choice([{"own": 1}, {"timeout": {"read": 3.0}}, {}])
    method = rng.choice(["GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE"])
    if method in ("POST", "PUT"):
        more |= rng.choice([{"json": {"a": 1}}, {"content": b"raw"}, {"data": {"f": "x"}}, {"files": {"f": b"y"}}])
        if "files" in more:
            more["headers"] = {"content-type": "multipart/form-data; boundary=line"}
    host = rng.choice(
        ["http://shop.example", "http://shop.example", "http://jo:pw@shop.example", "http://other.example:81"]
    )
    if scene.port:
        host = rng.choice(["http://127.0.0.1", "http://127.0.0.1", "http://jo:pw@127.0.0.1"]) + f":{scene.port}"
    if based and rng.random() < 0.7:
        host = ""
    how = rng.choice([*READS, "send"]) if rng.random() < 0.2 else ""
    if how == "send":
        method, host = "GET", host or "http://shop.example"
        more = {name: value for name, value in more.items() if name in ("auth", "follow_redirects")}
    return method, host + rng.choice(WHOLE if scene.port else PATHS), more, how


def call(client: Any, module: ModuleType, method: str, url: str, more: dict[str, Any], how: str) -> Any:
    """One call of a blocking client: what its caller sees."""
    try:
        if how == "send":
            return shown(client.send(module.Request(method, url, headers={"x-own": "1"}), **more))
        if not how:
            return shown(client.request(method, url, **more))
        with client.stream(method, url, **more) as response:
            found = [of_stream(response)]
            if how == "read":
                found.append(response.read())
            elif how == "half":
                found.append(next(response.iter_raw(), b"")[:1])
            elif how != "none":
                found.append(
                    b"".join(getattr(response, f"iter_{how}")()) if how != "lines" else [*response.iter_lines()]
                )
            found.append(of_stream(response)[:-2])
        return [*found, response.is_closed, response.is_stream_consumed]
    except Exception as error:
        return failed(error)


async def call_async(client: Any, module: ModuleType, method: str, url: str, more: dict[str, Any], how: str) -> Any:
    """The same of a client on a loop."""
    try:
        if how == "send":
            return shown(await client.send(module.Request(method, url, headers={"x-own": "1"}), **more))
        if not how:
            return shown(await client.request(method, url, **more))
        async with client.stream(method, url, **more) as response:
            found = [of_stream(response)]
            if how == "read":
                found.append(await response.aread())
            elif how == "half":
                async for piece in response.aiter_raw():
                    found.append(piece[:1])
                    break
            elif how != "none":
                pieces = [piece async for piece in getattr(response, f"aiter_{how}")()]
                found.append(b"".join(pieces) if how != "lines" else pieces)
            found.append(of_stream(response)[:-2])
        return [*found, response.is_closed, response.is_stream_consumed]
    except Exception as error:
        return failed(error)
