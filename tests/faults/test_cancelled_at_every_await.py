"""Requests that are served over ASGI and gRPC, and calls that are made, cancelled at each of their awaits with everything
armed, in this process and without a network: no slot, flight, gauge or call of theirs is left. Two thousand each; twenty
thousand with MESHLIB_FAULTS=1."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine import inbound_context
from meshlib.engine.effects import Peek, Sleep
from meshlib.engine.flights import Flights
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_state import BoundInbound, BoundPorts
from tests.support.asgi import Client, body, http_scope
from tests.support.fake_clock import FakeClock
from tests.support.protection import REVIEWS, protection
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.transport.grpcio.server.test_loop import Context

CANCELLED = 20_000 if os.environ.get("MESHLIB_FAULTS") else 2_000
BATCH = 100
STEPS = 14
"""Turns of the loop after which a batch is cancelled: more than any of these requests takes."""
ARMED = protection(
    maxConcurrent=10 * BATCH,
    adaptiveConcurrency={"minLimit": 10 * BATCH, "maxLimit": 20 * BATCH},
    rateLimits=[{"requests": 10_000_000}, {"requests": 10_000_000, "key": "remoteIp"}],
    loadShedding={"maxLag": "1h", "maxQueueTime": "1h"},
    deadline={"default": "1h"},
    maxBodyBytes=1000,
)


class Armed:
    """A mesh whose server holds whatever can be held, in a check that waits for what checks can wait for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources([ARMED], workload=REVIEWS, clock=FakeClock(), registry=self.registry)
        self.flights, self.held = Flights(), 0
        live = self.mesh._core.live
        bound = live.inbound.default
        live.inbound = BoundPorts(BoundInbound(bound.settings, (self.holds, *bound.checks), bound.admission))
        assert bound.admission is not None

    def holds(self, request: Any) -> Any:
        self.held += 1
        try:
            yield from self.flights.fetch(str(len(request.path)), self.fetched)
            if request.body_source is not None:
                yield Peek(request.body_source, 1)
        finally:
            self.held -= 1

    def fetched(self) -> Any:
        yield Sleep(0.0)
        yield Sleep(0.0)
        return None

    def counted(self) -> dict[tuple[str, ...], float]:
        names = ("response_code", "grpc_response_status", "response_flags")
        return {
            tuple(sample.labels[name] for name in names): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "istio_requests_total"
        }


async def cancelled(begin: Callable[[int], Awaitable[Any]]) -> tuple[int, int]:
    """So many, a batch after each number of turns: how many had ended before, and how many were cancelled."""
    ends = [0, 0]
    for batch in range(CANCELLED // BATCH):
        tasks = [asyncio.ensure_future(begin(n)) for n in range(BATCH)]
        for _ in range(1 + batch % STEPS):  # a task that is cancelled before it has begun is nothing that we hear of
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            ends[isinstance(end, asyncio.CancelledError)] += 1
            assert end is None or isinstance(end, (asyncio.CancelledError, str, httpx.Response)), repr(end)
    for _ in range(STEPS):  # what the loop is still to call for those that it has cancelled
        await asyncio.sleep(0)
    return ends[0], ends[1]


def alive() -> int:
    gc.collect()
    return sum(type(each) is InboundCall for each in gc.get_objects())


def nothing_is_left(armed: Armed, before: int, ended: int, lost: int) -> None:
    assert ended + lost == CANCELLED
    assert min(ended, lost) > CANCELLED // 20, "they were cancelled at all their awaits, and some had ended"
    assert armed.held == 0
    assert armed.flights._under_way == {}
    assert inbound_context.current.get() is None
    status = armed.mesh._core.inbound.protection.status()
    assert (status["active"], status["counts"]) == (0, {})
    counts = armed.counted()
    assert sum(counts.values()) == CANCELLED, "each was counted, once"
    assert alive() <= before, "of tests that have run here some may have gone meanwhile"


@pytest.mark.fault
async def test_asgi_requests_leave_nothing_wherever_they_are_cancelled():
    armed = Armed()

    class Slow(Client):
        async def receive(self) -> Any:
            await asyncio.sleep(0)
            return body(b"x", more=self.reads < 2)

        async def send(self, message: Any) -> None:
            await asyncio.sleep(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"a"})

    wrapped = meshlib.MeshASGIMiddleware(app, armed.mesh)

    async def begin(number: int) -> None:
        client = Slow()
        await wrapped(http_scope("/" * (1 + number % 5)), client.receive, client.send)

    before = alive()
    ended, lost = await cancelled(begin)
    nothing_is_left(armed, before, ended, lost)
    assert {flags for _, _, flags in armed.counted()} == {"-", "DC"}
    await armed.mesh.aclose()


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["one response", "a stream"])
async def test_grpc_calls_leave_nothing_wherever_they_are_cancelled(kind):
    armed = Armed()

    async def one(request: str, context: Any) -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return request

    async def several(request: str, context: Any) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
            yield request

    handler = (
        grpc.unary_unary_rpc_method_handler(one)
        if kind == "one response"
        else grpc.unary_stream_rpc_method_handler(several)
    )
    [interceptor] = armed.mesh.aio_grpc_server_interceptors()

    async def find(_details: Any) -> Any:
        return handler

    async def begin(number: int) -> str:
        method = f"/shop.Ratings/{'Get' * (1 + number % 5)}"
        made = await interceptor.intercept_service(find, SimpleNamespace(method=method))  # type: ignore[arg-type]
        if kind == "one response":
            return str(await made.unary_unary("a", Context()))
        responses = made.unary_stream("a", Context())
        try:
            async for _ in responses:
                await asyncio.sleep(0)
        finally:
            await responses.aclose()  # as grpcio does
        return "a"

    before = alive()
    ended, lost = await cancelled(begin)
    nothing_is_left(armed, before, ended, lost)
    assert {flags for _, _, flags in armed.counted()} == {"-", "DR"}
    await armed.mesh.aclose()


@pytest.mark.fault
async def test_calls_that_are_made_leave_nothing_wherever_they_are_cancelled():
    async def responds(request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            await asyncio.sleep(0)
        return httpx.Response(503 if request.url.path == "/broken" else 200, text="a")

    pool = {
        "tcp": {"maxConnections": BATCH // 2},
        "http": {"http2MaxRequests": 2 * BATCH, "http1MaxPendingRequests": 10 * BATCH},
    }
    resources = [
        service("reviews"),
        pod("reviews", "v1", 1),
        destination_rule("reviews", "v1", connectionPool=pool),
        virtual_service("reviews", {"route": [to("reviews", "v1")], "retries": {"attempts": 2, "retryOn": "5xx"}}),
    ]
    registry = CollectorRegistry()
    async with meshlib.Mesh.from_resources(resources, clock=FakeClock(), registry=registry) as mesh:
        transport = mesh.async_http_transport(httpx.MockTransport(responds))
        # no timeout: each backoff before a retry moves the clock of all
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:

            async def begin(number: int) -> httpx.Response:
                return await client.get(f"http://reviews:9080/{'broken' if number % 3 == 0 else ''}")

            ended, lost = await cancelled(begin)
            assert ended + lost == CANCELLED
            assert min(ended, lost) > CANCELLED // 20
            live = mesh._core.live
            state = live.cluster("outbound|9080|v1|reviews.default.svc.cluster.local").state
            assert (state.active, state.retries_active, state.slots.in_use, state.slots.pending) == (0, 0, 0, 0)
            assert all(endpoint.active == 0 for endpoint in state.endpoints.values())
            assert (await client.get("http://reviews:9080/")).status_code == 200
