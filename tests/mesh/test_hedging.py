"""Hedging on real connections: the fast endpoint answers for the slow one, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import meshlib
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer

KEY = "outbound|9080||reviews.default.svc.cluster.local"


def policy(**hedging: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p"},
        "spec": {"targetRefs": [{"name": "reviews"}], "hedging": {"delay": "20ms", **hedging}},
    }


class Stuck:
    """An endpoint that answers only when told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.server = EchoServer("stuck", self._behave)

    def _behave(self, handler: Any) -> bool:
        self.go.wait(60)
        return False

    def __enter__(self) -> Stuck:
        self.server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.go.set()
        self.server.stop()


def resources(*ports: int, **hedging: Any) -> list[dict[str, Any]]:
    rule = destination_rule("reviews", loadBalancer={"simple": "ROUND_ROBIN"})
    return [service("reviews"), *(pod("reviews", f"v{n}", p) for n, p in enumerate(ports)), rule, policy(**hedging)]


def calls(mesh: meshlib.Mesh, kind: str, count: int) -> list[Any]:
    if kind == "threads":
        with mesh.client() as client:
            return [client.get("http://reviews:9080/") for _ in range(count)]

    async def on_a_loop() -> list[Any]:
        async with mesh.async_client() as client:
            found = [await client.get("http://reviews:9080/") for _ in range(count)]
        await mesh.aclose()
        return found

    return asyncio.run(on_a_loop())


def settled(mesh: meshlib.Mesh) -> Any:
    state = mesh._core.live.cluster(KEY).state
    until = time.monotonic() + 30
    while state.active:
        assert time.monotonic() < until, "a try was left behind"
        time.sleep(0.002)
    return state


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_every_call_is_answered_by_the_endpoint_that_is_not_stuck(kind):
    with Stuck() as stuck, EchoServer("fast") as fast:
        with meshlib.Mesh.from_resources(resources(stuck.server.port, fast.port), seed=1) as mesh:
            live = mesh._core.live
            answers = calls(mesh, kind, 8)
            assert {a.json()["server"] for a in answers} == {"fast"}
            hedged = [a for a in answers if len(a.extensions["mesh"].attempts) > 1]
            assert len(hedged) >= 3
            mesh._core.live = live  # closing the loop's client closed the mesh
            assert [e.active for e in settled(mesh).endpoints.values()] == [0, 0]


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_without_need_nothing_is_sent_twice(kind):
    with EchoServer("a") as one, EchoServer("b") as two:
        with meshlib.Mesh.from_resources(resources(one.port, two.port, delay="60s")) as mesh:
            calls(mesh, kind, 20)
        assert len(one.seen) + len(two.seen) == 20


def test_the_loser_is_broken_off_and_not_used_again():
    with Stuck() as stuck, EchoServer("fast") as fast:
        with meshlib.Mesh.from_resources(resources(stuck.server.port, fast.port), seed=1) as mesh:
            calls(mesh, "threads", 4)
            settled(mesh)
            targets = [t for t in mesh._core.upstream._idle if t.port == stuck.server.port]
            assert not any(mesh._core.upstream._idle[t] for t in targets)


def test_many_threads_hedge_at_once_and_each_call_gets_its_own_answer():
    with Stuck() as stuck, EchoServer("fast") as fast:
        with (
            meshlib.Mesh.from_resources(resources(stuck.server.port, fast.port), seed=1) as mesh,
            mesh.client() as client,
        ):
            wrong: list[Any] = []

            def work(number: int) -> None:
                for turn in range(10):
                    path = f"/{number}/{turn}"
                    if client.get(f"http://reviews:9080{path}").json()["path"] != path:
                        wrong.append(path)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert wrong == []
            settled(mesh)


def test_max_hedges_bounds_the_tries():
    with Stuck() as one, Stuck() as two, Stuck() as three, EchoServer("fast") as fast:
        ports = (one.server.port, two.server.port, three.server.port, fast.port)
        with meshlib.Mesh.from_resources(resources(*ports, maxHedges=3), seed=1) as mesh:
            answers = calls(mesh, "threads", 4)
            assert {a.json()["server"] for a in answers} == {"fast"}
            settled(mesh)
