"""Upstreams of HTTP/1.1 that respond while they read, as an echo does: body and response go on beside each other, whatever the
client speaks and on whichever side of the proxy, with back-pressure both ways."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

import pytest

from tests.support.eventually import eventually
from tests.support.h2_client import H2Client
from tests.support.inbound_proxy import InboundProxy
from tests.support.protection import protection
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.tcp_server import TcpServer

CHUNK = re.compile(rb"([0-9a-f]+)\r\n")
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


MOST = 64 * 1024 * 1024


def taken(client):
    """How much of a body without end a client gets rid of: until it has waited for long, or ``MOST``."""
    client.sock.settimeout(2)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < MOST:
            client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    return sent


class Echo:
    """Sends its head with the first bytes of the body, and each byte of the body back as it comes: the chunks as they are."""

    def __init__(self):
        self.requests = 0
        self.ended = threading.Event()

    def __call__(self, sock):
        try:
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    more = sock.recv(65536)
                    if not more:
                        return
                    rest += more
                _, _, rest = rest.partition(b"\r\n\r\n")
                self.requests += 1
                sock.sendall(HEAD)
                tail = b""
                while True:
                    sock.sendall(rest)
                    tail = (tail + rest)[-7:]
                    if tail == b"\r\n0\r\n\r\n":
                        break
                    rest = sock.recv(65536)
                    if not rest:
                        return
                rest = b""
        finally:
            self.ended.set()


@pytest.fixture
def echo():
    return Echo()


@contextlib.contextmanager
def outbound(echo):
    with TcpServer(echo) as server, Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as proxy:
        yield proxy


@contextlib.contextmanager
def inbound(echo):
    with TcpServer(echo) as server:
        declared = [service("reviews"), pod("reviews", "v1", server.port)]  # as HTTP/1.1
        with InboundProxy(server.port, own=declared) as proxy:
            yield proxy


SIDES = pytest.mark.parametrize("side", [outbound, inbound])


@SIDES
def test_a_client_of_http1_hears_what_it_has_said_before_it_says_more(echo, side):
    with side(echo) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"3\r\none\r\n")
        head = client.head()
        assert (head.status, head.header("connection")) == (200, "close")  # as Envoy: the request may never end
        assert client.until(b"one\r\n") == b"3\r\none\r\n"
        for word in (b"two", b"three"):
            client.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert client.until(word + b"\r\n") == b"%x\r\n%b\r\n" % (len(word), word)
        client.send(b"0\r\n\r\n")
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert client.closed()


@SIDES
def test_a_client_of_http2_does_and_the_upstreams_connection_is_used_again(echo, side):
    with side(echo) as proxy, H2Client(proxy.port) as client:
        for number in (1, 2):
            stream = client.open("/", "POST", end=False)
            said = b""
            for word in (b"one", b"two", b"three"):
                client.send(stream, word)
                said += word
                client.until(lambda stream=stream, said=said: bytes(client.answers[stream].body) == said)
            client.send(stream, end=True)
            answer = client.answer(stream)
            assert (answer.status, bytes(answer.body)) == (200, b"onetwothree")
            assert echo.requests == number
        assert not echo.ended.is_set()


@SIDES
def test_an_upstream_that_does_not_read_holds_its_client_back_amid_the_response(side):
    release = threading.Event()

    def deaf(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.recv(1024)
        sock.sendall(HEAD + b"2\r\nhi\r\n")
        release.wait(30)

    try:
        with side(deaf) as proxy, proxy.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            assert client.head().status == 200
            assert client.until(b"hi\r\n") == b"2\r\nhi\r\n"
            assert taken(client) < MOST, "the system's buffers, and 64 KiB of ours"
    finally:
        release.set()


def test_a_client_that_does_not_read_holds_the_response_and_so_its_own_request_back(echo):
    with outbound(echo) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert taken(client) < MOST


@SIDES
def test_a_client_that_goes_away_amid_both_takes_the_upstreams_connection_with_it(echo, side):
    with side(echo) as proxy:
        with proxy.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            client.until(b"one\r\n")
        assert echo.ended.wait(20)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200", response_flags="DC") == 1)


@SIDES
def test_an_upstream_that_breaks_amid_both_breaks_its_clients_connection(side):
    def breaks(sock):
        sock.recv(65536)
        sock.sendall(HEAD + b"2\r\nhi\r\n")
        sock.recv(65536)

    with side(breaks) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        client.until(b"hi\r\n")
        client.send(b"1\r\nb\r\n")
        assert client.closed()
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == 1)


def test_a_body_in_broken_chunks_amid_the_response_breaks_the_connection(echo):
    with outbound(echo) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        client.until(b"one\r\n")
        client.send(b"nothing\r\n")
        assert client.closed()
        assert echo.ended.wait(20)


def test_a_response_that_ends_early_is_whole_and_the_last_of_its_connection():
    def enough(sock):
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nno.")
        sock.recv(65536)

    with outbound(enough) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        response = client.response()
        assert (response.status, response.header("connection"), response.body) == (413, "close", b"no.")
        assert client.closed()


def test_a_body_that_turns_out_too_long_amid_the_response_cuts_it(echo):
    with TcpServer(echo) as server, InboundProxy(server.port, protection(maxBodyBytes=5)) as proxy:
        with proxy.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            client.until(b"one\r\n")
            client.send(b"3\r\ntwo\r\n")
            assert client.closed()
            assert echo.ended.wait(20)
            assert eventually(
                lambda: proxy.metric("istio_requests_total", response_code="200", response_flags="-") == 1
            )
