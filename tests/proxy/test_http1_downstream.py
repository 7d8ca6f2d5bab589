"""A connection of a client: what it may ask, in which ways, and what it hears when it asks wrongly."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from meshlib.proxy import http1_downstream
from meshlib.proxy.destination import destination
from meshlib.proxy.http1_downstream import Http1Downstream
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


@pytest.mark.parametrize(
    ("sent", "host", "looked_at"),
    [
        *[("/a?b=c&d", "reviews:9080", 0), ("/a/b.c/~d", "reviews:9080", 0)],
        *[
            ("/a/./b", "reviews:9080", 1),
            ("//a", "reviews:9080", 1),
            ("/%61", "reviews:9080", 1),
        ],
        *[("http://reviews:9080/a", "reviews:9080", 1), ("/a", "reviews.default:9080", 1)],
    ],
)
def test_a_target_of_a_host_that_was_met_is_looked_at_once_where_it_is_as_nearly_all_are(
    proxy, monkeypatch, sent, host, looked_at
):
    with proxy.client() as client:
        client.get("/")
        found = []
        monkeypatch.setattr(http1_downstream, "destination", lambda *given: found.append(1) or destination(*given))
        monkeypatch.setattr(http1_downstream, "SEEN", {b"reviews:9080"})
        client.get(sent, "GET", host)
    assert len(found) == looked_at


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
        ("GET //a HTTP/1.1", "http1_downstream.destination"),
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

            last, looks = -1, 0

            def rests():
                """Nothing has been served for many looks at a connection that waits for its client: between two responses, or
                in the middle of one."""
                nonlocal last, looks
                found = [
                    each for each in list(proxy.process.listener._connections) if isinstance(each, Http1Downstream)
                ]
                waits = any(not each.writable and each._reader.waiting for each in found)
                looks = looks + 1 if waits and len(served) == last else 0
                last = len(served)
                return looks >= 50

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
        client.sock.settimeout(60)
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
