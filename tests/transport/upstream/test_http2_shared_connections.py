"""HTTP/2 upstreams in both runtimes: how many streams share a connection, how many connections there are, and how long."""

from __future__ import annotations

import os
import threading

from meshlib.engine.outcome import Failure
from meshlib.transport.upstream import http2_threads
from tests.support.eventually import eventually
from tests.support.h2_runtimes import Call
from tests.support.h2_server import SETTINGS, Peer, Request, answer_ok


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


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
    server, target = serve(hold(4), target={"max_concurrent_streams": 1, "idle_timeout": 0.7})
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
    assert eventually(lambda: peer.goodbye is not None and not server.peers)


def test_open_files_do_not_grow_with_connections(runtime, serve):
    server, target = serve(target={"max_requests": 1})
    runtime.call(target, Call())
    runtime.until(lambda: not server.peers)
    before = open_files()
    for _ in range(30):
        assert runtime.call(target, Call()).outcome.status == 200
    assert runtime.until(lambda: not server.peers and open_files() <= before + 2)
    assert runtime.until(lambda: not runtime.upstream._http2._open)
