"""While there is too much to do, a request gets 503 at once, and Envoys are told not to try again."""

from __future__ import annotations

from meshlib.proxy.overload import Overload
from meshlib.proxy.process import ProxySettings
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
