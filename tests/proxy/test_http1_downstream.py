"""A connection of a client: what it may ask, in which ways, and what it hears when it asks wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import socket
import threading
from types import SimpleNamespace

import pytest

from meshlib.proxy import http1_downstream
from meshlib.proxy.http1_downstream import PIPELINED, Http1Downstream
from meshlib.proxy.slow_clients import Wait
from meshlib.transport.protocol.http1_request import RequestReader
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS


@pytest.fixture(scope="module")
def server():
    with EchoServer("v1") as made:
        yield made


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as made:
        yield made


def seen(response):
    return json.loads(response.body)


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://reviews:9080/a?b", "/a?b"), ("HTTP://reviews:9080", "/"), ("http://reviews:9080/?b", "/?b")],
)
def test_a_url_leads_to_its_host_whatever_host_says(proxy, target, path):
    with proxy.client() as client:
        found = seen(client.get(target, "GET", "elsewhere:1"))
    assert (found["path"], found["headers"]["host"]) == (path, "reviews:9080")


@pytest.mark.parametrize(
    ("sent", "forwarded"), [("/a/../b?c/../d", "/b?c/../d"), ("/%61//b", "/a//b"), ("/%2Fa", "/%2Fa")]
)
def test_the_path_goes_on_normalized_as_istio_has_it_when_nothing_is_said(proxy, sent, forwarded):
    with proxy.client() as client:
        assert seen(client.get(sent))["path"] == forwarded


MESH_CONFIG = """
pathNormalization:
  normalization: %s
