"""A port of the proxy: its connections are counted, and drained when it is to stop."""

from __future__ import annotations

import re
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from meshlib.proxy.listener import Listener
from meshlib.proxy.process import ProxySettings
from meshlib.proxy.sockets import BACKLOG
from tests.support.event_loops import event_loops
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


def mesh_of(server):
    return [service("reviews"), pod("reviews", "v1", server.port)]


def test_it_knows_its_connections(server):
    with Proxy(mesh_of(server)) as proxy:
        listener = proxy.process.listener
        with proxy.client() as one, proxy.client() as other:
            assert (one.get().status, other.get().status, listener.connections, listener.accepted) == (200, 200, 2, 2)
        assert eventually(lambda: listener.connections == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="how many may wait is told by Linux alone")
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("loops", event_loops())
def test_as_many_clients_may_wait_to_be_accepted_as_its_socket_was_made_for(server, loops, transparent):
    """An event loop that takes a socket over sets it to 100 of its own; who is one too many tries again after a second."""
    with Proxy(mesh_of(server), ProxySettings(drain=2, transparent=transparent), loops=loops) as proxy:
        told = proxy._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())
        assert int.from_bytes(told[28:32], sys.byteorder) == min(BACKLOG, most)  # tcpi_sacked of a socket that listens


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_request_for_the_proxy_itself_is_not_sent_round_and_round(server, host, method):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        itself = f"{host}:{proxy.port}"
        client.sock.settimeout(60)
        assert client.get("/" if method == "GET" else itself, method, itself).status == 503
        assert proxy.process.listener.accepted <= 4  # the client's, an attempt and two retries


def test_a_request_that_is_refused_is_logged_with_who_where_and_why(server, caplog):
    caplog.set_level("DEBUG", "meshlib.proxy")
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().status == 426
        ((_, at, _),) = proxy.process.listeners()
    (line,) = [each for each in caplog.messages if "refused" in each]
    assert re.fullmatch(
        rf"a request of 127\.0\.0\.1:\d+ to {at} is refused with 426: the client speaks HTTP/1.0: .* is needed .*", line
    )


def test_a_connection_over_http2_that_breaks_the_protocol_is_logged_with_who_and_why(server, caplog):
    caplog.set_level("DEBUG", "meshlib.proxy")
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\1\0\0\0\0\0\7x")
        assert eventually(lambda: any("HTTP/2 connection" in each for each in caplog.messages))
    (line,) = [each for each in caplog.records if "HTTP/2 connection" in each.getMessage()]
    assert line.levelname == "DEBUG"
    assert re.match(
        r"the HTTP/2 connection of 127\.0\.0\.1:\d+ is closed: the client broke HTTP/2: ", line.getMessage()
    )


def test_a_fault_of_ours_that_ends_a_connection_over_http2_is_an_error_in_the_log(caplog):
    Listener.broken(None, "ZeroDivisionError: oh", True, SimpleNamespace(get_extra_info=lambda _: ("::1", 4711)))
    (line,) = caplog.records
    assert (line.levelname, line.getMessage()) == (
        "ERROR",
        "the HTTP/2 connection of [::1]:4711 is closed: ZeroDivisionError: oh",
    )


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = Encoder().encode([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"nobody")])
CARRIES_NOTHING = (
    r"floods the connection with frames that carry nothing \(%s was one too many\): 2000 at once, 100 a second and 10 "
)
FLOODS = {
    "PING": (PingFrame(0, b"12345678").serialize() * 3000, CARRIES_NOTHING % "PING"),
    "SETTINGS": (SettingsFrame(0).serialize() * 3000, CARRIES_NOTHING % "SETTINGS"),
    "rapid reset": (
        b"".join(
            HeadersFrame(number, HEAD, flags=["END_HEADERS"]).serialize()
            + RstStreamFrame(number, error_code=8).serialize()
            for number in range(1, 1001, 2)
        ),
        "it gives up streams at once, half of 500 or more",
    ),
    "CONTINUATION": (
        HeadersFrame(1, HEAD).serialize() + ContinuationFrame(1, b"").serialize() * 20,
        "Too many CONTINUATION frames",
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_that_ends_a_connection_over_http2_is_a_warning_with_who_what_and_the_limit(server, caplog, flood):
    frames, words = FLOODS[flood]
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.send(PREFACE + SettingsFrame(0).serialize() + frames)
        assert eventually(lambda: caplog.records)
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert re.match(
        rf"the HTTP/2 connection of 127\.0\.0\.1:\d+ is closed: the client broke HTTP/2: .*{words}", line.getMessage()
    )


def test_floods_fill_no_log(caplog):
    """One line a minute and port, with how many there were beside it."""
    clock = FakeClock()
    listener = Listener(None, SimpleNamespace(core=SimpleNamespace(clock=clock)))
    client = SimpleNamespace(get_extra_info=lambda _: ("10.1.2.3", 4711))
    for _ in range(100):
        listener.broken("it floods", False, client, True)
    (line,) = caplog.messages
    assert (
        line
        == "the HTTP/2 connection of 10.1.2.3:4711 is closed: it floods (0 more since this was said last; said once in 60 s)"
    )
    clock.advance(60.0)
    for _ in range(100):
        listener.broken("it floods again", False, client, True)
    (_, line) = caplog.messages
    assert "it floods again (99 more" in line
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_idle_connections_close_when_it_is_to_stop(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        assert client.get().status == 200
        proxy.stop()
        assert client.closed()
        assert proxy.join()


def test_a_request_under_way_is_finished_and_told_that_it_is_the_last(server):
    begun, go_on = threading.Event(), threading.Event()

    def wait(_handler):
        begun.set()
        go_on.wait(20)
        return False

    server.behave = wait
    with Proxy(mesh_of(server), ProxySettings(drain=60)) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert begun.wait(20)
        proxy.stop()
        assert eventually(lambda: proxy.process.listener.draining)
        go_on.set()
        response = client.response()
        assert (response.status, response.header("connection")) == (200, "close")
        assert client.closed()
        assert proxy.join()


def test_what_takes_longer_than_it_may_is_broken_off(server, caplog):
    begun, go_on = threading.Event(), threading.Event()

    def wait(_handler):
        begun.set()
        go_on.wait(20)
        return False

    server.behave = wait
    with Proxy(mesh_of(server), ProxySettings(drain=0.05)) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert begun.wait(20)
        proxy.stop()
        assert client.closed()
        assert proxy.join()
        go_on.set()
    assert "still under way after 0.05 s of draining" in caplog.text


def test_a_connection_that_the_kernel_has_accepted_is_served_though_it_stops(server):
    with Proxy(mesh_of(server), ProxySettings(drain=20)) as proxy:

        def connect_and_stop():
            late = proxy.client()  # the loop is here: it cannot accept before it is told to stop
            late.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            proxy.process.stop()
            proxy.process.listener.stop()
            came.append(late)
            done.set()

        came, done = [], threading.Event()
        proxy.loop.call_soon_threadsafe(connect_and_stop)
        assert done.wait(20)
        with came[0] as late:
            response = late.response()
            assert (response.status, response.header("connection")) == (200, "close")
