"""Requests that need nothing but an attempt on a connection that is there: what they are made with is used again, and whatever
else comes of one is a ``Forwarding``'s."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading

import pytest

from meshlib.proxy import plain_forwarding
from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.plain_forwarding import PlainForwarding
from meshlib.transport.protocol.shortcuts import PLAIN
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.loop_deadlines import Deadlines
from tests.support.eventually import eventually, turned
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.skipif(PLAIN, reason="MESHLIB_PLAIN=1: there are none")


def whole(handler):
    """The response in one write: one that comes in two is no plain one."""
    body = handler.path.encode()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return True


@pytest.fixture
def server():
    with EchoServer("v1", behave=whole) as made:
        yield made


def mesh_of(server, **rule):
    found = [service("reviews"), pod("reviews", "v1", server.port)]
    if rule:
        found.append(virtual_service("reviews", {"route": [to("reviews")], **rule}))
    return found


def spares(proxy):
    return proxy.process.listener.forwarder.spares


def test_one_request_after_another_is_made_with_the_same(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()  # a connection to the upstream is there
        made = set()
        for number in range(5):
            assert client.get(f"/{number}").status == 200
            assert eventually(lambda: len(spares(proxy)) == 1)
            made.add(id(spares(proxy)[0]))
        assert len(made) == 1
        assert proxy.metric("istio_requests_total", response_code="200") == 6


def test_a_connection_that_is_not_there_is_looked_for_once_before_one_is_made(server, monkeypatch):
    looked = []
    original = AsyncioUpstream.take
    monkeypatch.setattr(AsyncioUpstream, "take", lambda *asked: looked.append(1) or original(*asked))
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        assert client.get().status == 200
    assert len(looked) == 2  # and once more by whoever makes it: one may have come back meanwhile


# -- a connection that is made for it -------------------------------------------------------------------------------------


def test_a_request_whose_connection_is_made_for_it_is_no_less_plain(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        assert client.get("/first").body.endswith(b"/first")
        assert eventually(lambda: len(spares(proxy)) == 1)
        (spare,) = spares(proxy)
        assert spare._dialling is None
        assert client.get("/second").body.endswith(b"/second")
        assert eventually(lambda: spares(proxy) == [spare])
        assert proxy.metric("istio_requests_total", response_code="200", response_flags="-") == 2


def test_one_that_cannot_be_connected_is_tried_elsewhere_by_its_retries(server):
    tried = []
    with (
        Proxy(mesh_of(server, retries={"attempts": 2, "retryOn": "connect-failure"})) as proxy,
        proxy.client() as client,
    ):
        upstream = proxy.process.listener.forwarder.upstream
        dial = upstream.dial

        async def fails_first(*asked):
            tried.append(True)
            if len(tried) == 1:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            return await dial(*asked)

        upstream.dial = fails_first
        assert client.get("/again").body.endswith(b"/again")
        assert len(tried) == 2
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == 1)
        assert client.get().status == 200


def test_without_retries_it_is_a_503(server):
    with Proxy(mesh_of(server, retries={"attempts": 0})) as proxy, proxy.client() as client:
        proxy.process.listener.forwarder.upstream.dial = refused
        assert client.get().status == 503
        assert spares(proxy) == []
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="503", response_flags="UF") == 1)


async def hangs(*_):
    await asyncio.Event().wait()


async def refused(*_):
    raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


async def faulty(*_):
    raise ZeroDivisionError("a fault of meshlib")


@pytest.mark.parametrize(
    ("rule", "limit"),
    [({"timeout": "0.25s"}, 0.25), ({"timeout": "60s"}, 7.0), ({}, 7.0)],
    ids=["the request's time", "less than the request's time", "no other time"],
)
def test_to_connect_takes_no_longer_than_the_request_has_nor_than_connections_may_take(server, rule, limit):
    """What is asked for as the limit is looked at, and rings at once."""
    found = [*mesh_of(server, retries={"attempts": 0}, **rule)]
    found.append(destination_rule("reviews", connectionPool={"tcp": {"connectTimeout": "7s"}}))
    with Proxy(found) as proxy, proxy.client() as client:
        upstream, asked = proxy.process.listener.forwarder.upstream, []
        until = upstream.until_closed
        upstream.until_closed = lambda given=None: asked.append(given) or until(0.0)
        upstream.dial = hangs
        late = (
            {"response_code": "504", "response_flags": "UT"}
            if limit < 7
            else {"response_code": "503", "response_flags": "UF"}
        )
        assert client.get().status == int(late["response_code"])
        assert [round(each, 3) for each in asked] == [limit]
        assert eventually(lambda: proxy.metric("istio_requests_total", **late) == 1)


def test_the_time_for_its_response_runs_while_it_is_connected(server, monkeypatch):
    set_at, connected = [], []
    add = Deadlines.add
    monkeypatch.setattr(Deadlines, "add", lambda self, ring, at: set_at.append(at) or add(self, ring, at))
    with Proxy(mesh_of(server, timeout="60s")) as proxy, proxy.client() as client:
        upstream = proxy.process.listener.forwarder.upstream
        dial = upstream.dial

        async def noted(*asked):
            connected.append(proxy.loop.time())
            return await dial(*asked)

        upstream.dial = noted
        assert client.get().status == 200
        assert upstream.deadlines.at == {}
    assert len(connected) == 1
    assert set_at[0] - 60 <= connected[0]


def test_a_client_that_goes_meanwhile_is_one_that_went_and_nobody_connects_for_it_any_more(server):
    begun, given_up = [], []

    async def noted(*_):
        begun.append(True)
        try:
            await hangs()
        finally:
            given_up.append(True)

    with Proxy(mesh_of(server)) as proxy:
        proxy.process.listener.forwarder.upstream.dial = noted
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert eventually(lambda: begun)
        assert eventually(lambda: given_up and not proxy.process.connections)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_flags="DC", response_code="0") == 1)
        (state,) = [bound.state for bound in proxy.mesh._core.live.bound.values() if bound.state.requests]
        assert state.active == 0
        assert spares(proxy) == []


def test_a_fault_of_ours_while_it_connects_is_a_500_and_in_the_log(server, caplog):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        proxy.process.listener.forwarder.upstream.dial = faulty
        assert client.get().status == 500
        assert "a fault of meshlib, please report it" in caplog.text
        assert spares(proxy) == []


def test_a_request_that_could_not_be_connected_leaves_nothing_to_the_garbage_collector(server):
    def forwardings():
        return sum(type(each) in (Forwarding, PlainForwarding) and each._means is means for each in gc.get_objects())

    with Proxy(mesh_of(server, retries={"attempts": 0})) as proxy, proxy.client() as client:
        means = proxy.process.listener.forwarder
        means.upstream.dial = refused
        gc.collect()
        gc.disable()
        try:
            assert client.get().status == 503
            assert eventually(lambda: forwardings() == 0)
        finally:
            gc.enable()


# -- what else comes of one -----------------------------------------------------------------------------------------------


def test_with_an_access_log_too_whose_lines_say_nothing_of_the_request_before(server, tmp_path):
    wants = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %BYTES_SENT%"
    log = {"access_log": tmp_path / "log", "access_log_format": f"{wants}\n"}
    found = mesh_of(server, match=[{"uri": {"prefix": "/ok"}}])
    found[-1]["spec"]["http"].append({"match": [{"uri": {"prefix": "/none"}}], "directResponse": {"status": 404}})

    def cut(handler):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    with Proxy(found, **log) as proxy, proxy.client() as client:
        client.get("/ok-0")  # makes a connection to the upstream
        assert client.get("/ok-1").status == 200
        assert eventually(lambda: len(spares(proxy)) == 1)
        (spare,) = spares(proxy)
        assert not hasattr(spare._call.record, "answered")
        assert spare._outcome.stream is None
        assert client.get("/ok-02").status == 200
        assert eventually(lambda: spares(proxy) == [spare])
        assert client.get("/none").status == 404
        server.behave = cut
        assert client.get("/ok-3").status == 503
        turned(proxy.loop)
        assert proxy.mesh.flush_access_logs()
    _, first, second, none, failed = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    upstream = f"127.0.0.1:{server.port}"
    assert first[:4] == ["/ok-1", "200", "-", upstream]
    assert second[:4] == ["/ok-02", "200", "-", upstream]
    assert first[4] == second[4] != "-"
    assert (first[5], second[5]) == ("5", "6")
    assert none == ["/none", "404", "-", "-", "-", "0"]
    assert failed[:4] == ["/ok-3", "503", "UC", upstream]


def test_a_spare_keeps_neither_request_nor_response_nor_configuration(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()
        client.get()
        assert eventually(lambda: len(spares(proxy)) == 1)
        spare = spares(proxy)[0]
        assert [spare._call.live, spare._call.record.virtual_host, spare._call.record.rule_object] == [None] * 3
        assert spare._call.request is None
        assert (spare._outcome.whole, spare._outcome.headers) == (None, [])
        assert spare._responder is None
        assert spare._connection is None


def test_calls_that_somebody_keeps_are_not_used_again(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        proxy.process._mesh._core.telemetry.remember = lambda call, now, trace: None
        client.get()
        client.get()
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == 2)
        assert spares(proxy) == []


def test_no_more_are_kept_than_are_seldom_under_way_at_once(server, monkeypatch):
    monkeypatch.setattr(plain_forwarding, "MOST_SPARES", 0)
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()
        assert client.get().status == 200
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == 2)
        assert spares(proxy) == []


def test_what_is_left_of_one_that_was_more_is_not_used_again(server):
    answers = [503, 200]

    def behave(handler):
        status = answers.pop(0)
        handler.send_response(status)
        handler.send_header("content-length", "0")
        handler.end_headers()
        return True

    rule = {"retries": {"attempts": 1, "retryOn": "5xx"}}
    with Proxy(mesh_of(server, **rule)) as proxy, proxy.client() as client:
        client.get()
        server.behave = behave
        assert client.get().status == 200
        assert answers == []
        assert spares(proxy) == []


def test_a_response_in_pieces_is_passed_on_all_the_same(server):
    go = threading.Event()

    def in_two(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none")
        go.wait(20)
        handler.wfile.write(b"two")
        return True

    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.get()
        server.behave = in_two
        client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert client.head().status == 200
        assert client.exactly(3) == b"one"
        go.set()
        assert client.exactly(3) == b"two"
        server.behave = whole
        assert client.get().status == 200


def test_a_response_that_does_not_come_in_time_is_a_504(server):
    go = threading.Event()

    def never(handler):
        go.wait(20)
        return True

    rules = [
        {"match": [{"uri": {"exact": "/never"}}], "route": [to("reviews")], "timeout": "0.5s"},
        {"route": [to("reviews")]},
    ]
    with Proxy([*mesh_of(server), virtual_service("reviews", *rules)]) as proxy, proxy.client() as client:
        assert client.get().status == 200
        server.behave = never
        assert client.get("/never").status == 504
        assert spares(proxy) == []
        assert proxy.metric("istio_requests_total", response_code="504", response_flags="UT") >= 1
        go.set()


RULES = (
    {"match": [{"uri": {"exact": "/redirected"}}], "redirect": {"uri": "/there"}},
    {"match": [{"uri": {"exact": "/said"}}], "directResponse": {"status": 418}},
    {"match": [{"uri": {"prefix": "/plain"}}], "route": [to("reviews")]},
)


@pytest.mark.parametrize(
    ("target", "host", "status", "flags"),
    [
        ("/redirected", "reviews:9080", 301, "-"),
        ("/said", "reviews:9080", 418, "-"),
        ("/nowhere", "reviews:9080", 404, "NR"),
        ("/plain", "unknown.test", 502, "-"),
    ],
)
def test_what_is_no_plain_call_after_one_that_was_has_nothing_of_it(server, target, host, status, flags):
    only = mesh_config(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})
    resources = [*mesh_of(server), virtual_service("reviews", *RULES), only]
    with Proxy(resources) as proxy, proxy.client() as client, proxy.client() as other:
        client.get("/plain")
        client.get("/plain")
        assert eventually(lambda: len(spares(proxy)) == 1)
        for each in (client, other):
            assert each.get(target, "GET", host).status == status
        wanted = {"response_code": str(status), "response_flags": flags}
        assert eventually(lambda: proxy.metric("istio_requests_total", **wanted) == 2)
        called = proxy.metric("istio_requests_total", **wanted, destination_service="reviews.default.svc.cluster.local")
        assert called == (0 if status == 502 else 2)


def test_a_client_that_goes_is_one_that_went_and_the_next_one_gets_its_own_response(server):
    asked, go = threading.Event(), threading.Event()

    def waits(handler):
        asked.set()
        go.wait(20)
        return False

    with Proxy(mesh_of(server)) as proxy:
        with proxy.client() as first:
            first.get("/first")
            server.behave = waits
            first.send(b"GET /gone HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert asked.wait(20)
        assert eventually(lambda: proxy.process.listener.connections == 0)
        server.behave = whole
        go.set()
        with proxy.client() as second:
            for path in ("/second", "/third"):
                assert path.encode() in second.get(path).body
        assert eventually(lambda: proxy.metric("istio_requests_total", response_flags="DC", response_code="0") == 1)
        assert proxy.metric("istio_response_bytes_sum", response_flags="DC") == 0


def test_a_line_of_the_access_log_says_from_where_a_request_went_out(server, tmp_path):
    came_by = []

    def noted(handler):
        came_by.append(handler.client_address)
        return whole(handler)

    server.behave = noted
    log = {"access_log": tmp_path / "log", "access_log_format": "%UPSTREAM_LOCAL_ADDRESS%"}
    with Proxy(mesh_of(server), **log) as proxy, proxy.client() as client:
        for _ in range(4):
            client.get()
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == 4)
        assert proxy.mesh.flush_access_logs()
    assert (tmp_path / "log").read_text().split() == [f"{ip}:{port}" for ip, port in came_by]
