"""Chaos at the doors of ASGI and WSGI servers: what their clients, applications and metrics see of it."""

from __future__ import annotations

import asyncio
import io
import socket
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from tests.support.mesh_server import MeshServer

BODY = b"0123456789"


class Served:
    """An application that reads its request and responds with ten bytes in two pieces, in a mesh, without a network."""

    def __init__(self, kind: str, make: Any) -> None:
        self.kind = kind
        self.registry = CollectorRegistry()
        self.mesh: meshlib.Mesh = make("", workload=meshlib.Workload("web"), registry=self.registry)
        self.read: list[bytes | str] = []
        """What came of each request: its body, or what the application was told instead."""
        self.asgi = MeshASGIMiddleware(self._asgi, self.mesh)
        self.wsgi = MeshWSGIMiddleware(self._wsgi, self.mesh)

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"].endswith("shutdown"):
                    return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.read.append(f"gone after {len(body)}")
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.read.append(body)
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY[:6], "more_body": True})
        await send({"type": "http.response.body", "body": BODY[6:]})

    def _wsgi(self, environ: Any, start_response: Any) -> Any:
        body = b""
        try:
            while piece := environ["wsgi.input"].read(4):
                body += piece
        except OSError:
            self.read.append(f"gone after {len(body)}")
            raise
        self.read.append(body)
        start_response("200 OK", [("content-length", "10")])
        return iter((BODY[:6], BODY[6:]))

    def call(self, path: str = "/", body: bytes = b"") -> tuple[int, bytes] | str:
        """Status and body that the client gets; or what its server hears in their place, with how much was sent before."""
        return asyncio.run(self._call_asgi(path, body)) if self.kind == "asgi" else self._call_wsgi(path, body)

    async def _call_asgi(self, path: str, body: bytes) -> tuple[int, bytes] | str:
        pieces = [body[:4], body[4:]]
        status, got = 0, b""

        async def receive() -> Any:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, got
            status = message.get("status", status)
            got += message.get("body", b"")

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "headers": [(b"host", b"web")],
            "client": ("10.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        try:
            await self.asgi(scope, receive, send)
        except ConnectionResetError as error:
            return f"{error.strerror}: {status} {got!r}"
        return status, got

    def _call_wsgi(self, path: str, body: bytes) -> tuple[int, bytes] | str:
        status, got = 0, b""

        def start_response(line: str, _headers: Any, _error: Any = None) -> Any:
            nonlocal status
            status = int(line[:3])
            return lambda _: None

        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "RAW_URI": path,
            "HTTP_HOST": "web",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "web",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "10.0.0.1",
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
        }
        try:
            pieces = self.wsgi(environ, start_response)
            try:
                for piece in pieces:
                    got += piece
            finally:
                pieces.close()  # type: ignore[attr-defined]
        except ConnectionResetError as error:
            return f"{error.strerror}: {status if got else 0} {got!r}"
        return status, got

    def counted(self) -> list[tuple[str, str]]:
        """Code and flags of each."""
        return [
            (sample.labels["response_code"], sample.labels["response_flags"])
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "istio_requests_total"
        ]


@pytest.fixture(params=["asgi", "wsgi"])
def served(request, mesh):
    return Served(request.param, mesh)


RESET = "Connection reset by peer (injected by meshlib.testing)"
CUT = "the connection was closed in the middle of the response (injected by meshlib.testing)"
LEFT = "the client closed the connection in the middle of its request (injected by meshlib.testing)"


def test_a_request_whose_connection_breaks_reaches_neither_mesh_nor_application(served, chaos):
    chaos.served(nth=1).reset()
    assert served.call() == f"{RESET}: 0 b''"
    assert (served.read, served.counted()) == ([], [])
    assert served.call() == (200, BODY)


def test_one_that_is_late_waits_on_the_clock_of_the_mesh(served, chaos, fake_clock):
    chaos.served("/slow").latency(30)
    before = fake_clock.monotonic()
    assert served.call("/slow") == (200, BODY)
    assert fake_clock.monotonic() == before + 30
    served.call("/other")
    assert fake_clock.monotonic() == before + 30


