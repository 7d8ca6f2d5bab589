"""Thousands of random cancellations over a pool of ten: nothing is lost, and the next call is served. Five thousand; twenty
thousand with MESHLIB_FAULTS=1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest

import meshlib
from tests.faults.referee import Backend
from tests.support.eventually import soon
from tests.support.resources import destination_rule, pod, service, to, virtual_service

CANCELLATIONS = 20_000 if os.environ.get("MESHLIB_FAULTS") else 5_000
V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.fault
async def test_thousands_of_random_cancellations_leak_nothing():
    with Backend() as backend:
        resources = [
            service("reviews"),
            pod("reviews", "v1", backend.port),
            destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 10}}),
            virtual_service(
                "reviews", {"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx,reset"}}
            ),
        ]
        # 100 calls wait for ten slots: not for longer than a busy machine takes
        async with meshlib.Mesh.from_resources(resources, seed=1) as mesh, mesh.async_client(timeout=60) as client:
            await client.get("http://reviews:9080/")
            files = open_files()
            rng = random.Random(42)
            done = cancelled = 0

            async def one(number: int, patience: float, early: bool) -> None:
                """One of twenty is never cancelled: on a busy machine all others are."""
                nonlocal done, cancelled
                body = f"id-{number}"
                task = asyncio.create_task(client.post("http://reviews:9080/echo", content=body))
                if number % 20 == 0:
                    await asyncio.wait({task})
                elif early:
                    for _ in range(int(patience * 10_000)):
                        await asyncio.sleep(0)
                else:
                    await asyncio.sleep(patience)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    response = await task
                    assert response.text == body  # never somebody else's answer
                    done += 1
                    return
                cancelled += 1

            number = 0
            while cancelled < CANCELLATIONS:
                batch = [one(number + i, rng.random() * 0.004, rng.random() < 0.5) for i in range(100)]
                number += len(batch)
                await asyncio.gather(*batch)
                assert number < 10 * CANCELLATIONS, "cancellations come too late to mean anything"
            assert done >= number // 20, "those that nobody has cancelled"
            async with asyncio.timeout(60):
                response = await client.post("http://reviews:9080/echo", content=b"after the storm")
            assert response.text == "after the storm"
            state = mesh._core.live.cluster(V1).state
            assert (state.active, state.retries_active, state.slots.in_use, state.slots.pending) == (0, 0, 0, 0)
            assert all(endpoint.active == 0 for endpoint in state.endpoints.values())
            assert await soon(lambda: open_files() <= files + 10)


@pytest.mark.fault
@pytest.mark.parametrize("steps", range(30))
async def test_a_call_cancelled_at_every_step_leaves_the_mesh_whole(steps):
    with Backend() as backend:
        resources = [
            service("reviews"),
            pod("reviews", "v1", backend.port),
            destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}}),
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


@pytest.mark.fault
async def test_bodies_dropped_half_read_give_their_slot_back():
    with Backend() as backend:
        resources = [
            service("reviews"),
            pod("reviews", "v1", backend.port),
            destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 2}}),
        ]
        async with meshlib.Mesh.from_resources(resources) as mesh, mesh.async_client() as client:
            for _ in range(50):
                async with client.stream("GET", "http://reviews:9080/big") as response:
                    async for _ in response.aiter_raw():
                        break
            async with asyncio.timeout(60):
                assert (await client.get("http://reviews:9080/")).status_code == 200
            (cluster,) = mesh.status()["clusters"]
            assert (cluster["active"], cluster["connections_in_use"]) == (0, 0)