"""


@pytest.mark.parametrize(
    ("normalization", "forwarded"),
    [("NONE", "/x/../a//%2Fb"), ("MERGE_SLASHES", "/a/%2Fb"), ("DECODE_AND_MERGE_SLASHES", "/a/b")],
)
def test_the_path_is_normalized_as_the_mesh_config_says_before_it_is_routed(server, normalization, forwarded):
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": MESH_CONFIG % normalization},
    }
    matches = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {
            "hosts": ["reviews"],
            "http": [
                {"match": [{"uri": {"exact": forwarded}}], "route": [{"destination": {"host": "reviews"}}]},
                {"directResponse": {"status": 418}},
            ],
        },
    }
    found = [config, matches, service("reviews"), pod("reviews", "v1", server.port)]
    with Proxy(found) as proxy, proxy.client() as client:
        assert seen(client.get("/x/../a//%2Fb"))["path"] == forwarded


@pytest.mark.parametrize(
    ("request_line", "host", "status"),
    [
        ("GET * HTTP/1.1", "reviews:9080", 400),
        ("GET reviews HTTP/1.1", "reviews:9080", 400),
        ("GET https://reviews:9080/ HTTP/1.1", "reviews:9080", 400),
        ("GET http://user@reviews:9080/ HTTP/1.1", "reviews:9080", 400),
        ("GET http:///a HTTP/1.1", "reviews:9080", 400),
        ("GET / HTTP/1.1", "", 400),
        ("GET / HTTP/1.1", "a/b", 400),
        ("GET / HTTP/1.0", "reviews:9080", 426),
        ("GET /%00 HTTP/1.1", "reviews:9080", 400),
        ("GET /a#b HTTP/1.1", "reviews:9080", 400),
        ("GET http://reviews:9080?b HTTP/1.1", "reviews:9080", 404),
        ("OPTIONS * HTTP/1.1", "reviews:9080", 404),
        ("CONNECT / HTTP/1.1", "reviews:9080", 400),
    ],
)
def test_what_is_refused_is_the_last_thing_said(proxy, request_line, host, status):
    with proxy.client() as client:
        client.send(f"{request_line}\r\nHost: {host}\r\n\r\nGET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n".encode())
        response = client.response()
        assert (response.status, response.header("connection"), response.body) == (status, "close", b"")
        assert client.closed()
    assert proxy.process.listener.refusals[status] >= 1


def broken(*_):
    raise RuntimeError("a rule that cannot be")


@pytest.mark.parametrize(
    ("request_line", "where"),
    [
        pytest.param("GET / HTTP/1.1", "plain_forwarding.PlainForwarding.begin", marks=NEEDS_SHORTCUTS),
        ("GET / HTTP/1.1", "http1_downstream.destination"),
        ("CONNECT reviews:9080 HTTP/1.1", "connect.route_connection"),
    ],
)
def test_a_bug_before_a_request_is_forwarded_is_500_to_its_client_and_a_traceback_to_us(
    proxy, monkeypatch, caplog, request_line, where
):
    before = proxy.process.listener.refusals.get(500, 0)
    monkeypatch.setattr(f"meshlib.proxy.{where}", broken)
    with proxy.client() as client:
        client.send(f"{request_line}\r\nHost: reviews:9080\r\n\r\n".encode())
        response = client.response()
        assert (response.status, response.header("connection"), response.body) == (500, "close", b"")
        assert client.closed()
    assert proxy.process.listener.refusals[500] == before + 1
    assert "a fault of meshlib, please report it" in caplog.text
    assert "a rule that cannot be" in caplog.text


def test_a_bug_after_the_response_breaks_the_connection_and_says_nothing_more(proxy, monkeypatch, caplog):
    def responds_and_breaks(request, responder):
        responder.respond(200, b"", [(b"content-length", b"0")], b"", None)
        raise RuntimeError("too late")

    monkeypatch.setattr(proxy.process.listener.forwarder, "forward", responds_and_breaks)
    with proxy.client() as client:
        assert client.get().status == 200
        assert client.closed()
    assert "too late" in caplog.text


def test_a_client_that_wants_no_more_gets_no_more(proxy):
    with proxy.client() as client:
        response = client.get("/", "GET", "reviews:9080", "Connection: close")
        assert (response.status, response.header("connection")) == (200, "close")
        assert client.closed()


def test_a_body_that_is_no_body_ends_the_connection_and_the_request(proxy):
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"nothing\r\n")
        assert client.response().status == 400
        assert client.closed()


def test_a_response_before_the_end_of_its_request_is_the_last_one(proxy, server):
    server.behave = lambda handler: handler.answer(200, b"early") or True
    try:
        with proxy.client() as client:
            client.send(b"POST http://nowhere.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
            response = client.response()
            assert (response.status, response.header("connection")) == (503, "close")
            assert client.closed()
    finally:
        server.behave = None


def test_what_a_client_sends_ahead_is_not_held_without_bound(proxy, server):
    """It stops being read: what it cannot send stays with it."""
    import threading

    release = threading.Event()
    server.behave = lambda handler: release.wait(20) and False
    try:
        with proxy.client() as client:
            client.sock.setblocking(False)
            ahead = b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n" * 1000
            sent = 0

            def full():
                nonlocal sent
                try:
                    sent += client.sock.send(ahead)
                except BlockingIOError:
                    return True
                return False

            assert eventually(lambda: full() or sent > 50_000_000)
            assert sent < 50_000_000
    finally:
        release.set()
        server.behave = None


def test_a_client_that_takes_no_responses_gets_no_further_ones_made(proxy, server):
    """Requests of a few bytes would make the proxy hold any number of responses."""
    served = []
    server.behave = lambda handler: served.append(1) or handler.answer(200, b"x" * 60_000) or True
    many = 300
    try:
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n" * many)

            def rests():
                found = [each for each in list(proxy.process.listener._connections) if type(each) is Http1Downstream]
                return any(not each.writable and not each._busy and each._reader.waiting for each in found)

            assert eventually(lambda: rests() or len(served) == many)
            assert len(served) < many
            assert [client.response().status for _ in range(many)] == [200] * many
    finally:
        server.behave = None


def test_what_follows_an_upgrade_that_the_upstream_declines_is_not_read_as_a_request(proxy, server):
    with proxy.client() as client:
        upgrade = b"GET /declined HTTP/1.1\r\nHost: reviews:9080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        client.send(upgrade + b"GET /smuggled HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        response = client.response()
        assert (seen(response)["path"], response.header("connection")) == ("/declined", "close")
        assert client.closed()


@pytest.mark.parametrize("kept", [False, True])
def test_an_upstreams_connection_that_has_declined_an_upgrade_is_of_no_use_to_another_request(kept):
    """``kept``: it has been used before. Whoever stands between may take what follows for the other protocol."""
    ok, closed = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            sock, _ = listening.accept()
            with sock, contextlib.suppress(ConnectionResetError):
                for _ in range(1 + kept):
                    while not sock.recv(65536).endswith(b"\r\n\r\n"):
                        pass
                    sock.sendall(ok)
                assert sock.recv(65536) == b""
            closed.set()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        with Proxy([service("reviews"), pod("reviews", "v1", listening.getsockname()[1])]) as proxy:
            for _ in range(kept):
                with proxy.client() as client:
                    assert client.get().status == 200
            with proxy.client() as client:
                client.send(
                    b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
                assert client.response().status == 200
            assert closed.wait(20)
        serving.join(20)


@pytest.mark.parametrize("kept", [False, True])
def test_an_upgraded_connection_carries_bytes_both_ways(kept):
    """``kept``: the upstream's connection has been used before."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        sock, _ = listening.accept()
        for _ in range(1 + kept):
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            if b"GET /before" in head:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert b"upgrade: websocket\r\n" in head.lower()
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        while data := sock.recv(4096):
            sock.sendall(data.upper())
        sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    found = [service("reviews"), pod("reviews", "v1", listening.getsockname()[1])]
    with Proxy(found) as proxy, proxy.client() as client:
        if kept:
            assert client.get("/before").status == 200
        client.sock.settimeout(5)
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead")
        switched = client.head()
        assert (switched.status, switched.header("transfer-encoding")) == (101, None)
        assert client.exactly(5) == b"hello"
        client.send(b" and more")
        assert client.exactly(14) == b"AHEAD AND MORE"
    thread.join(20)
    assert not thread.is_alive()
    listening.close()


