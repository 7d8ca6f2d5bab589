"""connectionPool on real connections: how long they are made, kept and used. The clock is moved by hand."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer


def port_of_client(handler: Any) -> bool:
    handler.answer(200, str(handler.client_address[1]).encode())
    return True


class Pool:
    """Calls with a policy, and from which port each came: the same port means the same connection."""

    def __init__(self, **policy: Any) -> None:
        self.clock = FakeClock()
        self.server = EchoServer(behave=port_of_client)
        self.policy = policy

    def __enter__(self) -> Pool:
        self.server.__enter__()
        rule = destination_rule("reviews", connectionPool=self.policy)
        resources = [service("reviews"), pod("reviews", "v1", self.server.port), rule]
        self.mesh = meshlib.Mesh.from_resources(resources, clock=self.clock)
        self.client = self.mesh.client()
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.mesh.close()
        self.server.stop()

    def call(self) -> str:
        return self.client.get("http://reviews:9080/").text


def test_a_connection_is_used_again():
    with Pool(tcp={"maxConnections": 10}) as pool:
        assert pool.call() == pool.call()


def test_max_requests_per_connection_bounds_its_use():
    with Pool(http={"maxRequestsPerConnection": 2}) as pool:
        ports = [pool.call() for _ in range(6)]
    assert ports[0] == ports[1] != ports[2] == ports[3] != ports[4] == ports[5]


@pytest.mark.parametrize("policy", [{"tcp": {"idleTimeout": "30s"}}, {"http": {"idleTimeout": "30s"}}])
def test_an_idle_connection_is_not_used_after_idle_timeout(policy):
    with Pool(**policy) as pool:
        first = pool.call()
        pool.clock.advance(29)
        assert pool.call() == first
        pool.clock.advance(31)
        assert pool.call() != first


def test_http_idle_timeout_goes_before_that_of_tcp():
    with Pool(tcp={"idleTimeout": "1s"}, http={"idleTimeout": "60s"}) as pool:
        first = pool.call()
        pool.clock.advance(30)
        assert pool.call() == first


def test_a_connection_is_not_used_beyond_max_connection_duration():
    with Pool(tcp={"maxConnectionDuration": "10s"}) as pool:
        first = pool.call()
        for _ in range(3):
            pool.clock.advance(3)
            assert pool.call() == first
        pool.clock.advance(2)
        assert pool.call() != first


def test_tcp_keepalive_is_set_on_the_socket(monkeypatch):
    seen: dict[Any, int] = {}
    real = socket.socket.setsockopt

    def watch(self: socket.socket, level: int, option: int, value: Any) -> None:
        seen[level, option] = value
        real(self, level, option, value)

    monkeypatch.setattr(socket.socket, "setsockopt", watch)
    with Pool(tcp={"tcpKeepalive": {"probes": 3, "time": "20s", "interval": "5s"}}) as pool:
        pool.call()
    assert seen[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    assert seen[socket.IPPROTO_TCP, socket.TCP_KEEPCNT] == 3
    assert seen[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] == 20
    assert seen[socket.IPPROTO_TCP, socket.TCP_KEEPINTVL] == 5


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
async def test_connect_timeout_bounds_the_connecting(kind):
    """A listener whose queue is full does not answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        rule = destination_rule("reviews", connectionPool={"tcp": {"connectTimeout": "100ms"}})
        with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", port), rule]) as mesh:
            with pytest.raises(httpx.ConnectTimeout, match=r"within 0\.1 s"):  # noqa: PT012
                if kind == "threads":
                    with mesh.client() as client:
                        client.get("http://reviews:9080/")
                else:
                    async with mesh.async_client() as client:
                        await client.get("http://reviews:9080/")
            await mesh.aclose()
        for one in fill:
            one.close()


def test_a_reload_of_endpoints_keeps_the_connections_of_those_that_stay():
    with Pool(tcp={"maxConnections": 10}) as pool, EchoServer() as other:
        first = pool.call()
        rule = destination_rule("reviews", connectionPool=pool.policy)
        more = [service("reviews"), pod("reviews", "v1", pool.server.port), pod("reviews", "v2", other.port), rule]
        pool.mesh.apply(more)
        assert first in {pool.client.get("http://reviews:9080/").text for _ in range(20)}


def test_a_reload_closes_the_idle_connections_that_it_has_no_use_for():
    with Pool(tcp={"maxConnections": 10}) as pool:
        pool.call()
        assert pool.mesh._core.upstream.idle_connections() == 1
        pool.mesh.apply([service("reviews"), pod("reviews", "v1", 1)])
        assert pool.mesh._core.upstream.idle_connections() == 0
