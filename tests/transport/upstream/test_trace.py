"""The events of a call, in their order, for both kinds of callers."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.trace import AsyncTrace, AsyncTracedBody, Notes, SyncTrace, TracedBody


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


def tracer(kind=SyncTrace):
    told: list[tuple[str, dict[str, object]]] = []
    return kind(lambda name, info: told.append((name, info))), told


def names(told) -> list[str]:
    return [name for name, _ in told]


def test_a_connection_is_told_by_where_it_goes():
    trace, told = tracer()
    trace.connecting(Target("10.0.0.1", 81), 3.0)
    trace.complete()
    trace.connecting(Target("unix:///run/a", 0), None)
    trace.complete()
    trace.starting_tls(Target("10.0.0.1", 81, server_hostname="a.test"), "context", 3.0)
    assert names(told)[::2] == [
        "connection.connect_tcp.started",
        "connection.connect_unix_socket.started",
        "connection.start_tls.started",
    ]
    assert told[0][1] == {"host": "10.0.0.1", "port": 81, "timeout": 3.0, "local_address": None, "socket_options": None}
    assert told[2][1] == {"path": "/run/a", "timeout": None}
    assert told[4][1] == {"ssl_context": "context", "server_hostname": "a.test", "timeout": 3.0}


def test_a_body_tells_of_itself():
    class Stream(list):
        def close(self):
            raise OSError("odd")

    trace, told = tracer()
    body = TracedBody(Stream([b"a", b"b"]), trace)
    assert list(body) == [b"a", b"b"]
    with pytest.raises(OSError, match="odd"):
        body.close()
    steps = [
        "receive_response_body.started",
        "receive_response_body.complete",
        "response_closed.started",
        "response_closed.failed",
    ]
    assert names(told) == [f"http11.{step}" for step in steps]


async def test_a_body_on_a_loop_that_is_left_tells_nothing_more_of_it():
    class Stream:
        async def __aiter__(self):
            yield b"a"
            yield b"b"

        async def aclose(self):
            pass

    trace, told = tracer(AsyncTrace)
    body = AsyncTracedBody(Stream(), trace)
    chunks = aiter(body)
    assert await anext(chunks) == b"a"
    await chunks.aclose()
    await body.aclose()
    steps = ["receive_response_body.started", "response_closed.started", "response_closed.complete"]
    assert names(told) == [f"http11.{step}" for step in steps]
