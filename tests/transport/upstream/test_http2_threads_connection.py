"""An HTTP/2 connection shared by threads: who reads, who is interrupted, and what a fork leaves."""

from __future__ import annotations

import os
import threading

import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol import http2
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Threads
from tests.support.h2_server import SETTINGS, H2Server, Peer, Request, answer_ok


def test_a_thousand_given_up_calls_of_threads_leak_no_stream():
    runtime = Threads()
    with H2Server(lambda peer, request: None if request.path == "/never" else answer_ok(peer, request)) as server:
        target = Target("127.0.0.1", server.port, http2=True)
        runtime.call(target, Call())
        for _ in range(20):
            calls = [Call(b"/never", limits={"head": 0.005 * (number % 4)}) for number in range(50)]
            results = runtime.many(target, [*calls, Call(b"/between", limits={"head": 10.0})])
            assert {result.outcome.failure for result in results[:-1]} == {Failure.TIMEOUT}
            assert results[-1].data == b"GET /between"
        assert runtime.until(lambda: server.open_streams == 0)
        assert server.connections == 1
        (connection,) = runtime.upstream._http2._open
        assert connection.session.streams == {}
        assert connection._waiting == {}
        runtime.close()


def test_a_thread_in_the_kernel_is_told_that_another_has_left_bytes_unwritten():
    go_on = threading.Event()

    def pause(peer: Peer) -> None:
        peer.h2.increment_flow_control_window(2**30)
        peer.flush()
        go_on.wait(60)

    def answer(peer: Peer, request: Request) -> None:
        if request.body:
            for waiting in peer.requests.values():
                answer_ok(peer, waiting)

    runtime = Threads()
    options = {"hold_windows": True, "settings": {SETTINGS.INITIAL_WINDOW_SIZE: 2**31 - 1}}
    with H2Server(answer, on_connect=pause, **options) as server:
        target = Target("127.0.0.1", server.port, http2=True)
        waiting: list = []
        first = threading.Thread(target=lambda: waiting.append(runtime.call(target, Call(b"/", limits={"head": 60.0}))))
        first.start()

        def in_the_kernel() -> bool:
            return any(
                connection.requests and connection._reader is not None for connection in runtime.upstream._http2._open
            )

        assert runtime.until(lambda: runtime.upstream._http2 is not None and in_the_kernel())
        timer = threading.Timer(0.3, go_on.set)
        timer.start()
        upload = runtime.call(target, Call(b"/up", method=b"POST", body=bytes(20_000_000), limits={"head": 60.0}))
        first.join(60)
        timer.join(60)
        assert (upload.data, waiting[0].data) == (b"POST /up", b"GET /")
        runtime.close()


def test_an_interrupted_thread_gives_up_its_stream_and_no_other(monkeypatch):
    """As Ctrl-C does it: in the kernel, while it reads for all."""
    runtime = Threads()
    with H2Server() as server:
        target = Target("127.0.0.1", server.port, http2=True)
        runtime.call(target, Call())
        server.answer = lambda peer, request: None if request.path == "/interrupted" else answer_ok(peer, request)
        (connection,) = runtime.upstream._http2._open
        real_poll = connection.socket._poll

        class Interrupted:
            def poll(self, timeout):
                raise KeyboardInterrupt

            modify = real_poll.modify

        connection.socket._poll = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            runtime.call(target, Call(b"/interrupted"))
        connection.socket._poll = real_poll
        assert runtime.call(target, Call(b"/next")).data == b"GET /next"
        assert server.connections == 1
        assert runtime.until(lambda: server.open_streams == 0)
        runtime.close()


def test_an_interruption_in_the_middle_of_a_frame_gives_up_the_connection(monkeypatch):
    runtime = Threads()
    with H2Server() as server:
        target = Target("127.0.0.1", server.port, http2=True)
        runtime.call(target, Call())
        (connection,) = runtime.upstream._http2._open

        def interrupted(stream, data, end):
            raise KeyboardInterrupt

        monkeypatch.setattr(http2.Http2Session, "send", lambda self, *args: interrupted(*args))
        with pytest.raises(KeyboardInterrupt):
            runtime.call(target, Call(method=b"POST", body=b"x"))
        monkeypatch.undo()
        assert connection.closed
        assert runtime.call(target, Call()).data == b"GET /"
        assert server.connections == 2
        runtime.close()


def test_a_forked_child_uses_none_of_its_parents_connections():
    runtime = Threads()
    with H2Server(hold_windows=False) as server:
        target = Target("127.0.0.1", server.port, http2=True)
        server.answer = lambda peer, request: peer.respond(
            request, bytes(3_000_000) if request.path == "/big" else b"ok"
        )
        runtime.call(target, Call())
        under_way = runtime.send(target, Call(b"/big"))
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                try:
                    next(iter(under_way.body))
                    answer = b"read on the parent's connection"
                except BodyFailed:
                    answer = runtime.call(target, Call()).data
                del under_way
                os.write(write_end, answer)
            finally:
                os._exit(0)
        os.close(write_end)
        os.waitpid(child, 0)
        assert os.read(read_end, 100) == b"ok"
        os.close(read_end)
        assert sum(map(len, under_way.body)) == 3_000_000
        assert runtime.call(target, Call()).data == b"ok"
        assert server.connections == 2
        runtime.close()