def test_without_nghttp2_a_client_of_http2_is_refused_and_others_are_served(proxy, monkeypatch):
    monkeypatch.setattr("meshlib.proxy.listener.speaks_http2", lambda: False)
    with proxy.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.response().status == 400
        assert client.closed()
    with proxy.client() as client:
        assert client.get().status == 200


class Transport:
    """A client's. ``full``: the system takes nothing, and so it says ``pause_writing`` at the next write."""

    def __init__(self):
        self.down: Http1Downstream
        self.full = self.closing = False
        self.unsent = 0
        self.calls = []

    def write(self, data):
        if self.full and self.down.writable:
            self.down.pause_writing()

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def get_write_buffer_size(self):
        return self.unsent

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")


class Port:
    """Responds to each request at once."""

    proto, draining, tunnels = b"", False, None

    def __init__(self):
        self.rng, self.forwarder, self.core, self.loop = random.Random(1), self, SimpleNamespace(live=None), self
        self.served, self.soon, self.turn = [], [], self

    def create_future(self):
        return asyncio.get_running_loop().create_future()

    def call_soon(self, call):
        self.soon.append(call)

    def next_turn(self):
        soon, self.soon = self.soon, []
        for call in soon:
            call()

    def forward(self, request, responder):
        self.served.append(request.target)
        responder.respond(200, b"OK", [], b"whole", None)

    def opened(self, connection):
        pass

    closed = opened


def connected():
    port, transport = Port(), Transport()
    transport.down = down = Http1Downstream(port)
    down.connection_made(transport)
    return down, transport, port


def asked(number):
    return b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number


