"""Requests that are refused before they are routed are told of: a line of the access log and a count, as Envoy's are."""

from __future__ import annotations

import contextlib
import select

import pytest

from meshlib.proxy.process import ProxySettings
from meshlib.proxy.slow_clients import ClientLimits, SlowClients
from tests.support.eventually import eventually
from tests.support.h2_client import H2Client
from tests.support.inbound_proxy import InboundProxy
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS
from tests.support.tcp_server import TcpServer

LINE = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %GRPC_STATUS_NUMBER%"
HOST = b"Host: reviews:9080\r\n"
GRPC = {"content_type": "application/grpc", "te": "trailers"}


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


@contextlib.contextmanager
def outbound(server, log, **more):
    resources = [service("reviews"), pod("reviews", "v1", server.port)]
    with Proxy(resources, access_log=log, access_log_format=LINE, **more) as proxy:
        yield proxy


@contextlib.contextmanager
def inbound(server, log):
    own = [service("reviews"), pod("reviews", "v1", server.port)]
    with InboundProxy(server.port, own=own, access_log=log, access_log_format=LINE) as proxy:
        yield proxy


def lines(log):
    return [line.removesuffix(" -") for line in log.read_text().splitlines()] if log.exists() else []


SIDES = pytest.mark.parametrize(("side", "reporter"), [(outbound, "source"), (inbound, "destination")])


@SIDES
@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"GET /a b HTTP/1.1\r\n" + HOST, "- - HTTP/1.1 400 DPE http1.codec_error"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: \x01\r\n", "- - HTTP/1.1 400 DPE http1.invalid_characters"),
        (b"GET / HTTP/1.1\r\n", "- - HTTP/1.1 400 - missing_host_header"),
        (b"GET / HTTP/1.0\r\n" + HOST, "- - HTTP/1.1 426 DPE low_version"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: %b\r\n" % (b"x" * 62_000), "- - HTTP/1.1 431 DPE http1.headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101, "- - HTTP/1.1 431 DPE http1.too_many_headers"),
        (b"GET /%00 HTTP/1.1\r\n" + HOST, "GET /%00 HTTP/1.1 400 - path_normalization_failed"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST, "OPTIONS * HTTP/1.1 404 - absolute_path_rejected"),
    ],
)
def test_a_request_that_is_none_has_a_line_and_counts(server, tmp_path, side, reporter, sent, line):
    log = tmp_path / "log"
    with side(server, log) as proxy:
        with proxy.client() as client:
            client.send(sent + b"\r\n")
            status = client.response().status
        assert eventually(lambda: lines(log) == [line])
        flags = line.split(" ")[4]
        labels = {"response_code": str(status), "response_flags": flags, "reporter": reporter}
        assert proxy.metric("istio_requests_total", **labels) == 1


def test_it_is_nobodys_service(server, tmp_path):
    with outbound(server, tmp_path / "log") as proxy:
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            client.response()
        unknown = {"destination_service": "unknown", "destination_service_name": "unknown"}
        assert proxy.metric("istio_requests_total", response_code="426", **unknown) == 1


@SIDES
def test_a_body_that_breaks_while_its_request_is_forwarded_is_one_line_with_both(tmp_path, side, reporter):
    heard = []

    def hears(sock):
        while data := sock.recv(65536):
            heard.append(data)

    log = tmp_path / "log"
    with TcpServer(hears) as server, side(server, log) as proxy:
        with proxy.client() as client:
            client.send(b"POST /chunk HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            assert eventually(lambda: b"abc" in b"".join(heard))
            client.send(b"nothing\r\n")
            assert client.response().status == 400
        assert eventually(lambda: lines(log) == ["POST /chunk HTTP/1.1 400 DPE http1.codec_error"])
        labels = {"response_code": "400", "response_flags": "DPE", "reporter": reporter}
        assert proxy.metric("istio_requests_total", **labels) == 1
        assert proxy.metric("istio_requests_total") == 1


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"GET / HTTP/1.1\r\nHo", "- - HTTP/1.1 408 - request_header_timeout"),
        (
            b"POST /b HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc",
            "POST /b HTTP/1.1 408 SI stream_idle_timeout",
        ),
    ],
)
@SIDES
def test_a_client_that_is_waited_for_too_long_has_one(server, tmp_path, side, reporter, sent, line):
    log = tmp_path / "log"
    with side(server, log) as proxy:
        listener = proxy.listener if isinstance(proxy, InboundProxy) else proxy.process.listener
        listener._slow_clients = SlowClients(ClientLimits(head=0, body=0))

        def told(sock):
            proxy.loop.call_soon_threadsafe(listener.look)
            return select.select([sock], [], [], 0)[0]

        with proxy.client() as client:
            client.send(sent)
            assert eventually(lambda: told(client.sock))
            assert client.response().status == 408
        assert eventually(lambda: lines(log) == [line])
        assert proxy.metric("istio_requests_total", response_code="408", reporter=reporter) == 1


