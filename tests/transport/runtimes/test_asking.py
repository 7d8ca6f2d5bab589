"""What checks ask of the mesh's own runtimes: calls of plain requests, whole responses, others' flights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import meshlib
from meshlib.engine.call import Call
from meshlib.engine.drivers import run, run_async
from meshlib.engine.effects import Ask, Serve, Wait
from meshlib.engine.exchange import exchange_of
from meshlib.engine.flight import Flight
from meshlib.engine.outcome import Failure
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.transport.runtimes.loop import AsyncNetwork
from meshlib.transport.runtimes.threads import SyncNetwork
from meshlib.transport.upstream.client_settings import ClientSettings
from tests.support.evil_server import EvilServer
from tests.support.resources import pod, service

PIECES = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok"


@pytest.fixture(params=["threads", "asyncio"])
def drive(request: Any) -> Any:
    def on_threads(mesh: meshlib.Mesh, exchange: Any) -> Any:
        return run(exchange, SyncNetwork(mesh._core, ClientSettings()))

    def on_loop(mesh: meshlib.Mesh, exchange: Any) -> Any:
        async def main() -> Any:
            runtime = AsyncNetwork(mesh._core, ClientSettings())
            try:
                return await run_async(exchange, runtime)
            finally:
                await runtime.aclose()

        return asyncio.run(main())

    return on_threads if request.param == "threads" else on_loop


def asking(mesh: meshlib.Mesh, seen: list[Any], limit: int = 100, body: bytes | None = None) -> Iterator[Any]:
    core = mesh._core
    assert core.live is not None
    request = PlainRequest("POST" if body else "GET", "http", "reviews:9080", "/keys", {"x-a": "b"}, body=body)
    call = Call(request, core.live, core.clock, core.rng)
    call.record = route(core.live.snapshot, request)
    effect = Ask(exchange_of(call), limit)
    yield effect
    seen.append(effect.outcome)
    yield Serve()


def served(plan: list[Any]) -> tuple[EvilServer, list[dict[str, Any]]]:
    server = EvilServer(plan)
    return server, [service("reviews"), pod("reviews", "v1", server.port)]


@pytest.mark.parametrize(
    ("plan", "whole", "failure"),
    [
        ([PIECES, 0.01, b"2\r\nok\r\n0\r\n\r\n"], b"okok", None),
        ([PIECES, 0.01, b"c8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n"], None, Failure.PROTOCOL_ERROR),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b"x" * 200], None, Failure.PROTOCOL_ERROR),
        ([CUT, "close"], None, Failure.RESET),
    ],
    ids=["in pieces", "too long", "too long, all at once", "cut"],
)
def test_a_response_is_read_whole_or_is_a_failure(drive, plan, whole, failure):
    server, resources = served(plan)
    seen: list[Any] = []
    with server, meshlib.Mesh.from_resources(resources) as mesh:
        assert type(drive(mesh, asking(mesh, seen))) is Serve
        state = mesh._core.live.cluster("outbound|9080||reviews.default.svc.cluster.local").state
        assert state.active == 0
    (outcome,) = seen
    assert (outcome.whole if failure is None else None, outcome.failure) == (whole, failure)


def test_a_plain_request_is_sent_with_its_body(drive):
    server, resources = served([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
    seen: list[Any] = []
    with server, meshlib.Mesh.from_resources(resources) as mesh:
        drive(mesh, asking(mesh, seen, body=b"token=1"))
    assert seen[0].status == 200
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /keys HTTP/1.1\r\nhost: reviews:9080\r\nx-a: b\r\n")
    assert b"x-envoy-attempt-count: 1" in head


@pytest.mark.parametrize(("lands", "timeout"), [(True, None), (True, 5.0), (False, 0.05)])
def test_a_wait_ends_when_the_flight_lands_or_its_time_is_up(drive, lands, timeout):
    flight = Flight()
    landed = []

    def waiting() -> Iterator[Any]:
        effect = Wait(flight, timeout)
        if lands:
            threading.Timer(0.05, flight.land).start()
        yield effect
        landed.append(effect.landed)
        yield Serve()

    with meshlib.Mesh.from_resources([service("reviews")]) as mesh:
        drive(mesh, waiting())
    assert landed == [lands]
    assert flight._waiting == []
