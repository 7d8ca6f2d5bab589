"""Connections by cluster, counted when somebody looks: over sockets, in threads and on a loop."""

from __future__ import annotations

import asyncio

import meshlib
from meshlib.transport.core.pool_counts import PoolCount, pool_counts
from meshlib.transport.upstream.target import Target
from tests.support.h2_server import H2Server, answer_ok
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer

KEY = "outbound|9080||reviews.default.svc.cluster.local"


def bound(key, *targets):
    return type("Bound", (), {"spec": type("Spec", (), {"key": key}), "targets": dict(enumerate(targets))})


def test_connections_count_for_the_cluster_that_leads_there():
    one, two, gone = Target("10.0.0.1", 1), Target("10.0.0.1", 1), Target("10.0.0.1", 1)
    seen = [(one, True), (one, False), (two, False), (gone, True)]
    assert pool_counts([bound("a", one), bound("b", two), bound("c")], seen) == {
        "a": PoolCount(busy=1, idle=1),
        "b": PoolCount(busy=0, idle=1),
        "c": PoolCount(busy=0, idle=0),
    }


def much(handler):
    """A body that does not come together with its head."""
    handler.answer(200, b"x" * 4_000_000)
    return True


def mesh_of(port):
    return meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", port)])


def test_threads_have_a_busy_connection_while_a_response_is_read_and_then_an_idle_one():
    with EchoServer(behave=much) as server, mesh_of(server.port) as mesh, mesh.client() as client:
        assert mesh._core.pools() == {}, "nothing was called yet"
        with client.stream("GET", "http://reviews:9080/") as response:
            assert mesh._core.pools() == {KEY: PoolCount(busy=1, idle=0)}
            response.read()
        assert mesh._core.pools() == {KEY: PoolCount(busy=0, idle=1)}
    assert mesh._core.pools() == {}


async def test_connections_of_a_loop_are_counted_from_any_thread():
    with EchoServer(behave=much) as server, mesh_of(server.port) as mesh:
        async with mesh.async_client() as client:
            async with client.stream("GET", "http://reviews:9080/") as response:
                assert await asyncio.to_thread(mesh._core.pools) == {KEY: PoolCount(busy=1, idle=0)}
                await response.aread()
            assert await asyncio.to_thread(mesh._core.pools) == {KEY: PoolCount(busy=0, idle=1)}


def test_http2_connections_are_busy_while_they_have_a_stream():
    h2c = destination_rule("reviews", connectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}})
    seen = []

    def respond(peer, request):
        seen.append(mesh._core.pools())
        answer_ok(peer, request)

    with H2Server(respond) as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port), h2c]
        with meshlib.Mesh.from_resources(resources) as mesh, mesh.client() as client:
            client.get("http://reviews:9080/")
            assert seen == [{KEY: PoolCount(busy=1, idle=0)}]
            assert mesh._core.pools() == {KEY: PoolCount(busy=0, idle=1)}
