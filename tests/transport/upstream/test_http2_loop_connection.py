"""An HTTP/2 connection shared by the tasks of a loop: one write for all, and cancelled callers."""

from __future__ import annotations

import asyncio
import threading

from meshlib.transport.upstream.http2_loop import AsyncioHttp2
from meshlib.transport.upstream.http2_loop_connection import Connection
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Loop
from tests.support.h2_server import H2Server, Peer, Request, answer_ok


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


def test_on_a_loop_goaway_closes_an_idle_connection_at_once():
    runtime = Loop()
    with H2Server() as server:
        runtime.call(Target("127.0.0.1", server.port, http2=True), Call())
        server.peers[0].goaway(0)
        assert runtime.until(lambda: not server.peers)
        runtime.close()


def test_a_thousand_cancellations_leak_no_stream():
    runtime = Loop()
    with H2Server(lambda peer, request: None if request.path == "/never" else answer_ok(peer, request)) as server:
        target = Target("127.0.0.1", server.port, http2=True)

        async def storm() -> None:
            await runtime.call_async(target, Call())
            for round_number in range(20):
                tasks = [
                    asyncio.create_task(
                        runtime.call_async(
                            target,
                            Call(b"/never", method=b"POST", body=bytes(1000 * (number % 3))),
                        )
                    )
                    for number in range(50)
                ]
                for _ in range(round_number % 5):
                    await asyncio.sleep(0)
                if round_number % 2:
                    await asyncio.sleep(0.005)
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError) for one in done)
                result = await runtime.call_async(target, Call(b"/between"))
                assert result.data == b"GET /between"

        runtime.run(storm())
        assert runtime.until(lambda: server.open_streams == 0)
        assert server.connections == 1
        (connection,) = runtime.upstream._http2._open
        assert connection.session.streams == {}
        assert connection.session._blocked == set()
        runtime.close()


def test_a_cancelled_caller_does_not_take_the_connection_being_made_from_the_others():
    runtime = Loop()
    with H2Server() as server:
        target = Target("127.0.0.1", server.port, http2=True)

        async def race() -> None:
            first = asyncio.create_task(runtime.call_async(target, Call(b"/1")))
            await asyncio.sleep(0)
            second = asyncio.create_task(runtime.call_async(target, Call(b"/2")))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).data == b"GET /2"

        runtime.run(race())
        assert server.connections == 1
        runtime.close()


def test_on_a_loop_calls_that_go_on_together_are_written_together(monkeypatch):
    runtime = Loop()
    with H2Server() as server:
        target = Target("127.0.0.1", server.port, http2=True)
        runtime.call(target, Call())
        (connection,) = runtime.upstream._http2._open
        writes, write = [], connection.transport.write
        monkeypatch.setattr(connection.transport, "write", lambda data: (writes.append(data), write(data)))
        runtime.call(target, Call())
        assert len(writes) == 1  # alone
        server.answer = hold(20)
        results = runtime.many(target, [Call(b"/%d" % number) for number in range(20)])
        assert [result.data for result in results] == [b"GET /%d" % number for number in range(20)]
        assert len(writes) <= 3
        runtime.close()


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.data += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


SETTINGS_FRAME = b"\0\0\0\4\0\0\0\0\0"


def test_nothing_is_written_to_a_server_that_greets_before_it_is_judged():
    """Its SETTINGS may come with the last bytes of the handshake, before anybody has looked at its certificate."""
    runtime, transport = Loop(), Written()
    connection = Connection(AsyncioHttp2(runtime.upstream), Target("127.0.0.1", 1, http2=True))
    connection.connection_made(transport)
    connection.data_received(SETTINGS_FRAME)
    assert transport.data == b""
    connection.admitted(transport)
    connection.flush()
    assert transport.data.startswith(b"PRI * HTTP/2.0")
    assert connection.greeted.done()
    runtime.close()


def test_a_connection_that_was_given_up_before_it_was_judged_keeps_no_transport():
    runtime, transport = Loop(), Written()
    connection = Connection(AsyncioHttp2(runtime.upstream), Target("127.0.0.1", 1, http2=True))
    connection.connection_made(transport)
    connection.abort("too late")
    assert not transport.aborted
    connection.admitted(transport)
    assert (transport.aborted, transport.data) == (True, b"")
    runtime.close()
