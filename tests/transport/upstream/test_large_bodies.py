"""Bodies that do not fit into a socket: time limits, answers in the middle, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import socket
import ssl

import httpx
import pytest
import trustme

import meshlib
from meshlib.transport.upstream.loop_pending import PIECE
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service

LARGE = 30_000_000
BIG = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"


class Runtime:
    """The same calls, blocking or asyncio, on plain and on TLS connections."""

    def __init__(self, name: str, encrypted: bool, folder) -> None:
        self.name = name
        self.tls = None
        self._policy = []
        self._loop = asyncio.new_event_loop() if name == "asyncio" else None
        self._opened = []
        if encrypted:
            authority = trustme.CA()
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("reviews.test").configure_cert(self.tls)
            authority.cert_pem.write_to_path(str(folder / "ca.pem"))
            tls = {"mode": "SIMPLE", "caCertificates": str(folder / "ca.pem"), "sni": "reviews.test"}
            self._policy = [destination_rule("reviews", tls=tls)]

    def serve(self, *plans) -> EvilServer:
        server = EvilServer(*plans, read_body=False, tls=self.tls).__enter__()
        self.mesh = meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), *self._policy])
        self.client = self.mesh.client() if self._loop is None else self.mesh.async_client()
        self._opened.append(server)
        return server

    def body(self, streamed: bool):
        if not streamed:
            return bytes(LARGE)
        pieces = [bytes(LARGE // 30)] * 30
        if self._loop is None:
            return iter(pieces)

        async def each():
            for piece in pieces:
                yield piece

        return each()

    def call(self, method: str, path: str = "/", **options) -> httpx.Response:
        made = self.client.request(method, f"http://reviews:9080{path}", **options)
        return made if self._loop is None else self._loop.run_until_complete(made)

    def close(self) -> None:
        if self._loop is None:
            self.client.close()
        else:
            self._loop.run_until_complete(self.client.aclose())
            self._loop.run_until_complete(self.mesh.aclose())
            self._loop.run_until_complete(asyncio.sleep(0.02))  # transports of TLS close in several steps
        self.mesh.close()
        for server in self._opened:
            server.__exit__()
        if self._loop is not None:
            self._loop.close()


@pytest.fixture(params=["threads", "threads, TLS", "asyncio", "asyncio, TLS"])
def runtime(request, tmp_path):
    made = Runtime(request.param.split(",")[0], "TLS" in request.param, tmp_path)
    yield made
    made.close()


streamed = pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "stream"])


class Upload:
    """Steps of a server that reads a body of ``LARGE`` bytes; some may have come with the head."""

    def __init__(self) -> None:
        self.server: EvilServer
        self.left = LARGE

    def take(self, conn: socket.socket, size: int = LARGE) -> None:
        if self.left == LARGE:
            self.left -= len(self.server.requests[-1].partition(b"\r\n\r\n")[2])
        until = max(0, self.left - size)
        while self.left > until:
            self.left -= len(conn.recv(min(65536, self.left)))


@pytest.fixture
def upload():
    return Upload()


@streamed
def test_a_server_that_does_not_read_ends_the_call_by_the_callers_write_timeout(runtime, streamed):
    server = runtime.serve([60.0])
    with pytest.raises(httpx.WriteTimeout) as caught:
        runtime.call("POST", content=runtime.body(streamed), timeout=httpx.Timeout(None, write=0.2))
    assert caught.value.exchange.flags == "DC"
    assert server.connections == 1


@streamed
def test_an_answer_in_the_middle_of_the_body_is_the_answer_and_the_last_on_its_connection(runtime, streamed):
    server = runtime.serve([BIG, 60.0], [OK])
    response = runtime.call("POST", content=runtime.body(streamed))
    assert (response.status_code, response.text) == (413, "big")
    assert runtime.call("GET", "/next").text == "ok"
    assert server.connections == 2


@streamed
def test_a_body_that_arrives_whole_leaves_its_connection_to_the_next_call(runtime, upload, streamed):
    server = upload.server = runtime.serve([upload.take, OK], [OK])
    assert runtime.call("POST", content=runtime.body(streamed), headers={"content-length": str(LARGE)}).text == "ok"
    assert runtime.call("GET", "/next").text == "ok"
    assert server.connections == 1


@streamed
def test_interim_answers_do_not_stop_a_body(runtime, upload, streamed):
    early, go_on = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"
    first = [early, lambda conn: upload.take(conn, 1_000_000), go_on, upload.take, OK]
    server = upload.server = runtime.serve(first, [OK])
    response = runtime.call("POST", content=runtime.body(streamed), headers={"content-length": str(LARGE)}, timeout=10)
    assert response.text == "ok"
    assert runtime.call("GET", "/next").text == "ok"
    assert server.connections == 1


def test_a_reader_that_is_slow_but_reads_is_not_cut_by_the_write_timeout(runtime, upload):
    # the whole takes longer than the limit; each pause is a small fraction of it, also on a machine that is busy
    slowly = [lambda conn: upload.take(conn, LARGE // 60), 0.05] * 60
    upload.server = runtime.serve([*slowly, OK])
    options = {"headers": {"content-length": str(LARGE)}, "timeout": httpx.Timeout(None, write=2.5)}
    assert runtime.call("POST", content=runtime.body(False), **options).text == "ok"


@pytest.mark.parametrize("runtime", ["asyncio", "asyncio, TLS"], indirect=True)
def test_what_waits_for_the_socket_in_user_space_is_bounded(runtime, upload, monkeypatch):
    from meshlib.transport.upstream.loop_connection import Connection

    most = 0
    write = Connection.write

    def watched(self, data):
        nonlocal most
        write(self, data)
        most = max(most, self.unsent())

    monkeypatch.setattr(Connection, "write", watched)

    upload.server = runtime.serve([upload.take, OK])
    assert runtime.call("POST", content=runtime.body(False)).text == "ok"
    assert most <= 2 * PIECE
