"""A user's httpx client over real servers on loopback, blocking and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
import threading

import httpx
import pytest

import meshlib
from tests.support.eventually import eventually
from tests.support.http_caller import Caller, reviews
from tests.support.resources import to
from tests.support.servers import failing


def test_a_call_reaches_the_subset_that_the_rules_name(runtime, servers):
    one, two = servers
    rules = (
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]},
        {"route": [to("reviews", "v1")]},
    )
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, *rules)) as mesh:
        caller = Caller(runtime, mesh)
        assert caller.get("http://reviews:9080/a").json()["server"] == "v1"
        response = caller.get("http://reviews:9080/a", headers={"end-user": "jason"})
        assert response.json()["server"] == "v2"
        exchange = response.extensions["mesh"]
        assert exchange.resource == "VirtualService/default/reviews"
        assert (exchange.rule, exchange.subset) == (0, "v2")
        assert exchange.host == "reviews.default.svc.cluster.local"
        assert exchange.endpoint == f"127.0.0.1:{two.port}"
        assert [a.status for a in exchange.attempts] == [200]
        assert exchange.flags == ""
        assert exchange.upstream_ms > 0


@pytest.mark.parametrize(
    "url",
    [
        "http://reviews:9080/",
        "http://reviews/",
        "http://reviews.default:9080/",
        "http://reviews.default.svc:9080/",
        "http://reviews.default.svc.cluster.local:9080/",
        "http://REVIEWS.default.svc.cluster.local.:9080/",
    ],
)
def test_every_name_of_a_service_works(servers, url):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        assert client.get(url).json()["server"] == "v1"


def test_the_upstream_sees_the_request_as_it_was_made(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        sent = Caller(runtime, mesh).request(
            "POST", "http://reviews:9080/a%20b?x=1&y=%2F", content=b"hello", headers={"X-Case": "Kept"}
        )
    seen = sent.json()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/a%20b?x=1&y=%2F", "hello")
    assert seen["headers"]["host"] == "reviews:9080"
    assert seen["headers"]["x-case"] == "Kept"
    assert seen["headers"]["x-envoy-attempt-count"] == "1"


def test_bodies_stream_up_and_down(runtime, servers):
    one, two = servers
    big = b"0123456789" * 200_000

    def behave(handler):
        handler.answer(200, big)
        return True

    one.behave = behave

    def chunks():
        for _ in range(50):
            yield b"z" * 10_000

    async def async_chunks():
        for chunk in chunks():
            yield chunk

    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        content = chunks() if runtime == "sync" else async_chunks()
        response = Caller(runtime, mesh).request("POST", "http://reviews:9080/", content=content)
    assert response.content == big
    assert len(one.seen[0]["body"]) == 500_000


def test_a_compressed_body_is_decoded_and_can_be_read_raw(servers):
    one, two = servers
    packed = gzip.compress(b"hello " * 100)
    one.behave = lambda handler: handler.answer(200, packed, content_encoding="gzip") or True
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        assert client.get("http://reviews:9080/").text == "hello " * 100
        with client.stream("GET", "http://reviews:9080/") as response:
            assert b"".join(response.iter_raw()) == packed


def test_connections_are_kept_alive(servers):
    one, two = servers
    ports = set()
    one.behave = lambda handler: ports.add(handler.client_address[1])
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        for _ in range(10):
            client.get("http://reviews:9080/")
    assert len(ports) == 1


def test_max_requests_per_connection_is_kept(servers):
    one, two = servers
    ports = []
    one.behave = lambda handler: ports.append(handler.client_address[1])
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 3}}}
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, **policy)) as mesh, mesh.client() as client:
        for _ in range(9):
            client.get("http://reviews:9080/")
    assert sorted(ports.count(p) for p in set(ports)) == [3, 3, 3]


# -- runtimes ------------------------------------------------------------------------------------------------------------


def test_one_mesh_serves_many_event_loops_one_after_another_and_at_once(servers):
    one, two = servers
    results = []
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        transport = mesh.async_http_transport()

        async def go(calls):
            async with httpx.AsyncClient(transport=transport) as client:
                for _ in range(calls):
                    results.append((await client.get("http://reviews:9080/")).json()["server"])

        for _ in range(5):
            asyncio.run(go(3))
        threads = [threading.Thread(target=lambda: asyncio.run(go(20))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert results == ["v1"] * 135


async def test_many_calls_at_once_on_one_loop(servers):
    one, two = servers
    async with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.async_client() as client:
        answers = await asyncio.gather(*(client.get(f"http://reviews:9080/{n}") for n in range(200)))
    assert [a.json()["path"] for a in answers] == [f"/{n}" for n in range(200)]


def test_max_connections_of_one_lets_calls_wait_and_refuses_beyond_the_line(servers):
    one, two = servers
    statuses = []
    one.behave = lambda handler: not eventually(lambda: statuses)  # all have come once one is refused
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, connectionPool=pool)) as mesh, mesh.client() as client:

        def call():
            response = client.get("http://reviews:9080/")
            statuses.append((response.status_code, response.headers.get("x-envoy-overloaded")))

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [(200, None), (200, None), (503, "true")]
        assert mesh.status()["clusters"][0]["connections_in_use"] == 0


def test_import_of_meshlib_brings_no_heavy_module():
    import subprocess

    code = "import sys, httpx; before = set(sys.modules); import meshlib; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded.replace("'", '"')) == ["meshlib", "meshlib.distribution"]


def test_a_failing_endpoint_is_ejected_and_shown_in_status(servers):
    one, two = servers
    one.behave = failing(503)
    policy = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100}}
    resources = reviews(one.port, two.port, {"route": [to("reviews")]}, **policy)
    with meshlib.Mesh.from_resources(resources, seed=3) as mesh, mesh.client() as client:
        statuses = [client.get("http://reviews:9080/").status_code for _ in range(40)]
        assert statuses.count(503) == 2
        (cluster,) = mesh.status()["clusters"]
        by_address = {e["address"]: e for e in cluster["endpoints"]}
        assert by_address[f"127.0.0.1:{one.port}"]["ejected"]
        assert by_address[f"127.0.0.1:{one.port}"]["ejected_for"] > 20
        assert cluster["events"][0]["trigger"] == "consecutive 5xx"


def test_cookies_work_as_in_any_httpx_client(runtime, servers):
    one, two = servers
    one.behave = lambda handler: handler.answer(200, b"", set_cookie="session=abc; Path=/") or True
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        with mesh.client(cookies={"mine": "1"}) as client:
            client.get("http://reviews:9080/")
            assert dict(client.cookies) == {"mine": "1", "session": "abc"}
            client.get("http://reviews:9080/")
            client.cookies = {"fresh": "2"}
            client.get("http://reviews:9080/")
    sent = [seen["headers"].get("cookie") for seen in one.seen]
    assert sent == ["mine=1", "mine=1; session=abc", "fresh=2"]


def test_a_hundred_event_loops_leave_no_trace(servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:

        async def go():
            async with mesh.async_client() as client:
                await client.get("http://reviews:9080/")

        for _ in range(100):
            asyncio.run(go())
        assert mesh._core.loops == {}

        for _ in range(3):  # only closed, as nobody should
            loop = asyncio.new_event_loop()
            loop.run_until_complete(go())
            loop.close()
        assert list(mesh._core.loops) == [loop]


def test_ever_new_hosts_do_not_grow_the_mesh(servers, monkeypatch):
    from meshlib.transport.runtimes import targets

    one, _ = servers
    monkeypatch.setattr(targets, "MAX_TARGETS", 10)
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:
        for n in range(1, 40):
            with contextlib.suppress(httpx.ConnectError):
                client.get(f"http://127.0.0.{n}:{one.port}/")
        (cluster,) = mesh._core.live.bound.values()
        assert len(cluster.targets) <= 10
        assert mesh._core.upstream.idle_connections() <= 10
