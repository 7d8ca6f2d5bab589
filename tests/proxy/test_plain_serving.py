"""Requests to an application that need nothing but an attempt on a connection that is there: what they are made with is used
again, and whatever else comes of one is a ``Serving``'s."""

from __future__ import annotations

import threading

import pytest

from meshlib.proxy import plain_serving
from meshlib.proxy.inbound_serving import Serving
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.eventually import eventually, turned
from tests.support.identities import CLIENT, World
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.resources import destination_rule
from tests.support.servers import EchoServer

pytestmark = pytest.mark.skipif(PLAIN, reason="MESHLIB_PLAIN=1: there are none")


def whole(handler):
    """The response in one write: one that comes in two is no plain one."""
    body = handler.path.encode()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-mine: yes\r\n\r\n%b" % (len(body), body))
    return True


@pytest.fixture
def app():
    with EchoServer("app", behave=whole) as made:
        yield made


@pytest.fixture
def long_ways(monkeypatch):
    """How many calls a ``Serving`` has gone on with."""
    found = []
    usual = Serving.of

    def noted(*arguments):
        found.append(arguments)
        return usual(*arguments)

    monkeypatch.setattr(Serving, "of", noted)
    return found


def spares(proxy):
    lane = proxy.listener.place.hop.lane
    return [] if lane is None else lane.spares


def told(proxy, **labels):
    return proxy.metric("istio_requests_total", reporter="destination", **labels)


