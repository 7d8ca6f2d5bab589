"""HTTP/2 upstreams in both runtimes, against a real server on loopback that does what the test says."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import os
import ssl
import sys
import threading

import h2.errors
import pytest
import trustme
from hyperframe.frame import DataFrame, PingFrame

from benchmarks.free_ports import free_port
from meshlib.engine.outcome import Failure
from meshlib.transport.protocol import http2
from meshlib.transport.upstream import http2_loop_connection, http2_threads, http2_threads_wire
from meshlib.transport.upstream.target import Target
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import SETTINGS, H2Server, Peer, Request, answer_ok
from tests.support.http2_codecs import CODECS, sessions_on

CODES = h2.errors.ErrorCodes


@pytest.fixture(
    params=[(runtime, name) for name in CODECS for runtime in (Threads, Loop)], ids=lambda p: f"{p[0].name}-{p[1]}"
)
def runtime(request):
    kind, library = request.param
    with sessions_on(library):
        made = kind()
        yield made
        made.close()


@pytest.fixture
def serve(runtime):
    """A server and the target to reach it by."""
    servers = []

    def start(answer=answer_ok, target=None, **options):
        server = H2Server(answer, **options).__enter__()
        servers.append(server)
        return server, Target("127.0.0.1", server.port, **{"http2": True, **(target or {})})

    yield start
    runtime.close()
    for server in servers:
        server.__exit__()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_call_is_answered_over_http2(runtime, serve):
    server, target = serve(lambda peer, request: peer.respond(request, b"hello", 201, [(b"x-a", b"1"), (b"x-a", b"2")]))
    result = runtime.call(target, Call(b"/a?b", headers=[(b"X-B", b"2"), (b"Transfer-Encoding", b"chunked")]))
    assert (result.outcome.status, result.data, result.outcome.http_version) == (201, b"hello", b"HTTP/2")
    assert result.outcome.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert server.requests[0].headers == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"reviews:9080"),
        (b":path", b"/a?b"),
        (b"x-b", b"2"),
    ]


def test_a_body_in_thousands_of_small_frames_arrives_whole_though_the_server_closes_at_once(runtime, serve):
    frame = b"\x00\x00\x14\x00\x00\x00\x00\x00\x01" + b"twenty bytes of data"
    last = b"\x00\x00\x00\x00\x01\x00\x00\x00\x01"

    def answer(peer, request):
        peer.h2.send_headers(request.stream, [(b":status", b"200")])
        peer.raw(frame * 6000 + last)
        peer.close()

    _, target = serve(answer)
    result = runtime.call(target, Call())
    assert (result.cut, len(result.data)) == (None, 6000 * 20)


def test_calls_share_one_connection_one_after_the_other(runtime, serve):
    server, target = serve()
    for number in range(20):
        assert runtime.call(target, Call(b"/%d" % number)).data == b"GET /%d" % number
    assert server.connections == 1
    assert runtime.upstream.idle_connections() == 1


def test_two_hundred_calls_at_once_share_one_connection(runtime, serve):
    held: list[tuple[Peer, Request]] = []

    def answer(peer: Peer, request: Request) -> None:
        held.append((peer, request))
        if len(held) == 200:  # all of them are under way: answer in reverse
            for one, waiting in reversed(held):
                answer_ok(one, waiting)

    server, target = serve(answer)
    results = runtime.many(target, [Call(b"/%d" % number) for number in range(200)])
    assert [result.data for result in results] == [b"GET /%d" % number for number in range(200)]
    assert (server.connections, server.most) == (1, 200)


def test_whole_and_streamed_request_bodies_arrive(runtime, serve):
    server, target = serve()
    for body in (b"x" * 200_000, [b"a" * 1000, b"b" * 100_000, b"c"], [b""], [], b""):
        assert runtime.call(target, Call(method=b"POST", body=body)).data == b"POST /"
        assert server.requests[-1].body == (body if isinstance(body, bytes) else b"".join(body))


def test_a_megabyte_goes_up_and_down_through_windows_of_64_kilobytes(runtime, serve, monkeypatch):
    def session(*args, **kwargs):
        return http2.Http2Session(*args, stream_window=65_535, connection_window=65_535, **kwargs)

    monkeypatch.setattr(http2_threads_wire, "Http2Session", session)
    monkeypatch.setattr(http2_loop_connection, "Http2Session", session)
    data = bytes(i % 251 for i in range(1_000_000))
    server, target = serve(lambda peer, request: peer.respond(request, bytes(request.body)))
    for body in (data, [data[at : at + 70_000] for at in range(0, len(data), 70_000)]):
        result = runtime.call(target, Call(method=b"POST", body=body))
        assert server.requests[-1].body == data
        assert result.data == data
    results = runtime.many(target, [Call(method=b"POST", body=data) for _ in range(8)])
    assert all(result.data == data for result in results)
    assert server.connections == 1


def test_trailers_are_reachable_after_the_body(runtime, serve):
    trailers = [(b"grpc-status", b"0"), (b"grpc-message", b"fine")]

    def answer(peer: Peer, request: Request) -> None:
        peer.respond(request, bytes(200_000 if request.path == "/big" else 2), trailers=trailers)

    _, target = serve(answer)
    for path in (b"/big", b"/small"):
        result = runtime.call(target, Call(path))
        assert result.outcome.trailers == trailers


def test_an_answer_to_head_has_no_body(runtime, serve):
    _, target = serve(lambda peer, request: peer.respond(request, b"", headers=[(b"content-length", b"5000")]))
    result = runtime.call(target, Call(method=b"HEAD"))
    assert (result.outcome.whole, result.outcome.headers) == (b"", [(b"content-length", b"5000")])


def test_interim_answers_are_passed_over(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.head(request, 103, [(b"link", b"</x>")])
        answer_ok(peer, request)

    _, target = serve(answer)
    result = runtime.call(target, Call())
    assert (result.outcome.status, result.outcome.headers, result.data) == (200, [], b"GET /")


def test_expect_100_continue_waits_for_the_servers_word(runtime, serve):
    seen = []

    def answer(peer: Peer, request: Request) -> None:
        seen.append(bytes(request.body))
        peer.head(request, 100)
        seen.append(request)

        def later() -> None:
            if runtime_until(lambda: request.ended):
                peer.respond(request, bytes(request.body))

        threading.Thread(target=later, daemon=True).start()

    waiting = threading.Event()

    def runtime_until(condition) -> bool:
        for _ in range(2000):
            if condition():
                return True
            waiting.wait(0.002)
        return False

    _, target = serve(answer, early=True)
    result = runtime.call(target, Call(method=b"POST", body=b"body", headers=[(b"Expect", b"100-continue")]))
    assert (result.data, seen[0]) == (b"body", b"")


def test_expect_100_continue_takes_a_final_answer_without_sending_the_body(runtime, serve):
    server, target = serve(lambda peer, request: peer.respond(request, b"", 401), early=True)
    result = runtime.call(target, Call(method=b"POST", body=b"secret", headers=[(b"Expect", b"100-continue")]))
    assert result.outcome.status == 401
    assert runtime.call(target, Call(b"/next")).outcome.status == 401
    assert server.requests[0].body == b""
    assert server.connections == 1


def test_an_early_answer_ends_the_upload_and_keeps_the_connection(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.respond(request, b"too large", 413)

    server, target = serve(answer, early=True, hold_windows=True)
    result = runtime.call(target, Call(method=b"POST", body=[b"x" * 50_000] * 20))
    assert (result.outcome.status, result.data) == (413, b"too large")
    assert runtime.call(target, Call()).outcome.status == 413
    assert server.connections == 1


def test_a_failing_request_body_resets_its_stream_only(runtime, serve):
    class Broken(Exception):
        pass

    class Pieces:
        def __iter__(self):
            yield b"one"
            raise Broken

    server, target = serve()
    result = runtime.call(target, Call(method=b"POST", body=Pieces()))
    assert result.outcome.failure is Failure.REQUEST_BODY_FAILED
    assert isinstance(result.outcome.error, Broken)
    assert runtime.call(target, Call()).data == b"GET /"
    assert server.connections == 1
    assert server.peers[0].resets == [(1, CODES.CANCEL)]


def test_a_request_that_cannot_be_written_is_refused_before_anything_is_sent(runtime, serve):
    server, target = serve()
    result = runtime.call(target, Call(headers=[(b"x", b"a\r\nb: c")]))
    assert result.outcome.failure is Failure.INVALID_REQUEST
    assert server.connections == 0


# -- how many streams and connections -----------------------------------------------------------------------------------


def hold(count: int):
    """Answers when ``count`` requests are there."""
    held: list[tuple[Peer, Request]] = []
    lock = threading.Lock()

    def answer(peer: Peer, request: Request) -> None:
        with lock:
            held.append((peer, request))
            full = len(held) == count
        if full:
            for one, waiting in held:
                answer_ok(one, waiting)
            held.clear()

    return answer


def test_a_second_connection_is_made_when_the_servers_limit_is_reached(runtime, serve):
    server, target = serve(hold(25), settings={SETTINGS.MAX_CONCURRENT_STREAMS: 10})
    results = runtime.many(target, [Call(b"/%d" % number) for number in range(25)])
    assert all(result.outcome.status == 200 for result in results)
    assert (server.connections, server.most) == (3, 10)


def test_a_second_connection_is_made_when_our_own_limit_is_reached(runtime, serve):
    server, target = serve(hold(9), target={"max_concurrent_streams": 3})
    results = runtime.many(target, [Call(b"/%d" % number) for number in range(9)])
    assert all(result.outcome.status == 200 for result in results)
    assert (server.connections, server.most) == (3, 3)


def test_a_server_that_allows_no_stream_refuses(runtime, serve):
    server, target = serve(settings={SETTINGS.MAX_CONCURRENT_STREAMS: 0})
    for _ in range(3):
        outcome = runtime.call(target, Call()).outcome
        assert outcome.failure is Failure.REFUSED
        assert "MAX_CONCURRENT_STREAMS" in outcome.detail
    assert runtime.until(lambda: not server.peers)  # and no connection is kept for that


def test_max_requests_counts_streams(runtime, serve):
    server, target = serve(target={"max_requests": 3})
    for number in range(9):
        assert runtime.call(target, Call(b"/%d" % number)).outcome.status == 200
    assert server.connections == 3
    assert runtime.until(lambda: not server.peers)


def test_a_connection_that_has_carried_its_share_lets_its_streams_finish(runtime, serve):
    server, target = serve(hold(6), target={"max_requests": 2})
    results = runtime.many(target, [Call(b"/%d" % number) for number in range(6)])
    assert all(result.outcome.status == 200 for result in results)
    assert server.connections == 3
    assert runtime.until(lambda: not server.peers)


def test_an_old_connection_is_replaced(runtime, serve):
    server, target = serve(target={"max_duration": 1.0})
    assert runtime.call(target, Call()).outcome.status == 200
    past = runtime.now() + 1.1
    runtime.until(lambda: runtime.now() > past)
    assert runtime.call(target, Call()).outcome.status == 200
    assert server.connections == 2
    assert runtime.until(lambda: len(server.peers) <= 1)  # the second may be too old by now, too


def test_a_connection_that_was_idle_too_long_is_not_used(runtime, serve):
    server, target = serve(target={"idle_timeout": 0.05})
    assert runtime.call(target, Call()).outcome.status == 200
    past = runtime.now() + 0.06
    runtime.until(lambda: runtime.now() > past)
    assert runtime.call(target, Call()).outcome.status == 200
    assert server.connections == 2
    assert runtime.until(lambda: len(server.peers) == 1)


def test_what_a_burst_has_left_behind_goes_away(runtime, serve, monkeypatch):
    monkeypatch.setattr(http2_threads, "SWEEP_SECONDS", 0.0)
    server, target = serve(hold(4), target={"max_concurrent_streams": 1, "idle_timeout": 0.2})
    runtime.many(target, [Call() for _ in range(4)])
    assert len(server.peers) == 4
    server.answer = answer_ok

    def one_is_left() -> bool:
        assert runtime.send(target, Call()).status == 200
        return len(server.peers) == 1

    if runtime.name == "threads":
        assert runtime.until(one_is_left)
    else:
        assert runtime.until(lambda: not server.peers)


def test_closing_tells_the_server_goodbye(runtime, serve):
    server, target = serve()
    runtime.call(target, Call())
    (peer,) = server.peers
    runtime.close()
    threading.Event().wait(0.05)
    assert peer.goodbye is not None
    assert not server.peers


def test_open_files_do_not_grow_with_connections(runtime, serve):
    server, target = serve(target={"max_requests": 1})
    runtime.call(target, Call())
    runtime.until(lambda: not server.peers)
    before = open_files()
    for _ in range(30):
        assert runtime.call(target, Call()).outcome.status == 200
    runtime.until(lambda: not server.peers)
    assert open_files() <= before + 2
    assert runtime.until(lambda: not runtime.upstream._http2._open)


# -- connecting -------------------------------------------------------------------------------------------------------


def test_nobody_listening_is_connect_failed_for_all_that_wait(runtime):
    port = free_port()
    results = runtime.many(Target("127.0.0.1", port, http2=True), [Call() for _ in range(20)])
    assert {result.outcome.failure for result in results} == {Failure.CONNECT_FAILED}


def test_a_server_that_says_nothing_is_connect_timeout_for_all_that_wait(runtime, serve):
    server, target = serve(greeting=b"", target={"connect_timeout": 0.15})
    began = runtime.now()
    results = runtime.many(target, [Call() for _ in range(20)])
    assert {result.outcome.failure for result in results} == {Failure.CONNECT_TIMEOUT}
    assert runtime.now() - began < 1.0
    assert server.connections == 1


def test_a_call_in_a_hurry_does_not_wait_for_the_connect_timeout(runtime, serve):
    _, target = serve(greeting=b"", target={"connect_timeout": 5.0})
    began = runtime.now()
    assert runtime.call(target, Call(limits={"head": 0.1})).outcome.failure is Failure.TIMEOUT
    assert runtime.call(target, Call(limits={"connect": 0.1})).outcome.failure is Failure.CONNECT_TIMEOUT
    assert runtime.now() - began < 1.0


def test_a_server_of_http1_is_a_protocol_error(runtime):
    with EvilServer([OK]) as server:
        outcome = runtime.call(Target("127.0.0.1", server.port, http2=True), Call()).outcome
        assert outcome.failure is Failure.PROTOCOL_ERROR
        assert "HTTP/1" in outcome.detail
        runtime.settle()


def test_a_server_that_closes_at_once_is_connect_failed(runtime, serve):
    _, target = serve(on_connect=Peer.close, greeting=b"")
    assert runtime.call(target, Call()).outcome.failure is Failure.CONNECT_FAILED


def test_those_that_wait_for_a_connection_that_fails_do_not_try_it_again_one_by_one(runtime, serve):
    def hesitate(peer: Peer) -> None:
        threading.Event().wait(0.3)
        peer.close()

    server, target = serve(on_connect=hesitate, greeting=b"")
    results = runtime.many(target, [Call() for _ in range(10)])
    assert {result.outcome.failure for result in results} == {Failure.CONNECT_FAILED}
    assert server.connections == 1


def test_a_server_that_goes_away_as_it_greets_is_connect_failed(runtime, serve):
    server, target = serve(on_connect=lambda peer: peer.goaway(0))
    outcomes = {runtime.call(target, Call()).outcome.failure for _ in range(3)}
    assert outcomes <= {Failure.CONNECT_FAILED, Failure.RESET, Failure.REFUSED}
    assert server.connections <= 3


def test_without_any_library_the_outcome_says_what_to_install(runtime, serve, monkeypatch):
    real_import = builtins.__import__

    def no_h2(name, *args, **kwargs):
        if name.partition(".")[0] in ("h2", "hpack", "ngh2"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    for name in list(sys.modules):
        if name.startswith(("meshlib.transport.protocol.http2", "meshlib.transport.upstream.http2")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_h2)
    server, target = serve()
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "pip install 'sidecarless[http2]'" in outcome.detail
    assert server.connections == 0


# -- failures ---------------------------------------------------------------------------------------------------------


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
        go_on.wait(10)

    def answer(peer: Peer, request: Request) -> None:
        if request.body:
            for waiting in peer.requests.values():
                answer_ok(peer, waiting)

    server, target = serve(
        answer, on_connect=pause, hold_windows=True, settings={SETTINGS.INITIAL_WINDOW_SIZE: 2**31 - 1}
    )
    timer = threading.Timer(0.3, go_on.set)
    timer.start()
    calls = [Call(b"/%d" % number, limits={"head": 8.0}) for number in range(others)]
    calls.append(Call(b"/up", method=b"POST", body=bytes(20_000_000), limits={"head": 8.0}))
    results = runtime.many(target, calls)
    timer.join()
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


# -- time and giving up -------------------------------------------------------------------------------------------------


def silent(peer: Peer, request: Request) -> None:
    """No answer, ever."""


def test_a_call_that_is_not_answered_in_time_resets_its_stream_only(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        if request.path != "/slow":
            answer_ok(peer, request)

    server, target = serve(answer)
    outcome = runtime.call(target, Call(b"/slow", limits={"head": 0.1})).outcome
    assert (outcome.failure, outcome.detail) == (Failure.TIMEOUT, "no response within 0.1 s")
    assert runtime.call(target, Call()).data == b"GET /"
    assert server.connections == 1
    assert runtime.until(lambda: server.peers[0].resets == [(1, CODES.CANCEL)])


def test_a_deadline_holds_while_the_body_waits_for_a_window(runtime, serve):
    server, target = serve(hold_windows=True)
    began = runtime.now()
    for body in (bytes(200_000), [bytes(100_000)] * 2):
        outcome = runtime.call(target, Call(method=b"POST", body=body, limits={"head": 0.1})).outcome
        assert outcome.failure is Failure.TIMEOUT
        assert "could not be sent" in outcome.detail
    assert runtime.now() - began < 1.0
    assert runtime.call(target, Call()).data == b"GET /"  # a call without a body needs no window
    assert server.connections == 1


def test_a_write_timeout_holds_while_the_body_waits_for_a_window(runtime, serve):
    _, target = serve(hold_windows=True)
    outcome = runtime.call(
        target, Call(method=b"POST", body=bytes(200_000), limits={"head": 5.0, "write": 0.1})
    ).outcome
    assert outcome.failure is Failure.WRITE_TIMEOUT


def test_a_deadline_holds_while_the_body_waits_after_an_early_head(runtime, serve):
    def answer(peer: Peer, request: Request) -> None:
        peer.head(request)

    _, target = serve(answer, hold_windows=True, early=True)
    limits = {"head": 5.0, "deadline": runtime.now() + 0.15}
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
    limits = {"read": 0.15} if limit == "read" else {"deadline": began + 0.15, "read": 5.0}
    result = runtime.call(target, Call(b"/stall", limits=limits))
    assert (result.data, result.cut.failure) == (b"half", Failure.TIMEOUT)
    assert ("read timeout" if limit == "read" else "the route's timeout") in result.cut.detail
    assert runtime.now() - began < 1.0
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


# -- runtimes of their own --------------------------------------------------------------------------------------------------


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(authority, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("reviews.test").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def client_context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_over_tls_http2_is_negotiated(runtime, serve, authority, client_context):
    tls = {"tls": client_context, "server_hostname": "reviews.test"}
    server, target = serve(tls=server_context(authority, "h2", "http/1.1"), target=tls)
    data = bytes(i % 251 for i in range(500_000))
    server.answer = lambda peer, request: peer.respond(request, bytes(request.body))
    results = runtime.many(target, [Call(method=b"POST", body=data) for _ in range(20)])
    assert all(result.data == data for result in results)
    assert results[0].outcome.http_version == b"HTTP/2"
    assert server.connections == 1
    assert server.requests[0].header(b":scheme") == b"https"


@pytest.mark.parametrize("protocols", [("http/1.1",), ()])
def test_a_server_that_chooses_http1_is_spoken_to_in_http1(runtime, authority, client_context, protocols):
    with EvilServer([OK], tls=server_context(authority, *protocols)) as server:
        target = Target("127.0.0.1", server.port, tls=client_context, server_hostname="reviews.test", http2=True)
        for _ in range(3):
            result = runtime.call(target, Call())
            assert (result.data, result.outcome.http_version) == (b"ok", b"HTTP/1.1")
        assert server.connections == 1
        results = runtime.many(target, [Call() for _ in range(10)])
        assert all(result.data == b"ok" for result in results)
        runtime.close()


def test_without_http2_only_http1_is_offered(runtime, authority, client_context):
    chosen = []
    context = server_context(authority, "h2", "http/1.1")

    def note(sock) -> None:
        chosen.append(sock.selected_alpn_protocol())
        sock.sendall(OK)

    with EvilServer([note], tls=context) as server:
        target = Target("127.0.0.1", server.port, tls=client_context, server_hostname="reviews.test")
        both = dataclasses.replace(target, http2=True)  # the same context, at the same time
        assert runtime.call(target, Call()).data == b"ok"
        assert chosen == ["http/1.1"]
        assert runtime.call(both, Call(limits={"head": 60.0})).outcome.failure is Failure.PROTOCOL_ERROR
        runtime.upstream.close_idle()
        assert runtime.call(target, Call()).data == b"ok"
        assert chosen == ["http/1.1", "h2", "http/1.1"]
        runtime.close()


def test_closing_what_is_idle_leaves_a_connection_that_somebody_waits_for(runtime):
    server = H2Server()  # listens, and says nothing yet
    target = Target("127.0.0.1", server.port, http2=True)

    def close_meanwhile() -> None:
        runtime.upstream.close_idle()
        server.__enter__()

    assert [r.data for r in call_while_it_connects(runtime, target, close_meanwhile)] == [b"GET /", b"GET /"]
    runtime.close()
    server.__exit__()


def call_while_it_connects(runtime, target, then):
    """Two calls that wait for the same connection, and something that happens meanwhile."""

    def waiting() -> bool:
        return bool(runtime.upstream._http2 and runtime.upstream._http2._open)

    if isinstance(runtime, Loop):

        async def together():
            calls = asyncio.gather(runtime.call_async(target, Call()), runtime.call_async(target, Call()))
            while not waiting():
                await asyncio.sleep(0.002)
            then()
            return await calls

        return runtime.run(together())
    results = []
    threads = [threading.Thread(target=lambda: results.append(runtime.call(target, Call()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert runtime.until(waiting)
    then()
    for thread in threads:
        thread.join(10)
    return results


@pytest.mark.parametrize("why", ["closed as idle", "target dropped"])
def test_a_connection_that_goes_before_its_first_stream_by_our_own_doing_is_made_again(
    runtime, serve, monkeypatch, why
):
    server, target = serve()
    assert runtime.call(target, Call()).data == b"GET /"
    runtime.upstream.close_idle()
    http2_part = runtime.upstream._http2
    connect, closed = http2_part._connect, []

    def close_once():
        if not closed:
            closed.append(True)
            if why == "closed as idle":
                runtime.upstream.close_idle()
            else:
                target.retire()
                http2_part.drop_target(target)

    def connect_and_close(*arguments):
        made = connect(*arguments)
        close_once()
        return made

    async def connect_and_close_on_loop(*arguments):
        made = await connect(*arguments)
        close_once()
        return made

    monkeypatch.setattr(
        http2_part, "_connect", connect_and_close_on_loop if isinstance(runtime, Loop) else connect_and_close
    )
    assert runtime.call(target, Call()).data == b"GET /"
    assert closed
    assert server.connections == (2 if why == "target dropped" and isinstance(runtime, Threads) else 3)


def test_a_certificate_that_is_not_trusted_is_connect_failed(runtime, serve, authority):
    tls = {"tls": ssl.create_default_context(), "server_hostname": "reviews.test"}
    _, target = serve(tls=server_context(authority, "h2"), target=tls)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "not trusted" in outcome.detail


def test_a_certificate_without_the_right_name_is_connect_failed(runtime, serve, authority, client_context):
    tls = {"tls": client_context, "server_hostname": "reviews.test", "subject_alt_names": ("other.test",)}
    _, target = serve(tls=server_context(authority, "h2"), target=tls)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "wants one of other.test" in outcome.detail