@pytest.mark.parametrize("after", [0, 4, 6, 8])
def test_a_response_is_cut_where_it_is_said_and_its_client_counts_as_gone(served, chaos, after):
    chaos.served().partial_body(after)
    got = served.call()
    sent = BODY[:after]
    assert got == f"{CUT}: {200 if sent or served.kind == 'asgi' else 0} {sent!r}"
    assert served.read == [b""]
    ((_, flags),) = served.counted()
    handed_over = served.kind == "wsgi" and after >= 6  # what the server does with the last piece no middleware knows
    assert flags == ("-" if handed_over else "DC")


def test_a_response_that_is_shorter_is_whole(served, chaos):
    rule = chaos.served().reset(after=10)
    assert served.call() == (200, BODY)
    assert (served.counted(), rule.times) == ([("200", "-")], 1)


def test_a_lost_response_is_of_a_request_that_was_served(served, chaos):
    chaos.served().lost_response()
    assert served.call(body=b"abc") == f"{RESET}: 0 b''"
    assert served.read == [b"abc"]
    assert [flags for _, flags in served.counted()] == ["DC"]


@pytest.mark.parametrize("after", [0, 2, 4, 6])
def test_an_application_whose_client_leaves_amid_its_request_is_told_so(served, chaos, after):
    chaos.served().partial_request(after)
    assert served.call(body=b"abcdefgh") == f"{LEFT}: 0 b''"
    assert served.read == [f"gone after {after}"]


def test_a_request_that_is_shorter_is_whole(served, chaos):
    chaos.served().partial_request(8)
    assert served.call(body=b"abcdefgh") == (200, BODY)
    assert served.read == [b"abcdefgh"]


def test_a_wsgi_body_can_be_read_in_any_way(mesh, chaos):
    from meshlib.testing.doors import _CutInput

    text = b"one\ntwo\nthree"
    for read in (lambda s: s.read(), lambda s: b"".join(s.readlines()), lambda s: b"".join(s), lambda s: s.read(-1)):
        assert read(_CutInput({"wsgi.input": io.BytesIO(text)}, len(text))) == text
        with pytest.raises(ConnectionResetError, match="in the middle of its request"):
            read(_CutInput({"wsgi.input": io.BytesIO(text)}, 5))
    short = _CutInput({"wsgi.input": io.BytesIO(text)}, 6)
    assert (short.readline(), short.readline(), short.read(0)) == (b"one\n", b"tw", b"")


def test_when_chaos_ends_nothing_stands_there_any_more(served, mesh):
    from meshlib.testing import Chaos, FakeClock
    from meshlib.testing.doors import _asgi, _wsgi

    with Chaos(1, FakeClock()) as chaos:
        chaos.on("reviews").reset()
        assert MeshASGIMiddleware.__call__ is _asgi  # servers have nothing to do with it
        chaos.served().reset()
        assert MeshASGIMiddleware.__call__ is not _asgi
        assert isinstance(served.call(), str)
    assert (MeshASGIMiddleware.__call__, MeshWSGIMiddleware.__call__) == (_asgi, _wsgi)
    assert served.call() == (200, BODY)


def test_rules_that_were_made_before_come_in_as_well(served):
    from meshlib.testing import Chaos, FakeClock

    chaos = Chaos(1, FakeClock())
    chaos.served().reset()
    assert served.call() == (200, BODY)
    with chaos:
        assert isinstance(served.call(), str)


# -- over a network, where the server shows its connection


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(request)
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            got += b"<reset>"
        return got


GET = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"


def test_a_real_client_loses_its_connection(mesh, chaos):
    served = Served("asgi", mesh)
    chaos.served(nth=1).reset()
    chaos.served(nth=2).lost_response()
    chaos.served(nth=3).reset(after=4)
    with MeshServer(served._asgi, served.mesh) as server:
        first, second, third, fourth = (exchange(server.port, GET) for _ in range(4))
    assert first in (b"", b"<reset>")
    assert second in (b"", b"<reset>")
    assert third.startswith(b"HTTP/1.1 200")
    assert third.removesuffix(b"<reset>").endswith(b"0123")
    assert fourth.endswith(BODY)


def test_a_client_of_the_test_meets_the_same(mesh, chaos):
    served = Served("asgi", mesh)
    chaos.served().reset(after=2)

    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served.asgi), base_url="http://web") as client:
            with pytest.raises(ConnectionResetError, match="injected by meshlib.testing"):
                await client.get("/")

    asyncio.run(go())


