"""HTTP/2 upstreams in both runtimes, against a real server on loopback that does what the test says: requests and responses."""

from __future__ import annotations

import threading

import h2.errors

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol import http2
from meshlib.transport.upstream import http2_loop_connection, http2_threads_wire
from tests.support.h2_runtimes import Call
from tests.support.h2_server import Peer, Request, answer_ok

CODES = h2.errors.ErrorCodes


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
