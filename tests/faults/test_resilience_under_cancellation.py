"""Cancellations with every mechanism of a ResiliencePolicy armed: slots, places and trials come back."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

import meshlib
from tests.faults.referee import Backend
from tests.support.resources import destination_rule, pod, service, to, virtual_service

CALLS = 4000
HOST = "reviews.default.svc.cluster.local"
POLICY = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "all"},
    "spec": {
        "targetRefs": [{"name": "reviews"}],
        "circuitBreaker": {"failureThreshold": 1_000_000},
        "bulkhead": {"maxConcurrent": 20, "maxWaiting": 1000},
        "retryBudget": {},
        "hedging": {"delay": "1ms", "maxHedges": 2, "unsafeMethods": True},
        "adaptiveConcurrency": {"minLimit": 500},
        "deadline": {},
        "fallback": {"response": {"status": 299}},
        "loadBalancer": {"peakEwma": {}},
    },
}


@pytest.mark.fault
async def test_cancellations_with_everything_armed_leak_nothing():
    with Backend() as one, Backend() as two:
        resources = [
            service("reviews"),
            pod("reviews", "v1", one.port),
            pod("reviews", "v2", two.port),
            destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 60}}),
            virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx,reset"}}),
            POLICY,
        ]
        async with meshlib.Mesh.from_resources(resources, seed=1) as mesh, mesh.async_client() as client:
            rng = random.Random(7)
            done = cancelled = 0

            async def call(number: int, patience: float) -> None:
                nonlocal done, cancelled
                body = f"id-{number}"
                task = asyncio.create_task(client.post("http://reviews:9080/echo", content=body))
                await asyncio.wait({task}, timeout=patience)
                task.cancel()
                try:
                    response = await task
                except asyncio.CancelledError:
                    cancelled += 1
                    return
                done += 1
                assert response.status_code == 299 or response.text == body  # never somebody else's answer

            for start in range(0, CALLS, 100):
                # one in ten waits for its answer, however busy the machine is
                patience = [30.0 if n % 10 == 0 else rng.random() * 0.02 for n in range(100)]
                await asyncio.gather(*[call(start + n, seconds) for n, seconds in enumerate(patience)])
            assert cancelled > 500
            assert done > 100
            async with asyncio.timeout(60):
                response = await client.post("http://reviews:9080/echo", content=b"after the storm")
            assert response.text == "after the storm"
            guard = mesh._core.live.guards[HOST]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60):
                    while guard.active or mesh._core.live.cluster(f"outbound|9080||{HOST}").state.active:
                        await asyncio.sleep(0.01)
            state = mesh._core.live.cluster(f"outbound|9080||{HOST}").state
            assert (guard.active, guard.bulkhead.in_use, guard.bulkhead.pending) == (0, 0, 0)
            assert (state.active, state.retries_active, state.slots.in_use, state.slots.pending) == (0, 0, 0, 0)
            assert guard.counts["hedging", "hedged"] > 20


@pytest.mark.fault
@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_hedged_call_cancelled_at_any_step_leaves_the_mesh_whole(steps):
    with Backend() as backend:
        resources = [
            service("reviews"),
            pod("reviews", "v1", backend.port),
            destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 1}}),
            POLICY,
        ]
        async with meshlib.Mesh.from_resources(resources) as mesh, mesh.async_client() as client:
            task = asyncio.create_task(client.get("http://reviews:9080/"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            async with asyncio.timeout(60):
                assert (await client.get("http://reviews:9080/")).status_code == 200
