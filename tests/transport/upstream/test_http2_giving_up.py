"""HTTP/2 upstreams in both runtimes: deadlines, and callers that give up or do not read."""

from __future__ import annotations

import threading

import h2.errors
import pytest

from meshlib.engine.outcome import Failure
from tests.support.h2_runtimes import Call
from tests.support.h2_server import Peer, Request, answer_ok

CODES = h2.errors.ErrorCodes


def silent(peer: Peer, request: Request) -> None:
    """No answer, ever."""


def test_a_call_that_is_not_answered_in_time_resets_its_stream_only(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path != "/slow":
            answer_ok(peer, request)

    server, target = serve(answer)
    outcome = runtime.call(target, Call(b"/slow", limits={"head": 0.4})).outcome
    assert (outcome.failure, outcome.detail) == (Failure.TIMEOUT, "no response within 0.4 s")
    assert runtime.call(target, Call()).data == b"GET /"
    assert server.connections == 1
    assert runtime.until(lambda: server.peers[0].resets == [(1, CODES.CANCEL)])


def test_a_deadline_holds_while_the_body_waits_for_a_window(runtime, serve):
    server, target = serve(hold_windows=True)
    began = runtime.now()
    for body in (bytes(200_000), [bytes(100_000)] * 2):
        outcome = runtime.call(target, Call(method=b"POST", body=body, limits={"head": 0.4})).outcome
        assert outcome.failure is Failure.TIMEOUT
        assert "could not be sent" in outcome.detail
    assert runtime.now() - began < 60.0
    assert runtime.call(target, Call()).data == b"GET /"  # a call without a body needs no window
    assert server.connections == 1


def test_a_write_timeout_holds_while_the_body_waits_for_a_window(runtime, serve):
    _, target = serve(hold_windows=True)
    outcome = runtime.call(
        target, Call(method=b"POST", body=bytes(200_000), limits={"head": 60.0, "write": 0.1})
    ).outcome
    assert outcome.failure is Failure.WRITE_TIMEOUT


def test_a_deadline_holds_while_the_body_waits_after_an_early_head(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.head(request)

    _, target = serve(answer, hold_windows=True, early=True)
    limits = {"head": 60.0, "deadline": runtime.now() + 0.15}
    outcome = runtime.call(target, Call(method=b"POST", body=bytes(200_000), limits=limits)).outcome
    assert outcome.failure is Failure.TIMEOUT


@pytest.mark.parametrize("limit", ["read", "deadline"])
def test_a_stalled_body_is_cut_in_time(runtime, serve, limit):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/stall":
            peer.head(request)
            peer.some(request, b"half")
        else:
            answer_ok(peer, request)

    server, target = serve(answer)
    began = runtime.now()
    limits = {"read": 0.5} if limit == "read" else {"deadline": began + 0.5, "read": 120.0}
    result = runtime.call(target, Call(b"/stall", limits=limits))
    assert (result.data, result.cut.failure) == (b"half", Failure.TIMEOUT)
    assert ("read timeout" if limit == "read" else "the route's timeout") in result.cut.detail
    assert runtime.now() - began < 60.0
    assert runtime.call(target, Call()).data == b"GET /"
    assert server.connections == 1


def test_a_dropped_body_resets_its_stream_and_keeps_the_connection(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/endless":
            peer.respond(request, bytes(5_000_000))
        else:
            answer_ok(peer, request)

    server, target = serve(answer)
    for how in ("close", "forget", "forget unread"):
        outcome = runtime.send(target, Call(b"/endless"))
        if how != "forget unread":
            assert next(iter(runtime.chunks(outcome)))
        if how == "close":
            runtime.drop(outcome)
        del outcome
        assert runtime.call(target, Call()).data == b"GET /"
        assert runtime.until(lambda: server.open_streams == 0)
    assert server.connections == 1


def test_a_body_nobody_reads_holds_up_no_other_call(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.respond(request, bytes(3_000_000))

    server, target = serve(answer)
    stalled = [runtime.send(target, Call()) for _ in range(5)]
    for _ in range(10):
        assert len(runtime.call(target, Call()).data) == 3_000_000
    for outcome in stalled:
        assert sum(map(len, runtime.chunks(outcome))) == 3_000_000
    assert server.connections == 1


def test_calls_in_flight_outlive_a_timeout_of_the_one_that_reads_for_them(runtime, serve):
    """In threads, one call waits in the kernel for all: it leaves first here, several times over."""

    def answer(peer: Peer, request: Request) -> None:
        if request.path.startswith("/answer"):
            timer = threading.Timer(0.4, answer_ok, (peer, request))
            timer.daemon = True
            timer.start()

    server, target = serve(answer)
    assert runtime.call(target, Call(b"/answer-first", limits={"head": 60.0})).outcome.failure is None
    runtime.call(target, Call(b"/never", limits={"head": 0.01}))
    calls = [Call(b"/never", limits={"head": 0.02 * (number + 1)}) for number in range(10)]
    calls += [Call(b"/answer-%d" % number, limits={"head": 60.0}) for number in range(10)]
    results = runtime.many(target, calls)
    assert [result.outcome.failure for result in results] == [Failure.TIMEOUT] * 10 + [None] * 10
    assert server.connections == 1
