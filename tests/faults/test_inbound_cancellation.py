"""Requests that are served and cancelled, at every await and in every step: nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest

import meshlib
from meshlib.engine import inbound_context
from meshlib.engine.effects import Peek, Sleep
from meshlib.engine.flights import Flights
from meshlib.engine.inbound import InboundCall
from tests.support.asgi import Client, Served, ask, body, http_scope, responds

REQUESTS = 20_000 if os.environ.get("MESHLIB_FAULTS") else 4_000
"""Twenty thousand with MESHLIB_FAULTS=1."""
STEPS = 12


class Slow(Client):
    """A server that makes everything wait a turn of the loop."""

    async def receive(self):
        await asyncio.sleep(0)
        return body(b"x", more=self.reads < 2)

    async def send(self, message):
        await asyncio.sleep(0)


@pytest.mark.fault
async def test_thousands_of_cancelled_requests_leave_no_flight_no_call_and_no_count_out():
    served, flights = Served(), Flights()
    held = 0

    def holds(request):
        """A check with everything a check may wait for, that holds a place meanwhile."""
        nonlocal held
        held += 1
        try:
            yield from flights.fetch(str(len(request.path)), lambda: fetched())
            yield Peek(request.body_source, 1)
        finally:
            held -= 1

    def fetched():
        yield Sleep(0.0)
        yield Sleep(0.0)
        return None

    served.checks(holds)

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"a"})
        await asyncio.sleep(0)

    wrapped, ends = meshlib.MeshASGIMiddleware(app, served.mesh), {}

    def alive():
        gc.collect()
        return sum(type(o) is InboundCall for o in gc.get_objects())

    before = alive()
    for start in range(0, REQUESTS, 400):
        tasks = []
        for n in range(start, start + 400):
            client = Slow()
            tasks.append(asyncio.create_task(wrapped(http_scope("/" * (1 + n % 5)), client.receive, client.send)))
        await asyncio.sleep(0)  # a task that is cancelled before it has begun is nothing that we hear of
        for step in range(STEPS):
            for task in tasks[step::STEPS]:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)
        for task in tasks:
            end = "cancelled" if task.cancelled() else "ended"
            ends[end] = ends.get(end, 0) + 1
    del tasks, task, client
    assert sum(ends.values()) == REQUESTS
    assert ends["cancelled"] > REQUESTS // 2
    assert held == 0
    assert flights._under_way == {}
    assert inbound_context.current.get() is None
    counted = served.counted()  # and what was only noted when it was dropped is recorded
    assert alive() <= before, "of tests that have run here some may have gone meanwhile"
    assert len(counted) == REQUESTS, "each was counted, once"
    assert set(counted) == {("0", "DC"), ("200", "DC"), ("200", "-")}, (
        "they were cancelled before, amid and after a response"
    )
    served.checks()
    client = await ask(meshlib.MeshASGIMiddleware(responds(), served.mesh))
    assert client.status == 200
    served.mesh.close()


@pytest.mark.fault
def test_a_child_forked_after_use_and_amid_a_request_serves_by_itself():
    served = Served()

    async def app(scope, receive, send):
        if scope["path"] == "/fork":
            pid = os.fork()
            if pid == 0:
                os._exit(in_the_child())
            assert os.waitpid(pid, 0)[1] == 0
        await responds()(scope, receive, send)

    wrapped = meshlib.MeshASGIMiddleware(app, served.mesh)

    def in_the_child() -> int:
        try:
            asyncio.events._set_running_loop(None)
            served.denies()
            client = asyncio.run(ask(wrapped, http_scope("/")))
            return 0 if client.status == 403 else 1
        except BaseException:
            return 2

    assert asyncio.run(ask(wrapped)).status == 200
    assert asyncio.run(ask(wrapped, http_scope("/fork"))).status == 200
    assert served.counted() == [("200", "-")] * 2
    served.mesh.close()
