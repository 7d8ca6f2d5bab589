"""Who drives a unary call on asyncio: the task that awaits it at once, else a task of its own from the loop's next turn on.
Nobody can tell the difference, whatever is cancelled, dropped or awaited twice."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from types import SimpleNamespace

import grpc
import pytest

from meshlib.transport.grpcio.client.next_turn import NextTurn, line_of
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, soon
from tests.support.resources import to

UNARY = "/meshlib.test.Echo/Unary"


def tasks_beside() -> int:
    return len(asyncio.all_tasks()) - 1


@pytest.fixture
def server():
    with EchoServer() as server:
        yield server


@pytest.fixture
async def channel(server):
    async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
        yield channel


@pytest.fixture
def unary(channel):
    stub = stubs.EchoStub(channel)
    return lambda text="x", **kwargs: stub.Unary(Message(text=text), **kwargs)


async def test_a_call_that_is_awaited_at_once_has_no_task_of_its_own(unary):
    beside = []

    async def look():
        await asyncio.sleep(0)
        beside.append(tasks_beside())

    await unary()
    looking = asyncio.create_task(look())
    assert (await unary("hello")).text == "hello"
    await looking
    assert beside == [1]  # the test's


async def test_a_call_that_nobody_awaits_is_made_at_the_loops_next_turn(unary, server):
    await unary()
    call = unary("alone")
    assert await soon(lambda: len(server.seen) == 2)
    assert (await call).text == "alone"
    assert call.done()


async def when_there_are_eight(server):
    """None of those calls is answered before all are there: one after the other, the first would wait for 60 s."""
    assert await soon(lambda: len(server.seen) == 9)
    server.echo.release.set()


async def test_calls_that_are_awaited_together_run_together(unary, server):
    await unary()
    server.echo.script[:] = [60]
    *answers, _ = await asyncio.gather(*(unary(str(n)) for n in range(8)), when_there_are_eight(server))
    assert [a.text for a in answers] == [str(n) for n in range(8)]


async def test_calls_that_were_begun_before_they_are_awaited_run_together(unary, server):
    await unary()
    server.echo.script[:] = [60]
    calls = [unary(str(n)) for n in range(8)]
    released = asyncio.create_task(when_there_are_eight(server))
    assert [(await call).text for call in calls] == [str(n) for n in range(8)]
    await released


async def test_a_call_that_begins_later_has_its_callers_context():
    seen = []
    name = contextvars.ContextVar("name")

    class Tracing:
        unrecorded = 0

        def started(self, call):
            seen.append(name.get())

    with EchoServer() as server:
        async with mesh_of(server) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            mesh._core.telemetry._tracing = Tracing()
            stub = stubs.EchoStub(channel)
            calls = []
            for who in ("first", "second"):
                name.set(who)
                calls.append(stub.Unary(Message()))
            name.set("later")
            for call in calls:
                await call
    assert seen == ["first", "second"]


@pytest.mark.parametrize("begun", [False, True], ids=["awaited at once", "begun before"])
async def test_a_task_that_is_cancelled_cancels_the_call_it_awaits(unary, server, begun):
    server.echo.script[:] = [60]
    calls = []

    async def ask():
        calls.append(unary())
        if begun:
            await asyncio.sleep(0.01)
        await calls[0]

    task = asyncio.create_task(ask())
    assert await soon(lambda: server.seen)
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    (call,) = calls
    assert call.cancelled()
    assert call.done()
    assert call.cancel() is False
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert "DC" in call.exchange.flags
    assert call.exchange.grpc_status == 1


async def test_the_server_hears_of_a_cancelled_call_at_once(unary, server):
    server.echo.script[:] = [30.0]
    gone = []
    begin = server.echo._begin
    server.echo._begin = lambda method, context: context.add_callback(lambda: gone.append(1)) and begin(method, context)

    kept = []

    async def ask():
        try:
            await unary()
        except asyncio.CancelledError as error:
            kept.append(error)  # its traceback keeps all that the call consisted of alive
            raise

    task = asyncio.create_task(ask())
    assert await soon(lambda: server.seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await soon(lambda: gone)
    server.echo.release.set()


@pytest.mark.parametrize("begun", [False, True], ids=["awaited at once", "begun before"])
async def test_a_call_that_somebody_else_cancels_does_not_cancel_the_task_that_awaits_it(unary, server, begun):
    server.echo.script[:] = [60]
    call = unary()
    after = []

    async def ask():
        if begun:
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await call
        after.append(asyncio.current_task().cancelling())
        await asyncio.sleep(0.01)  # a task that was cancelled itself would end here
        after.append("went on")

    if not begun:  # the very step in which the call was made
        asking = asyncio.ensure_future(_at_once(unary, after))
        call = None
    else:
        asking = asyncio.create_task(ask())
    assert await soon(lambda: server.seen)
    if call is None:
        call = after.pop(0)
    assert call.cancel()
    assert not call.cancel()
    await asking
    assert after == [0, "went on"]
    assert call.cancelled()


async def _at_once(unary, after):
    call = unary()
    after.append(call)
    with pytest.raises(asyncio.CancelledError):
        await call
    after.append(asyncio.current_task().cancelling())
    await asyncio.sleep(0.01)
    after.append("went on")


async def test_both_the_task_and_its_call_are_cancelled(unary, server):
    server.echo.script[:] = [60]
    calls = []

    async def ask():
        calls.append(unary())
        await calls[0]

    task = asyncio.create_task(ask())
    assert await soon(lambda: server.seen)
    calls[0].cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_a_timeout_around_a_call_ends_it(unary, server):
    server.echo.script[:] = [60]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await unary()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unary(), 0.05)
    server.echo.release.set()
    server.echo.script[:] = ["ok"]
    assert (await unary("still")).text == "still"


async def test_a_call_can_be_awaited_by_several_and_again(unary, server):
    server.echo.script[:] = [0.05]
    call = unary("one")

    async def ask():
        return (await call).text

    first = asyncio.create_task(ask())
    assert await soon(lambda: server.seen)
    assert await asyncio.gather(ask(), first, ask()) == ["one"] * 3
    assert (await call).text == "one"
    assert len(server.seen) == 1


async def test_several_await_a_call_that_one_of_them_drives(unary, server):
    server.echo.script[:] = [0.05]
    calls = []

    async def drive():
        calls.append(unary("one"))
        return (await calls[0]).text

    async def join():
        return (await calls[0]).text

    driving = asyncio.create_task(drive())
    assert await soon(lambda: server.seen)
    joined = [asyncio.create_task(join()) for _ in range(2)]
    code = asyncio.create_task(calls[0].code())
    assert await asyncio.gather(driving, *joined) == ["one"] * 3
    assert await code is grpc.StatusCode.OK


async def test_those_who_join_a_call_hear_of_its_failure_and_of_its_end(unary, server):
    server.echo.script[:] = [0.05, "NOT_FOUND"]
    calls = []

    async def drive():
        calls.append(unary())
        await calls[0]

    await unary()
    driving = asyncio.create_task(drive())
    assert await soon(lambda: calls)

    async def join():
        await calls[0]

    joined = asyncio.create_task(join())
    for task in (driving, joined):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await task
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    server.echo.script[:] = [60]
    calls.clear()
    driving = asyncio.create_task(drive())
    assert await soon(lambda: len(server.seen) == 3)
    joined = asyncio.create_task(join())
    await asyncio.sleep(0)
    joined.cancel()  # as in grpcio, who is cancelled while it waits cancels the call
    for task in (joined, driving):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_call_that_is_cancelled_before_it_began_is_never_made(unary, server):
    await unary()
    call = unary()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is grpc.StatusCode.CANCELLED
    await asyncio.sleep(0.05)
    assert len(server.seen) == 1


async def test_a_call_that_is_dropped_before_it_began_is_never_made(unary, server, channel):
    await unary()
    unary()
    gc.collect()
    await asyncio.sleep(0.05)
    assert len(server.seen) == 1
    assert not channel.under_way


async def test_callbacks_come_at_the_end_whoever_drives(unary):
    done = []
    awaited = unary()
    awaited.add_done_callback(lambda call: done.append(call is awaited))
    await awaited
    await asyncio.sleep(0)
    assert done == [True]
    awaited.add_done_callback(lambda call: done.append("over already"))
    await asyncio.sleep(0)
    assert done == [True, "over already"]
    alone = unary()
    alone.add_done_callback(lambda call: done.append(call.done()))
    assert await soon(lambda: len(done) == 3)
    assert done[-1] is True


async def test_a_mistake_of_ours_reaches_everybody_who_waits(unary, channel, monkeypatch):
    async def mistaken():
        await asyncio.sleep(0.01)
        raise ZeroDivisionError("ours")

    def raised_again(effect, upstream, error):
        raise error

    monkeypatch.setattr(channel.runtime, "begun", lambda effect, loop: (None, mistaken()))
    monkeypatch.setattr(channel.runtime, "broken", raised_again)
    calls = []

    async def drive():
        calls.append(unary())
        await calls[0]

    driving = asyncio.create_task(drive())
    assert await soon(lambda: calls)
    for awaitable in (calls[0], driving):
        with pytest.raises(ZeroDivisionError):
            await awaitable


async def test_answers_made_here_do_not_pile_up_in_a_loop_that_never_turns():
    rule = {"directResponse": {"status": 503}}
    async with mesh_of(1, rules=[rule]) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
        stub = stubs.EchoStub(channel)
        for _ in range(200):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Unary(Message())
        assert channel.turn._runs == []
        assert not channel.under_way


@pytest.mark.skipif(PLAIN, reason="without shortcuts the turn comes")
async def test_a_call_that_is_awaited_at_once_costs_the_loop_no_turn(unary, channel):
    await unary()
    loop, asks = asyncio.get_running_loop(), channel.turn._handle
    assert asks not in loop._ready
    call = unary()
    assert loop._ready[-1] is asks  # whether nobody awaits it is seen at the next turn
    awaiting = call.__await__()
    assert awaiting.send(None) is not None
    assert asks not in loop._ready
    awaiting.close()


@pytest.mark.skipif(PLAIN, reason="without shortcuts the turn comes")
async def test_what_others_want_of_the_next_turn_stays(unary):
    done = []
    call = unary()
    asyncio.get_running_loop().call_soon(done.append, "theirs")
    assert (await call).text == "x"
    assert done == ["theirs"]
    call, later = unary(), unary()
    await call
    assert await soon(later.done)


class OwnLine(asyncio.SelectorEventLoop):
    """As qasync's, which has a line that nobody looks at."""

    def call_soon(self, *args, **kwargs):
        return super().call_soon(*args, **kwargs)


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, OwnLine])
def test_only_asyncios_own_loops_have_a_line_to_take_a_turn_back_from(kind):
    loop = kind()
    try:
        assert (line_of(loop) is not None) == (kind is asyncio.SelectorEventLoop and not PLAIN)
        assert line_of(SimpleNamespace()) is None
    finally:
        loop.close()


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, OwnLine])
def test_calls_are_made_on_loops_of_either_kind(kind):
    async def ask(channel):
        stub = stubs.EchoStub(channel)
        alone = stub.Unary(Message(text="a"))
        await asyncio.sleep(0)
        together = [stub.Unary(Message(text=text)) for text in "bc"]
        return [(await call).text for call in (stub.Unary(Message(text="d")), *together, alone)]

    with EchoServer() as server, mesh_of(server) as mesh, asyncio.Runner(loop_factory=kind) as runner:
        assert runner.run(ask(mesh.aio_grpc_channel(TARGET))) == ["d", "b", "c", "a"]