def test_a_client_that_does_not_read_responses_gets_no_more_of_them():
    """It could have any number of them kept for it, sending requests ahead."""
    down, transport, port = connected()
    transport.full = True
    down.data_received(asked(1) + asked(2) + asked(3))
    port.next_turn()
    assert port.served == [b"/1"]
    assert down.waits() == (Wait.NEXT, 1)  # not for a head, and so it hears no 408
    transport.full = False
    down.resume_writing()
    for _ in range(3):
        port.next_turn()
    assert port.served == [b"/1", b"/2", b"/3"]


def test_nor_does_it_when_it_asks_later_and_what_it_asks_is_read_no_further():
    down, transport, port = connected()
    transport.full = True
    down.data_received(asked(1))
    port.next_turn()
    for _ in range(2):
        down.data_received(asked(2) * (PIPELINED // 20))
    assert (port.served, transport.calls) == ([b"/1"], ["pause"])
    transport.full = False
    down.resume_writing()
    port.next_turn()
    assert (port.served, transport.calls) == ([b"/1", b"/2"], ["pause", "resume"])


async def test_who_waits_for_a_client_that_sends_no_more_waits_until_it_reads_or_has_gone():
    """Its transport is closing: what is written meanwhile would be kept, all of it."""
    down, transport, _ = connected()
    down.pause_writing()
    transport.closing = True
    waiting = asyncio.ensure_future(down.drained())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    down.connection_lost(None)
    await asyncio.wait_for(waiting, 20)


def test_a_client_that_is_behind_when_it_leaves_http_is_behind_in_the_tunnel(monkeypatch):
    said = []
    tunnel = SimpleNamespace(writable=said.append, received=None)
    monkeypatch.setattr(http1_downstream, "Tunnel", lambda *_: tunnel)
    down, transport, _ = connected()
    transport.full = True
    down.switch(101, b"Switching Protocols", [], None)  # type: ignore[arg-type]
    assert said == [False]


def test_a_connection_that_is_over_is_not_kept_until_the_garbage_collector_comes():
    def readers():
        return sum(type(each) is RequestReader for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = readers()
        down, transport, port = connected()
        down.data_received(asked(1) + asked(2))
        assert readers() == before + 1
        down.connection_lost(None)
        port.soon.clear()
        del down, transport.down, transport, port
        assert readers() == before
    finally:
        gc.enable()


def test_a_client_that_does_not_take_its_last_response_is_not_waited_for_without_end():
    down, transport, _ = connected()
    down.drain()
    assert (transport.calls, down.waits()) == (["close"], None)
    transport.unsent = 70_000
    assert down.waits() == (Wait.LEAVE, 70_000)
    down.give_up(Wait.LEAVE)
    assert transport.calls == ["close", "abort"]


@pytest.fixture
def written(monkeypatch):
    """By the transport."""
    found = []
    monkeypatch.setattr(Transport, "write", lambda _self, data: found.append(bytes(data)))
    return found


def test_a_response_is_written_when_the_turn_of_the_loop_ends(written):
    """Written between the work for one request and the next, each wakes its reader."""
    down, _, port = connected()
    down.data_received(asked(1))
    assert written == []
    port.next_turn()
    assert [each.count(b"whole") for each in written] == [1]


def test_a_connection_that_is_drained_after_its_response_loses_nothing_of_it(written):
    down, transport, _ = connected()
    down.data_received(asked(1))
    down.drain()
    assert [each.count(b"whole") for each in written] == [1]
    assert transport.calls == ["close"]


def test_nor_does_one_whose_client_sends_no_more(written):
    down, _, _ = connected()
    down.data_received(asked(1))
    assert down.eof_received() is False  # which closes the transport
    assert [each.count(b"whole") for each in written] == [1]


def test_to_a_client_that_has_gone_nothing_is_written(written):
    down, _, port = connected()
    down.data_received(asked(1))
    down.connection_lost(None)
    port.next_turn()
    assert written == []
