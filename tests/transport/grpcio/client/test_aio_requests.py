"""Streams of requests on asyncio, whose calls end while they are read, or which raise by themselves."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from meshlib.transport.grpcio.client.aio_requests import AioRequests


@pytest.mark.parametrize(
    "error", [grpc.aio.InternalError("batch"), asyncio.InvalidStateError("over")], ids=["core", "done"]
)
async def test_a_call_that_ends_while_its_iterator_is_read_is_not_cancelled_for_it(error):
    """Its status is what the caller is to hear: a deadline, say."""

    class Over:
        async def write(self, _data: bytes) -> None:
            raise error

    cancelled: list[bool] = []
    requests = AioRequests(iter([b"one", b"two"]), None, lambda: cancelled.append(True))
    requests.commit()
    requests.attach(Over())
    await asyncio.gather(*requests._tasks)
    assert (cancelled, requests.error) == ([], None)


async def test_an_iterator_that_raises_what_an_ended_call_raises_is_its_own_doing():
    async def source():
        yield b"one"
        raise grpc.aio.InternalError("of another call")

    class Taking:
        async def write(self, _data: bytes) -> None:
            """Takes it."""

    cancelled: list[bool] = []
    requests = AioRequests(source(), None, lambda: cancelled.append(True))
    requests.commit()
    requests.attach(Taking())
    await asyncio.gather(*requests._tasks)
    assert cancelled == [True]
    assert isinstance(requests.error, grpc.aio.InternalError)


class Core:
    """The binding's call inside of grpcio's."""

    def __init__(self):
        self.taken: list[bytes] = []
        self.under_way = 0
        self.over = False

    def done(self) -> bool:
        return self.over

    async def send_serialized_message(self, message: bytes) -> None:
        self.under_way += 1
        assert self.under_way == 1, "gRPC core takes one message at a time"
        await asyncio.sleep(0)
        self.taken.append(message)
        self.under_way -= 1


class Known:
    """A call of grpcio's as we know it."""

    def __init__(self):
        self._cython_call = Core()
        self._metadata_sent = asyncio.Event()

    def done(self) -> bool:
        return self._cython_call.done()

    async def write(self, _data: bytes) -> None:
        raise AssertionError("its own write loses the status of a call that the server has ended")


async def test_messages_go_to_the_binding_once_the_metadata_are_sent():
    requests, call = AioRequests(None, str.encode, None), Known()
    requests.commit()
    requests.attach(call)
    first = asyncio.ensure_future(requests.write("1"))
    await asyncio.sleep(0)
    assert call._cython_call.taken == []
    call._metadata_sent.set()
    await first
    await requests.write("2")
    assert call._cython_call.taken == [b"1", b"2"]


async def test_messages_of_several_tasks_are_taken_one_at_a_time_in_their_order():
    requests, call = AioRequests(None, None, None), Known()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    await requests.write(b"0")
    await asyncio.gather(*(requests.write(b"%d" % number) for number in range(1, 9)))
    assert call._cython_call.taken == [b"%d" % number for number in range(9)]


async def test_a_call_that_is_over_takes_nothing_more():
    requests, call = AioRequests(None, None, None), Known()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    await requests.write(b"1")
    call._cython_call.over = True
    with pytest.raises(asyncio.InvalidStateError, match="already finished"):
        await requests.write(b"2")
    assert call._cython_call.taken == [b"1"]
    assert not requests._lock.locked()


async def test_a_write_that_is_cancelled_lets_the_next_one_go_on():
    requests, call = AioRequests(None, None, None), Known()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    await requests.write(b"1")
    call._cython_call.send_serialized_message = lambda _: asyncio.Event().wait()  # for ever
    stuck = asyncio.ensure_future(requests.write(b"2"))
    await asyncio.sleep(0)
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    del call._cython_call.send_serialized_message
    await requests.write(b"3")
    assert call._cython_call.taken == [b"1", b"3"]


async def test_a_message_that_is_no_bytes_is_refused():
    requests, call = AioRequests(None, None, None), Known()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    with pytest.raises(TypeError, match="request_serializer"):
        await requests.write("text")


async def test_what_comes_while_a_message_is_on_its_way_is_taken_after_it_and_so_is_the_end():
    class Ending(Known):
        async def done_writing(self) -> None:
            assert self._cython_call.under_way == 0, "gRPC core takes the end after the last message"
            self._cython_call.taken.append(b"end")

    requests, call = AioRequests(None, None, None), Ending()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    await requests.write(b"0")
    writing = [asyncio.ensure_future(requests.write(b"%d" % number)) for number in range(1, 4)]
    await asyncio.sleep(0)  # the first of them is on its way, the others wait
    await requests.done_writing()
    await asyncio.gather(*writing)
    assert call._cython_call.taken == [b"0", b"1", b"2", b"3", b"end"]
    assert requests.seen() == (4, 4)


async def test_who_follows_gets_what_is_written_to_a_call_that_takes_messages_at_once():
    requests, call = AioRequests(None, None, None), Known()
    call._metadata_sent.set()
    requests.commit()
    requests.attach(call)
    await requests.write(b"1")
    follower = requests.copy()
    await requests.write(b"2")
    assert call._cython_call.taken == [b"1", b"2"]
    assert [follower.kept.get(position) for position in range(len(follower.kept))] == [b"2"]
