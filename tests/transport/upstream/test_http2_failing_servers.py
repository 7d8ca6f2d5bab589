"""HTTP/2 upstreams in both runtimes: servers that refuse, reset, go away and die."""

from __future__ import annotations

import threading

import h2.errors
import pytest
from hyperframe.frame import DataFrame, PingFrame

from meshlib.engine.outcome import Failure
from tests.support.h2_runtimes import Call
from tests.support.h2_server import SETTINGS, Peer, Request, answer_ok

CODES = h2.errors.ErrorCodes


def test_a_refused_stream_is_refused_and_the_connection_stays(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        (peer.refuse if request.path == "/no" else lambda r: answer_ok(peer, r))(request)

    server, target = serve(answer)
    outcome = runtime.call(target, Call(b"/no")).outcome
    assert (outcome.failure, outcome.stale) == (Failure.REFUSED, False)
    assert runtime.call(target, Call(b"/yes")).data == b"GET /yes"
    assert server.connections == 1


def test_a_reset_stream_is_reset_and_the_connection_stays(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/late":
            peer.head(request)
            peer.some(request, b"part")
        if request.path != "/ok":
            peer.reset(request)
        else:
            answer_ok(peer, request)

    server, target = serve(answer)
    outcome = runtime.call(target, Call(b"/early")).outcome
    assert (outcome.failure, outcome.stale) == (Failure.RESET, False)
    assert "INTERNAL_ERROR" in outcome.detail
    late = runtime.call(target, Call(b"/late"))
    assert (late.outcome.status, late.cut.failure) == (200, Failure.RESET)
    assert runtime.call(target, Call(b"/ok")).outcome.status == 200
    assert server.connections == 1


def test_goaway_under_load_loses_no_call_that_may_be_sent_again(runtime, serve):
    """Each connection says GOAWAY after its fifth request, having answered the first four; what is above is stale."""
    counts: dict[Peer, int] = {}

    def answer(peer: Peer, request: Request) -> None:
        count = counts[peer] = counts.get(peer, 0) + 1
        if count == 5:
            peer.goaway(request.stream - 2)
        if count < 5:
            answer_ok(peer, request)

    server, target = serve(answer)
    left = [Call(b"/%d" % number) for number in range(60)]
    rounds = 0
    while left:
        results = runtime.many(target, left)
        again = []
        for call, result in zip(left, results, strict=True):
            if result.outcome.failure is None:
                assert result.data == b"GET " + call.path
            else:
                assert (result.outcome.failure, result.outcome.stale) == (Failure.REFUSED, True), result.outcome.detail
                again.append(call)
        left = again
        rounds += 1
        assert rounds < 40
    # nothing that was answered was sent twice, nothing that was refused was taken for answered
    assert runtime.until(
        lambda: not [peer for peer in server.peers if peer.h2.open_inbound_streams == 0 and peer.goodbye]
    )


def test_streams_below_goaway_finish_and_then_the_connection_closes(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/first":
            peer.head(request)
            peer.some(request, b"one ")
            peer.goaway(request.stream)
            peer.data(request, b"two")
        else:
            answer_ok(peer, request)

    server, target = serve(answer)
    result = runtime.call(target, Call(b"/first"))
    assert (result.data, result.cut) == (b"one two", None)
    assert runtime.until(lambda: not server.peers)
    assert runtime.call(target, Call(b"/second")).data == b"GET /second"
    assert server.connections == 2


def test_a_connection_that_went_away_while_idle_is_not_used(runtime, serve):
    server, target = serve()
    runtime.call(target, Call())
    server.peers[0].goaway(0)
    runtime.settle()
    assert runtime.call(target, Call(method=b"POST", body=b"once")).data == b"POST /"
    server.peers[-1].close()
    runtime.until(lambda: not server.peers)
    runtime.settle()
    assert runtime.call(target, Call(method=b"POST", body=b"once")).data == b"POST /"
    assert server.connections == 3


@pytest.mark.parametrize("others", [0, 3])
def test_a_body_goes_on_when_a_server_that_did_not_read_does_again(runtime, serve, others):
    """The server gives windows so large that it never says anything: only room in the socket lets the body go on, and
    in threads it is one of the others that waits in the kernel."""
    go_on = threading.Event()

    def pause(peer: Peer) -> None:
        peer.h2.increment_flow_control_window(2**30)
        peer.flush()
        go_on.wait(60)

    def answer(peer: Peer, request: Request) -> None:
        if request.body:
            for waiting in peer.requests.values():
                answer_ok(peer, waiting)

    server, target = serve(
        answer, on_connect=pause, hold_windows=True, settings={SETTINGS.INITIAL_WINDOW_SIZE: 2**31 - 1}
    )
    timer = threading.Timer(0.3, go_on.set)
    timer.start()
    calls = [Call(b"/%d" % number, limits={"head": 60.0}) for number in range(others)]
    calls.append(Call(b"/up", method=b"POST", body=bytes(20_000_000), limits={"head": 60.0}))
    results = runtime.many(target, calls)
    timer.join(60)
    assert [result.outcome.status for result in results] == [200] * len(calls)
    assert max(len(request.body) for request in server.requests) == 20_000_000


def test_an_idle_connection_answers_a_ping_before_its_next_use(runtime, serve):
    server, target = serve()
    runtime.call(target, Call())
    (peer,) = server.peers
    with peer.lock:
        peer.h2.ping(b"12345678")
        peer.flush()
    runtime.settle()
    runtime.call(target, Call())
    assert runtime.until(lambda: peer.pings == 1)


def test_a_connection_that_went_while_nobody_read_it_gets_no_further_request(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/half":
            peer.head(request)
            peer.some(request, b"x")
        else:
            answer_ok(peer, request)

    server, target = serve(answer)
    half = runtime.send(target, Call(b"/half"))  # a caller that takes its time with the rest
    (peer,) = server.peers
    peer.close()
    assert runtime.until(lambda: not server.peers)
    runtime.settle()
    post = runtime.call(target, Call(b"/post", b"POST", body=b"once"))
    assert (post.outcome.failure, post.data) == (None, b"POST /post")
    assert server.connections == 2
    runtime.drop(half)


def test_a_connection_whose_server_said_something_before_it_went_gets_no_further_request(runtime, serve):
    server, target = serve()
    runtime.call(target, Call())
    (peer,) = server.peers
    peer.frames(PingFrame(0, b"12345678"))
    peer.close()
    assert runtime.until(lambda: not server.peers)
    runtime.settle()
    post = runtime.call(target, Call(b"/post", b"POST", body=b"once"))
    assert (post.outcome.failure, post.data) == (None, b"POST /post")
    assert server.connections == 2


def test_a_connection_lost_before_any_answer_is_stale_only_when_reused(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path == "/die":
            peer.close()
        else:
            answer_ok(peer, request)

    _, target = serve(answer)
    first = runtime.call(target, Call(b"/die")).outcome
    assert (first.failure, first.stale) == (Failure.RESET, False)
    runtime.call(target, Call(b"/ok"))
    second = runtime.call(target, Call(b"/die")).outcome
    assert (second.failure, second.stale) == (Failure.RESET, True)


@pytest.mark.parametrize("end", [Peer.close, Peer.kill])
def test_a_server_that_dies_in_mid_stream_fails_all_its_calls(runtime, serve, end):
    lock, seen = threading.Lock(), []

    def answer(peer: Peer, request: Request) -> None:
        peer.head(request)
        peer.some(request, b"part")
        with lock:
            seen.append(request)
            last = len(seen) == 20
        if last:
            end(peer)

    server, target = serve(answer)
    results = runtime.many(target, [Call() for _ in range(20)])
    for result in results:
        failure = result.outcome.failure or result.cut.failure
        assert failure is Failure.RESET
    server.answer = answer_ok
    assert runtime.call(target, Call()).data == b"GET /"


def test_garbage_from_the_server_fails_all_its_calls_with_a_protocol_error(runtime, serve):
    lock, seen = threading.Lock(), []

    def answer(peer: Peer, request: Request) -> None:
        with lock:
            seen.append(request)
            last = len(seen) == 10
        if last:
            peer.frames(DataFrame(99, b"nobody asked"))

    server, target = serve(answer)
    results = runtime.many(target, [Call() for _ in range(10)])
    assert {result.outcome.failure for result in results} == {Failure.PROTOCOL_ERROR}
    server.answer = answer_ok
    assert runtime.call(target, Call()).data == b"GET /"


def test_a_flood_of_pings_ends_the_connection(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.frames(*[PingFrame(0, b"12345678")] * 30_000)

    _, target = serve(answer)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.PROTOCOL_ERROR
    assert "flood" in outcome.detail.lower()