async def test_a_channel_keeps_nothing_of_its_calls(unary, channel):
    call = unary()
    await call
    run = weakref.ref(call.run)
    del call
    await asyncio.sleep(0)
    gc.collect()
    assert run() is None


def test_a_channel_serves_one_loop_after_the_other():
    with EchoServer() as server, mesh_of(server) as mesh:
        channel = mesh.aio_grpc_channel(TARGET)

        async def ask():
            stub = stubs.EchoStub(channel)
            together = [stub.Unary(Message(text="b")), stub.Unary(Message(text="c"))]
            return [(await stub.Unary(Message(text="a"))).text, *[(await call).text for call in together]]

        assert [asyncio.run(ask()) for _ in range(2)] == [["a", "b", "c"]] * 2


def test_a_turn_comes_once_for_all_that_wait_for_it():
    scheduled = []
    turn = NextTurn(SimpleNamespace(call_soon=scheduled.append))

    class Run:
        def __init__(self):
            self.waiting, self.begun = turn, 0

        def begin(self):
            self.waiting, self.begun = None, self.begun + 1

    runs = [Run() for _ in range(3)]
    for run in runs:
        turn.begin(run)
    turn.awaited(runs[2])  # the last one is forgotten at once
    turn.awaited(runs[0])  # others when the turn comes
    runs[0].waiting = runs[2].waiting = None
    assert len(scheduled) == 1
    scheduled.pop()()
    assert [run.begun for run in runs] == [0, 1, 0]
    turn.begin(runs[1])
    assert len(scheduled) == 1


async def test_weights_and_retries_are_the_same_whoever_drives():
    with EchoServer("a", ["UNAVAILABLE", "ok"]) as server:
        rules = [{"route": [to(HOST)], "retries": {"attempts": 2, "retryOn": "unavailable", "backoff": "1ms"}}]
        async with mesh_of(server, rules=rules) as mesh, mesh.aio_grpc_channel(TARGET) as channel:
            call = stubs.EchoStub(channel).Unary(Message(text="x"))
            assert (await call).text == "x"
            assert [a.failure for a in call.exchange.attempts] == ["unavailable", ""]


@pytest.mark.parametrize("kind", ["Expand", "Collect", "Chat"])
async def test_a_call_that_is_cancelled_before_its_tasks_first_step_is_over(channel, server, kind):
    stub = stubs.EchoStub(channel)
    call = getattr(stub, kind)(Message(count=2) if kind == "Expand" else iter([Message()]))
    assert call.cancel()

    async def end():
        return await (call if kind == "Collect" else call.read())

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(end(), 30)
    assert await asyncio.wait_for(call.code(), 30) is grpc.StatusCode.CANCELLED
    assert not channel.under_way
    assert not server.seen
