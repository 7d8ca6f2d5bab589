"""One call over HTTP/2, with a forwarder that its test plays."""

from __future__ import annotations

import asyncio

import pytest
from hyperframe.frame import RstStreamFrame, WindowUpdateFrame

from tests.support.http2_down import called


def test_an_upstream_is_read_no_further_while_its_client_is_behind():
    down, _, listener, forwarding, (call,) = called()
    call.begin(200, b"", [])
    call.write(b"x" * 60_000)
    assert (call.writable, forwarding.said) == (True, [True])
    call.write(b"x" * 100_000)
    assert (call.writable, forwarding.said[1:]) == (False, [False])
    down.pause_writing()
    down.data_received(WindowUpdateFrame(0, window_increment=1 << 20).serialize())
    down.data_received(WindowUpdateFrame(1, window_increment=1 << 20).serialize())
    assert not call.writable
    down.resume_writing()
    assert (call.writable, forwarding.said[-1]) == (True, True)
    assert listener.loop.soon[-1] == down._flush
    call.end([(b"t", b"1")])
    call.write(b"nobody hears this")
    call.gone("nor this")
    assert forwarding.said[-1] is True


def test_whoever_waits_for_the_client_hears_when_it_has_taken_all_or_has_gone():
    async def work() -> None:
        for ends in ("takes", "goes"):
            down, _, listener, forwarding, (call,) = called()
            listener.loop.create_future = asyncio.get_running_loop().create_future  # type: ignore[attr-defined]
            await call.drained()
            call.begin(200, b"", [])
            call.write(b"x" * 200_000)
            waits = [asyncio.ensure_future(call.drained()) for _ in range(2)]
            await asyncio.sleep(0)
            if ends == "takes":
                down.data_received(WindowUpdateFrame(0, window_increment=1 << 20).serialize())
                down.data_received(WindowUpdateFrame(1, window_increment=1 << 20).serialize())
            else:
                down.data_received(RstStreamFrame(1, error_code=8).serialize())
                assert forwarding.said[-1] == "cancel"
            await asyncio.gather(*waits)

    asyncio.run(work())


def test_a_response_to_head_may_come_in_pieces_that_nobody_gets():
    _, _, _, _, (call,) = called()
    call._bodiless = True
    call.begin(200, b"", [(b"content-length", b"5")])
    call.write(b"12345")
    call.end(None)
    assert call._over
    call.pump()


def test_a_response_may_be_there_before_its_request_is_said_to_be_forwarded():
    _, _, _, forwarding, (call,) = called(lambda call: call.respond(200, b"", [], b"all", None))
    assert call._over
    call.gone("late")
    assert forwarding.said == []


def test_a_client_may_go_before_its_call_is_known():
    calls = []

    def respond(call) -> None:
        calls.append(call)
        call.gone("at once")

    _, _, _, forwarding, _ = called(respond)
    assert calls[0]._over
    assert forwarding.said == []


def test_an_upstream_that_switches_protocols_is_left():
    class Switched:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    down, _, _, _, (call,) = called()
    switched = Switched()
    call.switch(101, b"", [], switched)
    assert switched.aborted
    assert not down.session.streams


@pytest.mark.parametrize("grpc", [True, False])
def test_whether_a_call_is_one_of_grpc_is_not_read_from_its_lines_where_that_is_known(grpc):
    """Each who asks for them has them made anew, and all that wait are asked again and again."""

    class Head:
        @property
        def lower(self) -> bytes:
            raise AssertionError("read")

    *_, (call,) = called()
    call.request_over = False
    call.head = Head()
    call.head.grpc = grpc
    assert call.waits is not grpc
