"""Sending without detours: generated requests through mesh clients and through httpx's own, which must not differ in anything
that a caller sees; and what is left to httpx."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import logging
import pickle
import random
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.transport.httpx import direct_send
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.shortcuts import NEEDS_SHORTCUTS

REQUESTS = 1000
"""Of each kind of client."""
PATHS = (
    *("/plain", "/plain", "/plain?a=1", "/empty", "/json", "/latin", "/500", "/cookie", "/cookies-seen", "/gzip"),
    *("/broken-gzip", "/to/plain", "/to/cookie", "/to/to/plain", "/to/loop", "/loop", "/no-location", "/to-nothing"),
    *("/stream", "/to/stream"),
    *("/connect-error", "/read-error", "/cut", "/to/cut", "/status/304", "/status/303"),
)  # fmt: skip
WHOLE = tuple(path for path in PATHS if "error" not in path and "cut" not in path)
"""Those whose connection lives: of others the mesh sends an idempotent request again, once."""


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in two pieces; ``cut``: and an error."""

    def __init__(self, cut: bool = False) -> None:
        self.cut = cut

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        if self.cut:
            raise httpx.ReadError("cut")
        yield b"two"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def respond(request: httpx.Request) -> httpx.Response:
    path = request.url.path
    if path == "/empty":
        return httpx.Response(204)
    if path == "/json":
        return httpx.Response(200, json={"a": [1, 2]})
    if path == "/latin":
        return httpx.Response(200, headers={"content-type": "text/plain"}, content="grün".encode("latin-1"))
    if path in ("/cookie", "/to/cookie-too"):
        return httpx.Response(200, headers=[("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2")], content=b"set")
    if path == "/cookies-seen":
        return httpx.Response(200, text=request.headers.get("cookie", "none"))
    if path == "/gzip":
        return httpx.Response(
            200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b"small", mtime=0))
        )
    if path == "/broken-gzip":
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip at all"))
    if path.startswith("/to/"):
        return httpx.Response(302, headers={"location": path[3:], "set-cookie": "c=3"}, content=b"elsewhere")
    if path == "/loop":
        return httpx.Response(307, headers={"location": "/loop"})
    if path == "/no-location":
        return httpx.Response(302)
    if path == "/to-nothing":
        return httpx.Response(301, headers={"location": "http://shop.example:port/"})
    if path in ("/stream", "/cut"):
        return httpx.Response(200, stream=Pieces(path == "/cut"))
    if path == "/connect-error":
        raise httpx.ConnectError("nobody there")
    if path == "/read-error":
        raise httpx.ReadTimeout("too long")
    if path == "/500":
        return httpx.Response(500, text="broken", extensions={"reason_phrase": b"So it goes"})
    if path.startswith("/status/"):
        return httpx.Response(int(path[8:]), headers={"location": "/plain"})
    return httpx.Response(200, text=f"{request.method} {request.url.query.decode()} {request.content.decode()}")


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


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


class Scene:
    """Two clients with the same arguments, one through a mesh; what the other side has seen of each. Without a ``port`` it is a
    function."""

    def __init__(self, asynchronous: bool, port: int = 0, **arguments: Any) -> None:
        self.mesh = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
        self.seen: tuple[list[Any], list[Any]] = [], []
        self.port = port
        make = self.mesh.async_client if asynchronous else self.mesh.client
        own = httpx.AsyncClient if asynchronous else httpx.Client
        through = [{} if port else {"transport": httpx.MockTransport(self.keeping(which))} for which in (0, 1)]
        self.meshed = make(**through[0], **arguments)
        self.plain = own(**through[1], **arguments)

    def take(self, which: int) -> None:
        """What the server has seen was of this client."""
        self.seen[which].extend(Handler.seen)
        Handler.seen.clear()

    def keeping(self, which: int) -> Any:
        def handler(request: httpx.Request) -> httpx.Response:
            headers = [(n, v) for n, v in request.headers.raw if not n.lower().startswith(b"x-envoy-")]
            self.seen[which].append((request.method, str(request.url), sorted(headers), request.content))
            response = respond(request)
            if not response.is_stream_consumed:
                return response
            # as transports give it: not read yet
            more = {"headers": response.headers, "extensions": response.extensions}
            return httpx.Response(response.status_code, stream=httpx.ByteStream(response.content), **more)

        return handler