def test_spares_go_with_the_configuration_that_they_were_made_by(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        client.get()
        assert eventually(lambda: len(spares(proxy)) == 1)
        hop = proxy.listener.place.hop
        before = hop.lane
        proxy.mesh.apply([authorization_policy("some", "ALLOW", on_paths("/a"))])
        assert client.get("/b").status == 403
        assert client.get("/a").status == 200
        assert eventually(lambda: len(spares(proxy)) == 1)
        assert hop.lane is not before
        assert before.spares == []


def test_what_is_under_way_while_the_configuration_changes_is_not_used_again(app):
    asked, go = threading.Event(), threading.Event()

    def slow(handler):
        asked.set()
        assert go.wait(60)
        return whole(handler)

    with InboundProxy(app.port) as proxy, proxy.client() as client, proxy.client() as other:
        client.get()
        client.get()
        assert eventually(lambda: len(spares(proxy)) == 1)
        before = proxy.listener.place.hop.lane
        app.behave = slow
        client.send(b"GET /slow HTTP/1.1\r\nHost: reviews\r\n\r\n")
        assert asked.wait(60)
        app.behave = whole
        proxy.mesh.apply([])
        assert other.get("/other").status == 200
        go.set()
        assert client.response().body == b"/slow"
        assert eventually(lambda: told(proxy, response_code="200") == 4)
        assert before.spares == []


def test_one_request_after_another_is_served_with_the_same(app, long_ways):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()  # a connection to the application is there
        taken, made = len(long_ways), set()
        for number in range(5):
            response = client.get(f"/{number}")
            assert (response.status, response.body) == (200, f"/{number}".encode())
            assert (response.header("x-mine"), response.header("server")) == ("yes", "istio-envoy")
            assert response.header("x-envoy-upstream-service-time") is not None
            assert eventually(lambda: len(spares(proxy)) == 1)
            made.add(id(spares(proxy)[0]))
        assert len(made) == 1
        assert len(long_ways) == taken
        assert eventually(lambda: told(proxy, response_code="200", response_flags="-") == 6)


def test_a_spare_keeps_neither_request_nor_response(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        client.get()
        assert eventually(lambda: len(spares(proxy)) == 1)
        spare = spares(proxy)[0]
        assert spare._call.request is None
        assert spare._hop.request is None
        assert (spare._outcome.whole, spare._outcome.headers, spare._call.came) == (None, [], ())
        assert (spare._responder, spare._connection, spare._span) == (None, None, None)


def test_calls_that_somebody_keeps_are_not_used_again(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        kept = []
        proxy.mesh._telemetry_of_servers().remember = lambda call, _now, _trace: kept.append(call)
        client.get("/0")
        client.get("/1")
        client.get("/2")
        assert eventually(lambda: [call.request.path for call in kept] == ["/0", "/1", "/2"])
        assert spares(proxy) == []


def test_no_more_are_kept_than_are_seldom_under_way_at_once(app, monkeypatch):
    monkeypatch.setattr(plain_serving, "MOST_SPARES", 0)
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        assert client.get().status == 200
        assert eventually(lambda: told(proxy, response_code="200") == 2)
        assert spares(proxy) == []


def test_who_may_not_come_in_is_told_so_between_those_who_may(app):
    with (
        InboundProxy(app.port, authorization_policy("some", "ALLOW", on_paths("/a"))) as proxy,
        proxy.client() as client,
    ):
        assert [client.get(path).status for path in ("/a", "/a", "/b", "/a", "/b")] == [200, 200, 403, 200, 403]
        assert eventually(lambda: told(proxy, response_code="403", response_flags="-") == 2)
        assert told(proxy, response_code="200", response_flags="-") == 3


def test_what_the_last_request_came_to_is_nothing_to_the_next_one(app):
    """A client that goes while its request is under way has got nothing, whatever the one before it got."""
    go = threading.Event()

    def later(handler):
        go.wait(20)
        return whole(handler)

    with InboundProxy(app.port) as proxy:
        with proxy.client() as client:
            client.get()
            assert client.get().status == 200
            app.behave = later
            client.send(b"GET /gone HTTP/1.1\r\nHost: reviews\r\n\r\n")
            assert eventually(lambda: spares(proxy) == [])
        try:
            assert eventually(lambda: told(proxy, response_code="0", response_flags="DC") == 1)
        finally:
            go.set()
        assert told(proxy, response_code="200") == 2


def test_a_response_in_pieces_is_passed_on_all_the_same(app):
    go = threading.Event()

    def in_two(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none")
        go.wait(20)
        handler.wfile.write(b"two")
        return True

    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        app.behave = in_two
        client.send(b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        assert client.head().status == 200
        assert client.exactly(3) == b"one"
        go.set()
        assert client.exactly(3) == b"two"
        app.behave = whole
        assert client.get("/again").body == b"/again"
        assert eventually(lambda: told(proxy, response_code="200") == 3)


def test_an_application_that_hangs_up_is_asked_once_more_or_is_a_503(app):
    """On a connection that was kept it has most likely not seen the request; having begun a response, it has."""

    def cut(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")
        handler.close_connection = True
        return True

    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        app.behave = cut
        assert client.get("/cut").status == 502
        app.behave = whole
        assert client.get("/whole").body == b"/whole"
        assert eventually(lambda: told(proxy, response_code="200") == 2)
        assert told(proxy, response_code="502") == 1


@pytest.mark.parametrize("body", [b"", b"a body that has come with its head"])
def test_bytes_are_counted_as_on_the_long_way(app, body, monkeypatch):
    # which says how long the application took, in one digit or in two
    silent = mesh_config(defaultConfig={"proxyHeaders": {"envoyDebugHeaders": {"disabled": True}}})

    def bytes_of(plain):
        with InboundProxy(app.port, silent) as proxy:
            if not plain:
                monkeypatch.setattr("meshlib.proxy.inbound_listener.Straight", type("Nobody", (), {}))
            with proxy.client() as client:
                for _ in range(3):
                    client.send(
                        b"POST /a HTTP/1.1\r\nHost: reviews\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
                    )
                    assert client.response().status == 200
            assert eventually(lambda: told(proxy) == 3)
            assert eventually(lambda: (spares(proxy) != []) is plain)  # it is a spare only after its response
            labels = {"reporter": "destination", "response_code": "200"}
            return [proxy.metric(f"istio_{each}_bytes_sum", **labels) for each in ("request", "response")]

    assert bytes_of(plain=True) == bytes_of(plain=False)


def test_a_request_that_the_system_did_not_take_whole_costs_later_ones_nothing():
    callers = set()

    def behave(handler):
        callers.add(handler.client_address)
        return whole(handler)

    with EchoServer("app", behave=behave) as app, InboundProxy(app.port) as proxy, proxy.client() as client:
        client.get()
        client.get()
        assert eventually(lambda: len(spares(proxy)) == 1)
        (spare,) = spares(proxy)
        spare._unsent = True  # as its last request may have left it
        for number in range(4):
            assert client.get(f"/{number}").status == 200
        assert len(callers) == 1
        assert spare._unsent is False


def test_a_response_of_our_own_is_logged_as_such_after_requests_that_were_served(tmp_path):
    held, go_on = threading.Event(), threading.Event()

    def behave(handler):
        if handler.path == "/held":
            held.set()
            go_on.wait(60)
        return whole(handler)

    one = destination_rule("reviews", connectionPool={"http": {"http2MaxRequests": 1}})
    log = tmp_path / "access.log"
    line = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST%\n"
    with (
        EchoServer("app", behave=behave) as app,
        InboundProxy(app.port, one, policy_port=9080, access_log=log, access_log_format=line) as proxy,
        proxy.client() as first,
        proxy.client() as second,
    ):
        for path in ("/1", "/2"):
            assert first.get(path).status == 200
        assert eventually(lambda: len(spares(proxy)) == 1)
        first.send(b"GET /held HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert held.wait(60)
        assert second.get("/over").status == 503
        go_on.set()
        assert first.response().status == 200
        assert eventually(lambda: log.exists() and "/over" in log.read_text())
        (over,) = [told for told in log.read_text().splitlines() if "/over" in told]
    assert over == "/over 503 UO upstream_reset_before_response_started{overflow} -"


def test_a_line_of_the_access_log_says_what_its_connection_has_of_its_own(app, tmp_path, long_ways):
    ratings = "spiffe://cluster.local/ns/default/sa/ratings"
    world = World(of_a_mesh=True)
    world.rotate()

    def over_tls(context, name):
        context.check_hostname = False
        return lambda sock: context.wrap_socket(sock, server_hostname=name)

    log = tmp_path / "access.log"
    line = "%REQ(:PATH)% %DOWNSTREAM_PEER_URI_SAN% %REQUESTED_SERVER_NAME% %DOWNSTREAM_LOCAL_ADDRESS% %RESPONSE_CODE%\n"
    options = {"identity": world.identity, "access_log": log, "access_log_format": line, "policy_port": 9080}
    with (
        InboundProxy(app.port, **options) as proxy,
        proxy.client() as plain,
        proxy.client(over_tls(world.client(), "reviews")) as first,
        proxy.client(over_tls(world.client(name=ratings), "reviews")) as second,
        proxy.client(over_tls(world.client(), "other")) as third,
    ):
        clients = {"plain": plain, "first": first, "second": second, "third": third}
        assert plain.get("/none").status == 200  # a connection to the application is there
        taken = len(long_ways)
        for turn in range(3):
            for name, client in clients.items():
                assert client.get(f"/{name}/{turn}").status == 200
        assert len(long_ways) == taken
        turned(proxy.loop)
        assert proxy.mesh.flush_access_logs()
        told = log.read_text().splitlines()[1:]
    of_connections = {
        "plain": "- -",
        "first": f"{CLIENT} reviews",
        "second": f"{ratings} reviews",
        "third": f"{CLIENT} other",
    }
    here = "127.0.0.1:9080"
    assert told == [f"/{name}/{turn} {of_connections[name]} {here} 200" for turn in range(3) for name in clients]


def test_a_200_is_asked_for_again_where_the_mesh_says_so(app, long_ways):
    def cancelled(handler):
        app.behave = whole
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ngrpc-status: 1\r\n\r\n")
        return True

    again = mesh_config(defaultInboundHttpRetryPolicy={"attempts": 1, "retryOn": "cancelled"})
    with InboundProxy(app.port, again) as proxy, proxy.client() as client:
        client.get("/first")
        app.behave = cancelled
        assert client.get("/again").body == b"/again"
        app.behave = whole
        taken = len(long_ways)
        assert client.get("/once").body == b"/once"
        assert len(long_ways) == taken