@SIDES
def test_streams_of_http2_have_them_too(server, tmp_path, side, reporter):
    log = tmp_path / "log"
    with side(server, log) as proxy:
        with H2Client(proxy.port) as client:
            assert client.get("/large", **{f"x_{number}": "a" for number in range(120)}).status == 431
            assert client.get("/expects", expect="the-worst").status == 417
            assert client.get("/grpc", "POST", expect="the-worst", **GRPC).headers["grpc-status"] == "2"
            assert client.get("/%00").status == 400
        assert eventually(lambda: len(lines(log)) == 4)
        assert lines(log) == [
            "GET /large HTTP/2 431 DPE http2.too_many_headers",
            "GET /expects HTTP/2 417 DPE unknown_expectation",
            "POST /grpc HTTP/2 200 DPE unknown_expectation 2",
            "GET /%00 HTTP/2 400 - path_normalization_failed",
        ]
        for status in ("431", "417", "200", "400"):
            assert proxy.metric("istio_requests_total", response_code=status, reporter=reporter) == 1


@SIDES
def test_a_stream_whose_head_is_none_has_a_line_and_no_count_as_it_has_no_response(server, tmp_path, side, reporter):
    log = tmp_path / "log"
    with side(server, log) as proxy:
        with H2Client(proxy.port) as client:
            client.h2.config.validate_outbound_headers = client.h2.config.normalize_outbound_headers = False
            assert client.get("/", connection="close").reset == 1
            assert client.get("/good").status == 200
        assert eventually(lambda: len(lines(log)) == 2)
        assert lines(log)[0] == "- - HTTP/2 0 DPE http2.violation.of.messaging.rule"
        assert proxy.metric("istio_requests_total", reporter=reporter) == 1


def test_what_is_turned_away_has_a_line_and_no_count(server, tmp_path):
    log = tmp_path / "log"
    with outbound(server, log, settings=ProxySettings(drain=2, most_memory=1)) as proxy:
        with proxy.client() as client:
            assert client.get("/a").status == 503
        with proxy.client() as client:
            client.send(b"CONNECT reviews:9080 HTTP/1.1\r\n" + HOST + b"\r\n")
            assert client.response().status == 503
        assert eventually(lambda: len(lines(log)) == 2)
        assert lines(log) == ["GET /a HTTP/1.1 503 OM overload", "CONNECT - HTTP/1.1 503 OM overload"]
        assert proxy.metric("istio_requests_total") == 0


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(("PlainForwarding.begin",), marks=NEEDS_SHORTCUTS),
        ("Forwarding._begin", "Forwarding._in_a_task", "Forwarding._perform"),
    ],
)
def test_a_fault_of_ours_is_a_500_in_both(server, tmp_path, monkeypatch, where):
    def broken(*_):
        raise RuntimeError("a bug")

    log = tmp_path / "log"
    with outbound(server, log) as proxy:
        if len(where) > 1:  # else it may go the short way, where its response comes in one piece
            monkeypatch.setattr("meshlib.proxy.forward.PLAIN", True)
        for each in where:
            monkeypatch.setattr(f"meshlib.proxy.forward.{each}", broken)
        with proxy.client() as client:
            assert client.get("/a").status == 500
        assert eventually(lambda: lines(log) == ["GET /a HTTP/1.1 500 - proxy_failed"])
        assert proxy.metric("istio_requests_total", response_code="500", response_flags="-") == 1


@pytest.mark.parametrize("where", ["engine.plain_call.begun", "proxy.plain_serving.PlainServing._begin"])
def test_a_fault_of_ours_inbound_is_a_500_in_both(server, tmp_path, monkeypatch, where):
    def broken(*_):
        raise RuntimeError("a bug")

    log = tmp_path / "log"
    with inbound(server, log) as proxy:
        monkeypatch.setattr("meshlib.proxy.inbound_serving.Serving._decided", broken)  # of the long way
        monkeypatch.setattr(f"meshlib.{where}", broken)
        with proxy.client() as client:
            assert client.get("/a").status == 500
        assert eventually(lambda: lines(log) == ["GET /a HTTP/1.1 500 - proxy_failed"])
        assert proxy.metric("istio_requests_total", response_code="500", response_flags="-") == 1
