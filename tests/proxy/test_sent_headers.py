"""The headers of a response as its client gets them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.engine.outcome import Outcome
from meshlib.proxy.sent_headers import sent_headers
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.h2_client import H2Client
from tests.support.h2_server import H2Server
from tests.support.inbound_proxy import InboundProxy
from tests.support.proxy import Proxy
from tests.support.resources import pod, service, service_entry, to, virtual_service
from tests.support.servers import EchoServer

OVERLOADED = (b"X-Envoy-Overloaded", b"true")
OTHER = (b"a", b"b")


def call(debug=True, took=12.7):
    mesh = replace(DEFAULTS, proxy_headers=replace(DEFAULTS.proxy_headers, debug=debug))
    live = SimpleNamespace(snapshot=SimpleNamespace(inbound=SimpleNamespace(default=SimpleNamespace(mesh=mesh))))
    return SimpleNamespace(live=live, record=SimpleNamespace(upstream_ms=took))


def test_an_upstreams_response_says_how_long_it_took():
    assert sent_headers(call(), Outcome(status=200, headers=[OTHER]), False) == [
        OTHER,
        (b"x-envoy-upstream-service-time", b"12"),
    ]


def test_where_that_is_not_known_it_took_no_time():
    assert sent_headers(call(took=None), Outcome(status=200, headers=[]), False)[0][1] == b"0"


def test_a_response_of_our_own_took_no_upstream_any_time():
    assert sent_headers(call(), Outcome(status=503, headers=[OVERLOADED]), True) == [OVERLOADED]


@pytest.mark.parametrize(("local", "left"), [(True, [OTHER]), (False, [OVERLOADED, OTHER])])
def test_without_debug_headers_what_is_ours_is_left_out_and_what_came_stays(local, left):
    assert sent_headers(call(debug=False), Outcome(status=503, headers=[OVERLOADED, OTHER]), local) == left


# -- over the wire: a proxy behind this one says how long it took, too --------------------------------------------------

NAME = "x-envoy-upstream-service-time"
THEIRS = b"X-Envoy-Upstream-Service-Time: 987654\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\n" + THEIRS + b"content-length: 2\r\n\r\nhi"
PIECES = b"HTTP/1.1 200 OK\r\n" + THEIRS + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


def says(raw):
    def behave(handler):
        head, _, body = raw.partition(b"\r\n\r\n")
        handler.wfile.write(raw if raw is WHOLE else head + b"\r\n\r\n")
        if raw is not WHOLE:
            handler.wfile.write(body)
        return True

    return behave


def outbound(app):
    return Proxy([service("reviews"), pod("reviews", "v1", app.port)])


def edge(app):
    endpoints = [{"address": "127.0.0.1", "ports": {"http": app.port}}]
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    rules = virtual_service("all", {"route": [to("app.test", port=80)]}, hosts=["*"], gateways=["gw"])
    entry = service_entry("reviews", "app.test", ports=ports, resolution="STATIC", endpoints=endpoints)
    return Gateway(entry, rules, gateway(server("*")))


@pytest.mark.parametrize("raw", [WHOLE, PIECES])
@pytest.mark.parametrize("made", [outbound, edge, lambda app: InboundProxy(app.port)])
def test_each_proxy_of_a_chain_says_how_long_it_waited_itself(raw, made):
    with EchoServer("app", says(raw)) as app, made(app) as proxy, proxy.client() as client:
        for _ in range(3):  # the first one has no connection to the upstream yet
            response = client.get("/", "GET", "reviews")
            (took,) = [value for name, value in response.headers if name == NAME]
            assert (response.body, took != "987654") == (b"hi", True)


@pytest.mark.parametrize("status", [200, 404])
def test_each_proxy_of_a_chain_of_http2_as_well(status):
    def respond(peer, request):
        peer.respond(request, b"hi", status, [(NAME.encode(), b"987654")])

    ports = [{"name": "grpc", "port": 9080, "targetPort": "http"}]
    with (
        H2Server(respond) as upstream,
        Proxy([service("reviews", ports=ports), pod("reviews", "v1", upstream.port)]) as proxy,
        H2Client(proxy.port) as client,
    ):
        for _ in range(3):
            answer = client.get()
            assert (answer.status, bytes(answer.body)) == (status, b"hi")
            assert (answer.names.count(NAME), answer.headers[NAME] != "987654") == (1, True)
