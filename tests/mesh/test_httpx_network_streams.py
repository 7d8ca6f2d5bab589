"""The connection behind a response of httpx: what it tells of itself, and the stream that is left after 101."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import trustme

import meshlib
from tests.support.evil_server import EvilServer
from tests.support.h2_server import H2Server
from tests.support.listening import stop_accepting
from tests.support.resources import destination_rule, pod, service, virtual_service
from tests.support.servers import EchoServer
from tests.support.websockets import server_side

RUNTIMES = ["threads", "asyncio"]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
ASK = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": KEY.decode(),
    "sec-websocket-version": "13",
}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


class RawServer:
    """Accepts, reads one head, says ``first``, then does what ``then`` does with the socket."""

    def __init__(self, first: bytes = SWITCH, then: Callable[[socket.socket], None] = lambda sock: None) -> None:
        self.first, self.then = first, then
        self.ended = threading.Event()
        self.accepted = 0
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            sock.sendall(self.first)
            self.then(sock)
            while sock.recv(65536):
                pass
        self.ended.set()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *exc: object) -> None:
        stop_accepting(self._sock, self._thread)


class Raw:
    """One upgraded response of either runtime, with blocking methods."""

    def __init__(self, runtime: str, mesh: meshlib.Mesh, module: Any = httpx, **options: Any) -> None:
        self.runtime = runtime
        if runtime == "threads":
            self.client = module.Client(transport=mesh.http_transport(module=module, **options), timeout=60)
        else:
            self.client = module.AsyncClient(transport=mesh.async_http_transport(module=module, **options), timeout=60)
            self.loop = asyncio.new_event_loop()

    def do(self, result: Any) -> Any:
        return result if self.runtime == "threads" else self.loop.run_until_complete(result)

    def open(self, url: str, **headers: str) -> Any:
        request = self.client.build_request("GET", url, headers={**ASK, **headers})
        self.response = self.do(self.client.send(request, stream=True))
        self.stream = self.response.extensions["network_stream"]
        return self.stream

    def read(self, most: int = 65536, timeout: float | None = 60) -> bytes:
        return self.do(self.stream.read(most, timeout))

    def write(self, data: bytes, timeout: float | None = 60) -> None:
        self.do(self.stream.write(data, timeout))

    def close(self) -> None:
        self.do(self.stream.close() if self.runtime == "threads" else self.stream.aclose())

    def get(self, url: str) -> Any:
        return self.do(self.client.get(url))

    def end(self) -> None:
        self.do(self.client.close() if self.runtime == "threads" else self.client.aclose())
        if self.runtime == "asyncio":
            self.do(asyncio.sleep(0))
            self.loop.close()


@pytest.fixture
def raw(runtime):
    with contextlib.ExitStack() as stack:

        def make(mesh: meshlib.Mesh, **options: Any) -> Raw:
            made = Raw(runtime, mesh, **options)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_resources([]) as running:
        yield running


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_bytes_that_came_with_the_head_are_read_first(mesh, raw):
    with RawServer(SWITCH + b"early bytes") as server:
        one = raw(mesh)
        one.open(server.url)
        assert one.response.status_code == 101
        assert [one.read(5), one.read(65536)] == [b"early", b" bytes"]
        one.close()


def test_the_stream_is_read_and_written_until_it_is_closed(mesh, raw):
    with RawServer(then=echo) as server:
        one = raw(mesh)
        one.open(server.url)
        for piece in (b"a", b"b" * 300_000):
            one.write(piece)
            got = b""
            while len(got) < len(piece):
                got += one.read()
            assert got == piece
        assert one.stream.get_extra_info("server_addr")[1] == server.port
        assert one.stream.get_extra_info("client_addr")[0] == "127.0.0.1"
        assert one.stream.get_extra_info("ssl_object") is None
        assert one.stream.get_extra_info("nothing") is None
        one.close()
        one.close()
        assert server.ended.wait(30)


@pytest.mark.parametrize(("module", "core"), [(httpx, httpcore), (httpx2, httpcore2)])
def test_what_fails_is_an_exception_of_httpcore(mesh, raw, runtime, module, core):
    with RawServer() as server:
        one = raw(mesh, module=module)
        one.open(server.url)
        assert isinstance(one.stream, core.NetworkStream if runtime == "threads" else core.AsyncNetworkStream)
        with pytest.raises(core.ReadTimeout):
            one.read(timeout=0.01)
        one.close()
        with pytest.raises(core.ReadError):
            one.read()
        with pytest.raises(core.WriteError):
            one.write(b"x")


def test_a_server_that_does_not_read_is_a_write_timeout(mesh, raw):
    over = threading.Event()

    def stubborn(sock: socket.socket) -> None:
        over.wait(60)

    with RawServer(then=stubborn) as server:
        one = raw(mesh)
        one.open(server.url)
        with pytest.raises(httpcore.WriteTimeout):
            one.write(b"x" * 50_000_000, timeout=0.1)
        one.close()
        over.set()


def test_the_end_of_the_connection_is_an_empty_read(mesh, raw):
    with RawServer(then=lambda sock: sock.shutdown(socket.SHUT_WR)) as server:
        one = raw(mesh)
        one.open(server.url)
        assert one.read() == b""
        one.close()


def test_closing_wakes_a_thread_that_reads(mesh):
    with RawServer() as server:
        one = Raw("threads", mesh)
        one.open(server.url)
        failed: list[Exception] = []

        def read() -> None:
            try:
                failed.append(ValueError(one.read(timeout=None)))
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        one.close()
        thread.join(30)
        assert not thread.is_alive()
        one.end()


def test_closing_the_mesh_ends_the_stream(raw):
    with RawServer() as server, meshlib.Mesh.from_resources([]) as mesh:
        one = raw(mesh)
        one.open(server.url)
        if one.runtime == "threads":
            mesh.close()
        else:
            one.do(mesh.aclose())
        with contextlib.suppress(httpcore.ReadError):
            assert one.read() == b""
        assert server.ended.wait(30)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (SWITCH, None),
        (SWITCH.replace(b"websocket", b"other"), "a websocket"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "a websocket"),
    ],
)
def test_a_switch_that_was_not_asked_for_is_a_protocol_error(mesh, raw, answer, asked):
    with RawServer(answer) as server:
        one = raw(mesh)
        ask = one.get if asked is None else one.open
        with pytest.raises(httpx.RemoteProtocolError):
            ask(server.url)


def test_the_slots_of_the_call_are_held_until_the_stream_is_closed(raw):
    with RawServer() as server:
        policy = {"connectionPool": {"tcp": {"maxConnections": 1}}}
        resources = [service("chat"), pod("chat", "v1", server.port), destination_rule("chat", **policy)]
        with meshlib.Mesh.from_resources(resources) as mesh:
            one, two = raw(mesh), raw(mesh)
            one.open("http://chat:9080/")
            (cluster,) = mesh.status()["clusters"]
            assert cluster["active"] == 1
            request = two.client.build_request("GET", "http://chat:9080/", timeout=httpx.Timeout(60, pool=0.05))
            with pytest.raises(httpx.PoolTimeout):
                two.do(two.client.send(request))
            one.close()
            (cluster,) = mesh.status()["clusters"]
            assert cluster["active"] == 0
            two.open("http://chat:9080/")
            two.close()


def test_the_place_in_the_clients_limits_is_held_too(mesh, raw):
    with RawServer() as server:
        one = raw(mesh, limits=httpx.Limits(max_connections=1))
        one.open(server.url)
        request = one.client.build_request("GET", server.url, timeout=httpx.Timeout(60, pool=0.05))
        with pytest.raises(httpx.PoolTimeout):
            one.do(one.client.send(request))
        one.close()
        one.open(server.url)
        one.close()


def test_a_stream_that_is_dropped_gives_everything_back(mesh, raw):
    with RawServer() as server:
        one = raw(mesh, limits=httpx.Limits(max_connections=1))
        one.open(server.url)
        del one.response, one.stream
        gc.collect()
        if one.runtime == "asyncio":
            one.do(asyncio.sleep(0.01))
        assert server.ended.wait(30)
        one.open(server.url)
        one.close()


def test_a_websocket_over_plaintext_http2_is_refused_with_the_remedy(raw):
    with H2Server() as server:
        ports = [{"name": "http2", "port": 9080, "targetPort": server.port}]
        with meshlib.Mesh.from_resources([service("chat", ports=ports), pod("chat", "v1", server.port)]) as mesh:
            one = raw(mesh)
            with pytest.raises(httpx.LocalProtocolError, match="named http"):
                one.open("http://chat:9080/")
            assert one.get("http://chat:9080/").http_version == "HTTP/2"


# -- what any response tells of its connection ------------------------------------------------------------------------------


def test_every_response_tells_of_its_connection(mesh, raw):
    with EchoServer() as server:
        one = raw(mesh)
        stream = one.get(f"http://127.0.0.1:{server.port}/").extensions["network_stream"]
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
        assert stream.get_extra_info("socket").fileno() > 0
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("is_readable") is False


@pytest.mark.parametrize("http2", [False, True])
def test_over_tls_it_tells_of_the_handshake(mesh, raw, authority, trusting, http2):
    tls = server_side(authority, "h2") if http2 else server_side(authority)
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    with H2Server(tls=tls) if http2 else EvilServer([ok], tls=tls) as server:
        one = raw(mesh, verify=trusting, http2=http2)
        response = one.get(f"https://localhost:{server.port}/")
        ssl_object = response.extensions["network_stream"].get_extra_info("ssl_object")
        assert ssl_object.version().startswith("TLS")
        assert ssl_object.selected_alpn_protocol() == ("h2" if http2 else None)
        assert ssl_object.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)


def test_a_pooled_connection_is_not_read_or_written_raw(mesh, raw):
    with EchoServer() as server:
        one = raw(mesh)
        stream = one.get(f"http://127.0.0.1:{server.port}/").extensions["network_stream"]
        with pytest.raises(RuntimeError, match="101"):
            one.do(stream.read(1))
        with pytest.raises(RuntimeError, match="101"):
            one.do(stream.write(b"x"))
        one.do(stream.close() if one.runtime == "threads" else stream.aclose())
        assert one.get(f"http://127.0.0.1:{server.port}/").status_code == 200


def test_a_response_that_the_mesh_made_has_no_connection(raw):
    rules = ({"directResponse": {"status": 200}},)
    with meshlib.Mesh.from_resources([service("chat"), virtual_service("chat", *rules)]) as mesh:
        assert "network_stream" not in raw(mesh).get("http://chat:9080/").extensions
