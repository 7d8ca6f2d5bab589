"""Mirroring: copies that never delay and never fail the call."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib.engine.wire_headers import shadow_host
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing


def resources(one: int, two: int, **rule) -> list[dict]:
    rule.setdefault("mirror", {"host": "reviews", "subset": "v2"})
    return [
        service("reviews"),
        pod("reviews", "v1", one),
        pod("reviews", "v2", two),
        destination_rule("reviews", "v1", "v2"),
        virtual_service("reviews", {"route": [to("reviews", "v1")], **rule}),
    ]


def calls(runtime: str, mesh: meshlib.Mesh, count: int = 1, method: str = "POST", **kwargs) -> list:
    if runtime == "sync":
        with mesh.client() as client:
            return [client.request(method, "http://reviews:9080/x", **kwargs) for _ in range(count)]

    async def go() -> list:
        async with mesh.async_client() as client:
            made = [await client.request(method, "http://reviews:9080/x", **kwargs) for _ in range(count)]
            async with asyncio.timeout(30):
                while len(asyncio.all_tasks()) > 1:  # copies run on this loop
                    await asyncio.sleep(0.01)
            return made

    return asyncio.run(go())


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param


@pytest.fixture
def servers():
    with EchoServer("v1") as one, EchoServer("v2") as two:
        yield one, two


def test_every_call_is_copied_with_its_body_and_a_shadow_host(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(resources(one.port, two.port)) as mesh:
        answers = calls(runtime, mesh, 5, content=b"body", headers={"x-a": "1"})
        wait_for(lambda: len(two.seen) == 5)
    assert {a.json()["server"] for a in answers} == {"v1"}
    assert {(s["headers"]["host"], s["body"], s["headers"]["x-a"]) for s in two.seen} == {
        ("reviews-shadow:9080", "body", "1")
    }
    assert {s["headers"]["host"] for s in one.seen} == {"reviews:9080"}


def test_a_streamed_body_is_copied_once_it_has_been_sent(runtime, servers):
    one, two = servers

    def chunks():
        yield b"one"
        yield b"two"

    async def async_chunks():
        yield b"one"
        yield b"two"

    with meshlib.Mesh.from_resources(resources(one.port, two.port)) as mesh:
        calls(runtime, mesh, content=chunks() if runtime == "sync" else async_chunks())
        wait_for(lambda: two.seen)
    assert two.seen[0]["body"] == one.seen[0]["body"] == "onetwo"


def test_a_slow_mirror_does_not_delay_the_call(servers):
    one, two = servers
    answered, seen = threading.Event(), []
    two.behave = lambda handler: seen.append(answered.wait(20))
    with meshlib.Mesh.from_resources(resources(one.port, two.port)) as mesh:
        assert calls("sync", mesh)[0].status_code == 200
        answered.set()
        wait_for(lambda: seen)
    assert seen == [True]  # the call was over before the mirror's answer


@pytest.mark.parametrize("broken", ["dead", "failing"])
def test_a_broken_mirror_does_not_fail_the_call(runtime, broken, servers):
    one, two = servers
    two.behave = failing(500)
    port = free_port() if broken == "dead" else two.port
    with meshlib.Mesh.from_resources(resources(one.port, port)) as mesh:
        assert [a.status_code for a in calls(runtime, mesh, 5)] == [200] * 5
        assert mesh.status()["mirrors"]["failed"] == 0


def test_a_mirror_to_nowhere_is_reported_and_ignored(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(resources(one.port, two.port, mirror={"host": "nobody"})) as mesh:
        assert [p.code for p in mesh.problems] == ["unknown-destination"]
        assert calls(runtime, mesh)[0].status_code == 200


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        ({"mirrorPercentage": {"value": 0}}, 0, 0),
        ({"mirrorPercentage": {"value": 50}}, 30, 70),
        ({"mirrorPercent": 100}, 100, 100),
        ({}, 100, 100),
    ],
)
def test_the_share_that_is_copied(servers, rule, low, high):
    one, two = servers
    with meshlib.Mesh.from_resources(resources(one.port, two.port, **rule), seed=5) as mesh:
        calls("sync", mesh, 100)
        wait_for(lambda: mesh._core.background._jobs.empty() and len(two.seen) >= low)
    assert low <= len(two.seen) <= high


def test_several_mirrors_each_get_their_copy(servers):
    one, two = servers
    rule = {"mirror": None, "mirrors": [{"destination": {"host": "reviews", "subset": v}} for v in ("v1", "v2")]}
    with meshlib.Mesh.from_resources(resources(one.port, two.port, **rule)) as mesh:
        calls("sync", mesh)
        wait_for(lambda: len(two.seen) == 1 and len(one.seen) == 2)


def test_in_flight_counts_end_with_the_copies(servers):
    one, two = servers
    with meshlib.Mesh.from_resources(resources(one.port, two.port)) as mesh:
        calls("sync", mesh, 20)
        wait_for(lambda: len(two.seen) == 20)
        wait_for(lambda: all(c["active"] == 0 for c in mesh.status()["clusters"]))


def test_the_threads_that_send_copies_end_with_the_mesh(servers):
    one, two = servers
    before = set(threading.enumerate())
    with meshlib.Mesh.from_resources(resources(one.port, two.port)) as mesh:
        calls("sync", mesh, 5)
        wait_for(lambda: len(two.seen) == 5)
        copying = [t for t in threading.enumerate() if t not in before and t.name == "meshlib-background"]
        assert copying
    wait_for(lambda: not any(thread.is_alive() for thread in copying))
    given_up: list[bool] = []
    mesh._core.background.submit(lambda: None, lambda: given_up.append(True))
    assert given_up  # nobody is there any more to run it


def test_explain_names_the_mirror():
    with meshlib.Mesh.from_resources(resources(1, 2, mirrorPercentage={"value": 12.5})) as mesh:
        assert "mirror: a copy of 12.5 % to reviews.default.svc.cluster.local/v2" in str(
            mesh.explain(url="http://reviews:9080/")
        )


@pytest.mark.parametrize(
    ("host", "shadow"), [(b"a:80", b"a-shadow:80"), (b"a", b"a-shadow"), (b"[::1]", b"[::1]-shadow")]
)
def test_the_shadow_host(host, shadow):
    assert shadow_host(host) == shadow
