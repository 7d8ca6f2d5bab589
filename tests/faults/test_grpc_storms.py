"""gRPC under storms: cancellations at any moment, channels without number, servers that are killed for good."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter

import grpc
import pytest

from benchmarks.free_ports import free_port
from tests.support.grpc_echo import EchoServer, Message, eventually, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of, quick, soon
from tests.support.resources import to

pytestmark = pytest.mark.fault

GUARDED = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "echo", "namespace": "default"},
    "spec": {
        "host": HOST,
        "bulkhead": {"maxConcurrent": 40, "maxWaiting": 400},
        "hedging": {"delay": "3ms", "unsafeMethods": True},
        "circuitBreaker": {"failureThreshold": 1000, "resetTimeout": "1s"},
    },
}
BATCHES = 200 if os.environ.get("MESHLIB_FAULTS") else 60
"""Of calls, most of which are cancelled."""
RULES = [{"route": [to(HOST)], "timeout": "60s", "retries": quick("unavailable,reset,cancelled", 3)}]


def leaks(mesh):
    """Everything that must be back at zero."""
    status = mesh.status()
    found = [c["active"] for c in status["clusters"]] + [c["retries_active"] for c in status["clusters"]]
    for policy in status["resilience"]:
        found += [policy["active"], policy["bulkhead"]["in_use"], policy["bulkhead"]["waiting"]]
    return sum(found)


async def test_thousands_of_cancellations_on_asyncio_leak_nothing():
    rng = random.Random(5)
    script = ["ok", 0.002, "UNAVAILABLE", 0.01, ("after", 1, "UNAVAILABLE")] * 50 * BATCHES + ["ok"]
    with EchoServer(script=script, workers=64) as server, mesh_of(server, rules=RULES, more=[GUARDED], seed=1) as mesh:
        stub = stubs.EchoStub(mesh.aio_grpc_channel(TARGET))

        async def one(kind):
            if kind == 0:
                await stub.Unary(Message(text="x"))
            elif kind == 1:
                async for _ in stub.Expand(Message(count=3)):
                    pass
            elif kind == 2:
                await stub.Collect(iter([Message()] * 2))
            else:
                async for _ in stub.Chat(iter([Message()] * 2)):
                    pass

        results: Counter[str] = Counter()

        async def cancelled(i):
            task = asyncio.create_task(one(i % 4))
            await asyncio.sleep(rng.choice((0, 0, 0.0005, 0.002, 0.005)))
            task.cancel()
            with contextlib.suppress(grpc.RpcError):
                try:
                    await task
                    results["done"] += 1
                except asyncio.CancelledError:
                    results["cancelled"] += 1

        for batch in range(BATCHES):
            await asyncio.gather(*[cancelled(batch * 50 + i) for i in range(50)])
        assert results["cancelled"] > 12 * BATCHES
        assert await soon(lambda: leaks(mesh) == 0)
        server.echo.script = ["ok"]
        assert (await stub.Unary(Message(text="after"), timeout=60)).text == "after"
        await mesh.aclose()


def test_thousands_of_cancellations_in_threads_leak_nothing():
    rng = random.Random(6)
    script = ["ok", 0.002, "UNAVAILABLE", 0.01, ("after", 1, "UNAVAILABLE")] * 50 * BATCHES + ["ok"]
    with EchoServer(script=script, workers=64) as server, mesh_of(server, rules=RULES, more=[GUARDED], seed=2) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        cancelled = 0
        for batch in range(BATCHES):
            calls = []
            for i in range(30):
                kind = i % 4
                if kind == 0:
                    calls.append(stub.Unary.future(Message(text="x")))
                elif kind == 1:
                    calls.append(stub.Expand(Message(count=3)))
                elif kind == 2:
                    calls.append(stub.Collect.future(iter([Message()] * 2)))
                else:
                    calls.append(stub.Chat(iter([Message()] * 2)))
            if batch % 3:
                time.sleep(rng.choice((0.0005, 0.002, 0.004)))
            for call in calls:
                cancelled += bool(call.cancel())
        assert cancelled > 5 * BATCHES
        assert eventually(lambda: leaks(mesh) == 0, 60)
        server.echo.script = ["ok"]
        assert stub.Unary(Message(text="after"), timeout=60).text == "after"


def _memory():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_a_thousand_channels_opened_and_closed_leave_memory_flat():
    # a pool of one: of several, it starts one more whenever the next call comes before the last worker counts as idle again
    with EchoServer(workers=1) as server, mesh_of(server) as mesh:

        def blocking(count):
            for _ in range(count):
                with mesh.grpc_channel(TARGET, options=[("grpc.max_send_message_length", 1 << 20)]) as channel:
                    assert stubs.EchoStub(channel).Unary(Message(text="x")).text == "x"

        async def on_loop(count):
            for _ in range(count):
                async with mesh.aio_grpc_channel(TARGET) as channel:
                    assert (await stubs.EchoStub(channel).Unary(Message(text="x"))).text == "x"

        await asyncio.to_thread(blocking, 200)
        await on_loop(200)
        server.seen.clear()
        gc.collect()
        before, threads = _memory(), threading.active_count()
        await asyncio.to_thread(blocking, 1000)
        await on_loop(1000)
        assert len({s.peer for s in server.seen}) <= 2
        server.seen.clear()
        gc.collect()
        assert _memory() - before < 8 << 20
        assert threading.active_count() <= threads + 1
        await mesh.aclose()


SERVER = """
import sys
sys.path.insert(0, ".")
from tests.support.grpc_echo import EchoServer
server = EchoServer(port=int(sys.argv[1]), workers=32)
print(server.port, flush=True)
sys.stdin.read()
"""


def _server(port):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert int(process.stdout.readline()) == port
    return process


def more_succeed(results):
    aim = results["ok"] + 30
    assert eventually(lambda: results["ok"] > aim, 60)


def _end(process):
    process.kill()
    process.wait(60)
    process.stdin.close()
    process.stdout.close()


def test_a_process_killed_under_load_loses_no_unary_call_that_may_be_retried():
    results: Counter[str] = Counter()
    stop = threading.Event()
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    rules = [{"route": [to(HOST)], "retries": quick("unavailable,reset,connect-failure,refused-stream", 4)}]
    port = free_port()
    victim = _server(port)
    with EchoServer() as other, mesh_of(port, other, rules=rules, policy=policy) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))

        def load(kind):
            while not stop.is_set():
                try:
                    if kind:
                        assert stub.Collect(iter([Message(text="x")] * 2), timeout=60).text == "xx"
                    else:
                        assert stub.Unary(Message(text="x"), timeout=60).text == "x"
                    results["ok"] += 1
                except grpc.RpcError as error:
                    results[f"{error.code().name}: {error.details()}"] += 1

        threads = [threading.Thread(target=load, args=(i % 2,)) for i in range(6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                more_succeed(results)
                _end(victim)
                more_succeed(results)
                victim = _server(port)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
            _end(victim)
        assert set(results) == {"ok"}
        assert eventually(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))
