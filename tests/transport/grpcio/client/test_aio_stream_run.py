"""A call on asyncio with a stream of responses: delivered by its first message or its head, and over with its status."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from meshlib.transport.grpcio.client import aio_stream_run
from meshlib.transport.grpcio.client.aio_stream_run import StreamOnLoop, StreamRun
from tests.support.grpc_begun import begun, dialer_of
from tests.support.grpc_runtimes import mesh_of


class Inner:
    """grpcio's call: its messages and its head are there, its status comes when the test says so."""

    def __init__(self, *messages, head=(), silent=False):
        self.messages, self.head, self.silent = messages, head, silent
        self.over, self.cancelled, self.status = asyncio.Event(), False, grpc.StatusCode.OK

    def __call__(self, data, **keywords):
        return self

    async def __aiter__(self):
        for message in self.messages:
            yield message
        if self.silent:
            await self.over.wait()

    async def initial_metadata(self):
        return self.head

    async def code(self):
        await self.over.wait()
        return self.status

    async def details(self):
        return ""

    async def wait_for_connection(self):
        """It is connected."""

    def time_remaining(self):
        return None

    def add_done_callback(self, callback):
        """Never called."""

    def cancel(self):
        self.cancelled = True
        self.over.set()
        return True


@pytest.fixture
async def mesh():
    made = mesh_of(1)
    yield made
    await made.aclose()


def run_of(mesh, monkeypatch, inner):
    monkeypatch.setattr(aio_stream_run, "upstream_for", lambda *_: SimpleNamespace())
    monkeypatch.setattr(aio_stream_run, "invoker", lambda *_: inner)
    dialer = dialer_of(mesh)
    call, exchange = begun(mesh, "Expand", "unary_stream")
    runtime = StreamOnLoop(dialer.core, dialer.settings)
    return StreamRun(call, exchange, runtime, None, dialer.core.telemetry, set())


def active(mesh):
    return sum(cluster["active"] for cluster in mesh.status()["clusters"])


async def test_its_first_message_delivers_it_and_its_status_ends_it(mesh, monkeypatch):
    inner = Inner(b"1", b"2")
    run = run_of(mesh, monkeypatch, inner)
    run.begin()
    await run.delivered.wait()
    assert (run.inner, await run.first, await run.messages.read()) == (inner, b"1", b"2")
    assert (run.over, run.under_way, active(mesh)) == (False, {run}, 1)
    inner.status = grpc.StatusCode.ABORTED
    inner.over.set()
    assert await run.task is run.result
    assert (run.over, run.under_way, run.call.record.grpc_status, active(mesh)) == (True, set(), 10, 0)


async def test_so_does_a_head_that_tells_something_though_no_message_comes(mesh, monkeypatch):
    inner = Inner(head=(("x", "1"),), silent=True)
    run = run_of(mesh, monkeypatch, inner)
    run.begin()
    await run.delivered.wait()
    assert (run.inner, run.first.done(), run.over) == (inner, False, False)
    inner.over.set()
    await run.task
    assert await run.first is grpc.aio.EOF


async def test_one_that_ends_without_any_message_has_nothing_to_read(mesh, monkeypatch):
    run = run_of(mesh, monkeypatch, Inner())
    run.begin()
    result = await run.task
    assert (result.grpc_status, run.inner, run.messages, active(mesh)) == (0, None, None, 0)
    assert run.delivered.is_set()


@pytest.mark.parametrize("delivered", [True, False])
async def test_who_cancels_it_cancels_grpcios_call(mesh, monkeypatch, delivered):
    inner = Inner(*([b"1"] if delivered else []), silent=True)
    run = run_of(mesh, monkeypatch, inner)
    run.begin()
    await (run.delivered.wait() if delivered else run.connected())
    assert run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.task
    assert (inner.cancelled, run.over, active(mesh)) == (True, True, 0)
    assert (run.call.record.grpc_status, run.call.record.flags) == (1, "DC")
    if delivered:
        run.first.cancel()


async def test_who_waits_for_a_connection_waits_for_an_attempt_or_for_the_end(mesh, monkeypatch):
    run = run_of(mesh, monkeypatch, Inner())
    waiting = asyncio.create_task(run.connected())
    await asyncio.sleep(0)
    assert not waiting.done()
    run.begun(Inner())
    await waiting
    other = run_of(mesh, monkeypatch, Inner())
    waiting = asyncio.create_task(other.connected())
    await asyncio.sleep(0)
    other.cancel()
    await waiting
    assert other.over