class Echo:
    """A WebSocket application in a mesh that sends back what it gets, without a network; ``said`` is what it has heard."""

    def __init__(self, make: Any) -> None:
        self.mesh: meshlib.Mesh = make("", workload=meshlib.Workload("web"), registry=CollectorRegistry())
        self.said: list[str] = []
        self.asgi = MeshASGIMiddleware(self._echo, self.mesh)

    async def _echo(self, _scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.said.append(message.get("text") or message["bytes"].decode())
            await send(message)
        self.said.append(f"gone with {message['code']}")

    def call(self, *sent: str | bytes) -> list[str]:
        """What its client gets, with how it ends when it breaks."""
        return asyncio.run(self._call(sent))

    async def _call(self, sent: tuple[str | bytes, ...]) -> list[str]:
        coming = [{"type": "websocket.connect"}]
        coming += [{"type": "websocket.receive", "bytes" if isinstance(each, bytes) else "text": each} for each in sent]
        coming.append({"type": "websocket.disconnect", "code": 1000})
        got: list[str] = []

        async def receive() -> Any:
            return coming.pop(0)

        async def send(message: Any) -> None:
            said = message.get("text") or (message.get("bytes") or b"").decode()
            got.append(said or message["type"].removeprefix("websocket."))

        scope = {
            "type": "websocket", "path": "/ws", "raw_path": b"/ws", "query_string": b"", "root_path": "", "http_version": "1.1",
            "scheme": "ws", "headers": [(b"host", b"web")], "client": ("10.0.0.1", 1), "server": ("127.0.0.1", 80),
            "subprotocols": [],
        }  # fmt: skip
        try:
            await self.asgi(scope, receive, send)
        except ConnectionResetError as error:
            got.append(str(error.strerror))
        return got


@pytest.fixture
def echo(mesh):
    return Echo(mesh)


def test_a_web_socket_that_nothing_is_planned_for_is_whole(echo, chaos):
    chaos.served("/ws", nth=2).reset()
    assert echo.call("one", b"two") == ["accept", "one", "two"]
    assert echo.said == ["one", "two", "gone with 1000"]


def test_the_connection_of_a_web_socket_breaks_before_mesh_and_application_hear_of_it(echo, chaos):
    chaos.served("/ws", nth=1).reset()
    assert echo.call("one") == [RESET]
    assert echo.said == []
    assert echo.call("one") == ["accept", "one"]


def test_a_web_socket_comes_late_by_the_clock_of_the_mesh(echo, chaos, fake_clock):
    chaos.served("/ws").latency(30)
    before = fake_clock.monotonic()
    assert echo.call("one") == ["accept", "one"]
    assert fake_clock.monotonic() == before + 30


def test_a_client_whose_handshake_is_lost_gets_nothing(echo, chaos):
    chaos.served("/ws").lost_response()
    assert echo.call("one") == [RESET]
    assert echo.said == []


def test_what_a_web_socket_sends_is_cut_after_so_many_bytes_of_messages(echo, chaos):
    chaos.served("/ws").partial_body(after=6)
    assert echo.call("one", b"two", "three") == ["accept", "one", "two", CUT]
    assert echo.said == ["one", "two", "three"]


def test_a_client_that_leaves_a_web_socket_is_told_as_one_that_did_not_close_it(echo, chaos):
    chaos.served("/ws").partial_request(after=5)
    got = echo.call("one", "two")
    assert echo.said == ["one", "gone with 1006"]
    assert got == ["accept", "one", LEFT]


@pytest.mark.parametrize("name", ["werkzeug.socket", "gunicorn.socket"])
@pytest.mark.parametrize(
    "breaks",
    [lambda served: served.reset(), lambda served: served.lost_response(), lambda served: served.partial_body(1)],
)
def test_where_a_wsgi_server_shows_its_connection_the_client_sees_it_break(mesh, chaos, name, breaks):
    """Werkzeug keeps it open: its client would wait for a timeout of its own."""
    breaks(chaos.served("/"))
    app = MeshWSGIMiddleware(lambda environ, start: (start("200 OK", []) and None) or [b"hello"], mesh(""))
    ours, clients = socket.socketpair()
    with ours, clients:
        clients.settimeout(60)
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            name: ours,
        }
        environ |= {"SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
        with pytest.raises(ConnectionResetError):
            list(app(environ, lambda *_: None))
        assert clients.recv(1) == b""
