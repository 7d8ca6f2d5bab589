"""The events of a call, in their order, for both kinds of callers."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.trace import AsyncTrace, Notes, SyncTrace


def test_one_thing_at_a_time_and_a_failure_is_that_of_what_began_last():
    told = []
    trace = SyncTrace(lambda name, info: told.append((name, info)))
    trace.send_headers(b"GET", b"/x", [(b"Host", b"a")], Target("127.0.0.1", 80))
    trace.sent()
    trace.ended(Outcome(Failure.RESET, "gone"))
    trace.failed(OSError())  # nothing is under way any more
    assert [name for name, _ in told] == [
        "http11.send_request_headers.started",
        "http11.send_request_headers.complete",
        "http11.send_request_body.started",
        "http11.send_request_body.complete",
        "http11.receive_response_headers.started",
        "http11.receive_response_headers.failed",
    ]
    request = told[0][1]["request"]
    assert (request.method, request.url.target, request.headers) == (b"GET", b"/x", [(b"Host", b"a")])


def test_what_is_abandoned_is_not_told_of():
    told = []
    trace = SyncTrace(lambda name, info: told.append(name))
    trace.step("receive_response_body")
    trace.abandon()
    trace.failed(OSError())
    assert told == ["http11.receive_response_body.started"]


def test_what_blocking_clients_are_told_needs_no_waiting_for():
    async def both() -> None:
        await SyncTrace(lambda name, info: None).step("x")

    asyncio.run(both())


def test_a_coroutine_function_is_refused_where_nobody_can_wait_for_it():
    async def told(name: str, info: object) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        SyncTrace(told).step("x")


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_an_event_loop_takes_either(kind):
    told = []

    async def slowly(name: str, info: object) -> None:
        await asyncio.sleep(0)
        told.append(name)

    trace = AsyncTrace(slowly if kind == "coroutine function" else lambda name, info: told.append(name))

    async def call() -> None:
        notes = Notes()
        await notes.connecting(Target("unix:///a", 0), 1.0)
        await notes.complete()
        await notes.tell(trace)

    asyncio.run(call())
    assert told == ["connection.connect_unix_socket.started", "connection.connect_unix_socket.complete"]
