"""While there is too much to do, a request gets 503 at once, and Envoys are told not to try again."""

from __future__ import annotations

import threading

import pytest

from meshlib.proxy.overload import Overload
from meshlib.proxy.process import ProxySettings
from tests.support.eventually import eventually
from tests.support.h2_client import H2Client
from tests.support.inbound_proxy import InboundProxy
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


def test_requests_are_turned_away_while_memory_is_beyond_its_limit_and_let_through_below() -> None:
    with EchoServer("v1") as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        with Proxy(resources, ProxySettings(drain=2, most_memory=1)) as proxy:
            with proxy.client() as client:
                response = client.get()
                assert (response.status, response.body) == (503, b"envoy overloaded")
                assert response.header("x-envoy-overloaded") == "true"
            overload = proxy.process.overload
            assert overload is not None
            assert overload.shed["memory"] == 1
            assert proxy.metric("meshlib_proxy_overload_total", reason="memory") == 1
    assert server.seen == []


def test_below_its_limits_nothing_is_turned_away() -> None:
    with EchoServer("v1") as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        settings = ProxySettings(drain=2, most_memory=1 << 40, most_lag=60.0, most_connections=10)
        with Proxy(resources, settings) as proxy, proxy.client() as client:
            assert client.get().status == 200
            assert client.get().status == 200


def test_requests_to_the_application_are_turned_away_too() -> None:
    with EchoServer("v1") as server, InboundProxy(server.port) as proxy:
        proxy.listener.overload = overload = Overload(lambda: 0.0, lambda: 2, lambda: 0.0, most_memory=1)
        with proxy.client() as client:
            response = client.get()
            assert (response.status, response.header("x-envoy-overloaded")) == (503, "true")
        assert overload.shed["memory"] == 1
    assert server.seen == []


ONE = ProxySettings(drain=2, most_requests=1)


class Held(EchoServer):
    """Responds to ``/held`` once it is let go."""

    def __init__(self) -> None:
        self.go, self.came = threading.Event(), threading.Event()
        super().__init__("v1", self._hold)

    def _hold(self, handler) -> bool:
        if handler.path == "/held":
            self.came.set()
            self.go.wait(20)
        return False


@pytest.fixture
def held():
    with Held() as server:
        yield server
        server.go.set()


def of(server):
    return [service("reviews"), pod("reviews", "v1", server.port)]


def test_a_request_too_many_is_turned_away_whichever_http_it_is_and_the_next_one_is_not(held) -> None:
    with Proxy(of(held), ONE) as proxy, H2Client(proxy.port) as client, proxy.client() as other:
        stream = client.open("/held")
        assert held.came.wait(20)
        assert (client.get("/").status, other.get("/").status) == (503, 503)
        held.go.set()
        assert client.answer(stream).status == 200
        assert eventually(lambda: proxy.process.overload.under_way == 0)
        assert (client.get("/").status, other.get("/").status) == (200, 200)
        assert proxy.metric("meshlib_proxy_overload_total", reason="requests") == 2
        assert proxy.process.overload is not None
        assert eventually(lambda: proxy.process.overload.under_way == 0)


def test_a_client_that_goes_gives_its_requests_place_back(held) -> None:
    with Proxy(of(held), ONE) as proxy:
        with proxy.client() as client:
            client.send(b"GET /held HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert held.came.wait(20)
        assert eventually(lambda: proxy.process.overload.under_way == 0)
        with proxy.client() as client:
            assert client.get("/").status == 200


def test_requests_to_the_application_count_as_well(held) -> None:
    with InboundProxy(held.port, own=of(held)) as proxy, proxy.client() as client, proxy.client() as other:
        proxy.listener.overload = overload = Overload(lambda: 0.0, lambda: 0, lambda: 0.0, most_requests=1)
        client.send(b"GET /held HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
        assert held.came.wait(20)
        assert other.get("/").status == 503
        held.go.set()
        assert client.response().status == 200
        assert eventually(lambda: overload.under_way == 0)
        assert other.get("/").status == 200
        assert eventually(lambda: overload.under_way == 0)


def test_large_responses_and_bodies_that_are_still_coming_go_through_as_ever(held) -> None:
    held.behave = lambda handler: handler.answer(200, b"x" * 3_000_000) or True
    with Proxy(of(held), ONE) as proxy, proxy.client() as client:
        for _ in range(2):
            assert eventually(lambda: proxy.process.overload.under_way == 0)
            client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nContent-Length: 200000\r\n\r\n" + b"y" * 100_000)
            client.send(b"y" * 100_000)
            assert len(client.response().body) == 3_000_000
        assert eventually(lambda: proxy.process.overload.under_way == 0)