def shown(response: httpx.Response) -> Any:
    """All that a caller can see of a response."""
    following = response.next_request
    return (
        pickle.loads(pickle.dumps(response)).content,  # before its cookies, which cannot be pickled
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
        [(r.status_code, str(r.url), r.content, r.is_closed) for r in response.history],
        None if following is None else (following.method, str(following.url), following.headers.multi_items()),
        sorted(set(response.extensions) - {"mesh", "http_version", "reason_phrase"}),  # which ours tell always
        dict(response.cookies),
    )


def failed(error: Exception) -> Any:
    """Its kind, and whose it is; the mesh's own say more."""
    request = getattr(error, "_request", None)
    return type(error).__mro__[-4:], None if request is None else (request.method, str(request.url))


def jar(client: Any) -> list[tuple[str, str | None, str, str]]:
    return sorted((cookie.name, cookie.value, cookie.domain, cookie.path) for cookie in client.cookies.jar)


def generated(rng: random.Random, port: int) -> tuple[str, str, dict[str, Any]]:
    more: dict[str, Any] = {}
    if rng.random() < 0.3:
        more["headers"] = {"x-a": str(rng.randrange(3)), "accept": "text/plain"}
    if rng.random() < 0.15:
        more["params"] = {"q": rng.choice(["1", "ä"])}
    if rng.random() < 0.3:
        more["follow_redirects"] = rng.random() < 0.6
    if rng.random() < 0.1:
        more["auth"] = rng.choice([("jo", "secret"), None])
    if rng.random() < 0.1:
        more["timeout"] = rng.choice([None, 3.0, httpx.Timeout(1.0, read=2.0)])
    method = rng.choice(["GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE"])
    if method in ("POST", "PUT"):
        more |= rng.choice([{"json": {"a": 1}}, {"content": b"raw"}, {"data": {"f": "x"}}, {"files": {"f": b"y"}}])
        if "files" in more:
            more["headers"] = {"content-type": "multipart/form-data; boundary=line"}
    host = rng.choice(
        ["http://shop.example", "http://shop.example", "http://jo:pw@shop.example", "http://other.example:81"]
    )
    if port:
        host = rng.choice(["http://127.0.0.1", "http://127.0.0.1", "http://jo:pw@127.0.0.1"]) + f":{port}"
    return method, host + rng.choice(WHOLE if port else PATHS), more


