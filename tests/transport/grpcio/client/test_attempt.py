"""Whatever raises where an attempt begins (no channel, no multicallable, no call) ends that attempt as a failure, with what was
raised as its cause, and gives back all that the call held: in every way that calls are made."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest

from meshlib.transport.grpcio.client import connect, upstream
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, quick, soon
from tests.support.resources import to

pytestmark = pytest.mark.slow


class Odd(Exception):
    """Nothing that grpcio would raise."""


def no_channel(*_, **__):
    raise Odd("no channel")


def no_multicallable(*_, **__):
    raise Odd("no multicallable")


class NoCall:
    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        raise Odd("no call")

    future = with_call = __call__


STAGES = {
    "channel": (connect, "make_channel", no_channel, grpc.StatusCode.UNAVAILABLE),
    "multicallable": (upstream.Upstream, "multicallable", no_multicallable, grpc.StatusCode.UNAVAILABLE),
    "call": (upstream.Upstream, "multicallable", NoCall, grpc.StatusCode.INTERNAL),
}


def guard(**more):
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"host": HOST, "bulkhead": {"maxConcurrent": 1, "maxWaiting": 1}, **more},
    }


POLICIES = {
    "once": ([{"route": [to(HOST)]}], guard()),
    "retried": ([{"route": [to(HOST)], "retries": quick("connect-failure", 2, perTryTimeout="1s")}], guard()),
    "hedged": ([{"route": [to(HOST)]}], guard(hedging={"delay": "1ms", "unsafeMethods": True})),
    "mirrored": ([{"route": [to(HOST)], "mirror": {"host": HOST}}], guard()),
}


def threads(call):
    async def make(mesh):
        with mesh.grpc_channel(TARGET) as channel:
            await asyncio.to_thread(call, stubs.EchoStub(channel))

    return make


def on_loop(call):
    async def make(mesh):
        async with mesh.aio_grpc_channel(TARGET) as channel:
            await call(stubs.EchoStub(channel))

    return make


async def drained(call):
    async for _ in call:
        pass


async def awaited_later(stub):
    call = stub.Unary(Message(), timeout=60)
    await asyncio.sleep(0.02)
    await call


async def read(stub):
    await stub.Chat(iter([Message()]), timeout=60).read()


WAYS = {
    "blocking": threads(lambda stub: stub.Unary(Message(), timeout=60)),
    "with_call": threads(lambda stub: stub.Unary.with_call(Message(), timeout=60)),
    "blocking, many requests": threads(lambda stub: stub.Collect(iter([Message()]), timeout=60)),
    "future": threads(lambda stub: stub.Unary.future(Message(), timeout=60).result(60)),
    "future, many requests": threads(lambda stub: stub.Collect.future(iter([Message()]), timeout=60).result(60)),
    "stream": threads(lambda stub: list(stub.Expand(Message(count=1), timeout=60))),
    "stream, many requests": threads(lambda stub: list(stub.Chat(iter([Message()]), timeout=60))),
    "asyncio": on_loop(lambda stub: stub.Unary(Message(), timeout=60)),
    "asyncio, awaited later": on_loop(awaited_later),
    "asyncio, many requests": on_loop(lambda stub: stub.Collect(iter([Message()]), timeout=60)),
    "asyncio, stream": on_loop(lambda stub: drained(stub.Expand(Message(count=1), timeout=60))),
    "asyncio, stream, many requests": on_loop(lambda stub: drained(stub.Chat(iter([Message()]), timeout=60))),
    "asyncio, stream that is read": on_loop(read),
}


def held(mesh):
    """All that calls take and must give back."""
    status = mesh.status()
    found = [c["active"] for c in status["clusters"]] + [c["retries_active"] for c in status["clusters"]]
    for policy in status["resilience"]:
        found += [policy["active"], policy["bulkhead"]["in_use"], policy["bulkhead"]["waiting"]]
    core = mesh._core
    found += [sum(alarm.ring is not None for _, _, alarm in each._due) for each in (core.alarms, core.real_alarms)]
    return sum(found)


@pytest.fixture(scope="module")
def server():
    with EchoServer() as made:
        yield made


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
async def test_the_attempt_fails_and_nothing_is_kept(monkeypatch, server, stage, way, policy):
    owner, name, broken, code = STAGES[stage]
    rules, more = POLICIES[policy]
    problems = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    before = asyncio.all_tasks()
    with mesh_of(server, rules=rules, more=[more], seed=1) as mesh:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            for _ in range(3):  # of one slot, and one place in line
                with pytest.raises(grpc.RpcError) as caught:
                    await asyncio.wait_for(WAYS[way](mesh), 60)
                assert caught.value.code() is code
                assert isinstance(caught.value.__cause__, Odd)
                assert "Odd: no " in caught.value.details()
        assert await soon(lambda: held(mesh) == 0), held(mesh)
        await asyncio.wait_for(WAYS[way](mesh), 60)
        assert await soon(lambda: held(mesh) == 0), held(mesh)
    gc.collect()
    assert await soon(lambda: asyncio.all_tasks() == before)
    assert not problems