CLIENTS: list[dict[str, Any]] = [
    {},
    {"follow_redirects": True},
    {"follow_redirects": True, "max_redirects": 1, "default_encoding": "latin-1"},
    {"headers": {"x-client": "c"}, "cookies": {"own": "9"}, "timeout": 7.0},
]


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls that were sent without detours."""
    found: list[int] = []
    real = direct_send._taken

    def counted(client: Any, request: Any, response: Any) -> None:
        found.append(response.status_code)
        real(client, request, response)

    monkeypatch.setattr(direct_send, "_taken", counted)
    return found


@pytest.mark.parametrize("network", [True, False], ids=["over a socket", "inner"])
@pytest.mark.parametrize("arguments", CLIENTS, ids=["plain", "follows", "one redirect", "own headers"])
def test_threads_see_no_difference(
    arguments: dict[str, Any], network: bool, port: int, directly: list[int], caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "httpx")
    scene, rng = Scene(False, port * network, **arguments), random.Random(zlib.crc32(repr(arguments).encode()))
    with scene.mesh, scene.meshed, scene.plain:
        for _ in range(REQUESTS // len(CLIENTS) // 2):
            method, url, more = generated(rng, scene.port)
            ends, logged = [], []
            for which, client in enumerate((scene.meshed, scene.plain)):
                caplog.clear()
                try:
                    ends.append(shown(client.request(method, url, **more)))
                except Exception as error:
                    ends.append(failed(error))
                scene.take(which)
                logged.append([r.getMessage() for r in caplog.records if r.name == "httpx"])
            assert ends[0] == ends[1], (method, url, more)
            assert logged[0] == logged[1], (method, url, more)
            assert scene.seen[0] == scene.seen[1], (method, url, more)
            assert jar(scene.meshed) == jar(scene.plain)
            for seen in scene.seen:
                seen.clear()
    assert (len(directly) > REQUESTS // len(CLIENTS) // 8) is not PLAIN


@pytest.mark.parametrize("network", [True, False], ids=["over a socket", "inner"])
@pytest.mark.parametrize("arguments", CLIENTS, ids=["plain", "follows", "one redirect", "own headers"])
async def test_tasks_see_no_difference(
    arguments: dict[str, Any], network: bool, port: int, directly: list[int], caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "httpx")
    scene, rng = Scene(True, port * network, **arguments), random.Random(zlib.crc32(repr(arguments).encode()) + 1)
    async with scene.mesh, scene.meshed, scene.plain:
        for _ in range(REQUESTS // len(CLIENTS) // 2):
            method, url, more = generated(rng, scene.port)
            ends, logged = [], []
            for which, client in enumerate((scene.meshed, scene.plain)):
                caplog.clear()
                try:
                    ends.append(shown(await client.request(method, url, **more)))
                except Exception as error:
                    ends.append(failed(error))
                scene.take(which)
                logged.append([r.getMessage() for r in caplog.records if r.name == "httpx"])
            assert ends[0] == ends[1], (method, url, more)
            assert logged[0] == logged[1], (method, url, more)
            assert scene.seen[0] == scene.seen[1], (method, url, more)
            assert jar(scene.meshed) == jar(scene.plain)
            for seen in scene.seen:
                seen.clear()
    assert (len(directly) > REQUESTS // len(CLIENTS) // 8) is not PLAIN


URL = "http://shop.example/plain"


@NEEDS_SHORTCUTS
def test_nothing_is_sent_directly_that_somebody_watches_or_changes(directly, monkeypatch):
    scene = Scene(False)
    with scene.mesh, scene.meshed as client:
        client.get(URL)
        assert directly == [200]
        hooked: list[Any] = []
        client.event_hooks = {"request": [hooked.append], "response": [hooked.append]}
        client.get(URL)
        assert len(hooked) == 2
        client.event_hooks = {}
        client.auth = ("jo", "secret")
        client.get(URL)
        client.auth = None
        client.get("http://jo:pw@shop.example/plain")
        with client.stream("GET", URL) as response:
            assert not response.is_closed
        with monkeypatch.context() as patch:
            traced: list[Any] = []
            real = httpx.Client.send
            patch.setattr(httpx.Client, "send", lambda self, r, **more: (traced.append(r), real(self, r, **more))[1])
            client.get(URL)
            assert len(traced) == 1
        with monkeypatch.context() as patch:
            patch.setattr(httpx.Client, "_send_single_request", lambda self, r: httpx.Response(299, request=r))
            assert client.get(URL).status_code == 299
        mocked = httpx.MockTransport(lambda _: httpx.Response(298))
        client._transport, before = mocked, client._transport
        assert client.get(URL).status_code == 298
        client._transport = before
        assert directly == [200]
        client.get(URL)
        assert directly == [200, 200]


def test_a_subclass_decides_for_itself(directly):
    with Scene(False).mesh as mesh:
        kind = type(mesh.client())

        class Mine(kind):
            def _send_single_request(self, request: httpx.Request) -> httpx.Response:
                return httpx.Response(297, request=request)

        client = Mine(transport=mesh.http_transport(httpx.MockTransport(respond)))
        assert (client.get(URL).status_code, directly) == (297, [])


def test_a_client_opens_with_its_first_request_and_sends_none_once_closed():
    scene = Scene(False)
    with scene.mesh:
        client = scene.meshed
        client.get(URL)
        client.get(URL)
        with pytest.raises(RuntimeError, match="more than once"):
            client.__enter__()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.get(URL)


async def test_a_client_of_the_other_kind_cannot_send_its_bodies():
    scene = Scene(True)

    def body() -> Iterator[bytes]:
        yield b"x"

    async with scene.mesh, scene.meshed as client:
        await client.get(URL)
        with pytest.raises(RuntimeError, match="sync request with an AsyncClient"):
            await client.post(URL, content=body())


async def test_a_call_that_is_cancelled_leaves_the_client_as_it_was(directly):
    waiting = asyncio.Event()

    async def never(_request: httpx.Request) -> httpx.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    with Scene(True).mesh as mesh:
        async with mesh.async_client(transport=httpx.MockTransport(never)) as client:
            for _ in range(2):
                waiting.clear()
                task = asyncio.ensure_future(client.get(URL))
                await waiting.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert directly == []


@pytest.mark.parametrize(
    ("version", "known"), [("0.27.2", False), ("0.28.1", True), ("0.29.0", False), ("1.0.dev3", False)]
)
def test_an_httpx_that_nobody_has_compared_goes_its_own_way(version, known):
    assert (direct_send.KNOWN.fullmatch(version) is not None) is known
