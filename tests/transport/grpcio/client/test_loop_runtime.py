"""One attempt with a single response on asyncio: what it comes to, and whose cancellation it is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.grpcio.client import loop_runtime
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.loop_runtime import OnLoop
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.upstream import Upstream
from tests.support.grpc_begun import begun, dialer_of, first_send
from tests.support.grpc_echo import EchoServer
from tests.support.grpc_runtimes import mesh_of


@pytest.fixture
def server():
    with EchoServer("a") as made:
        yield made


@pytest.fixture
async def mesh(server):
    made = mesh_of(server)
    yield made
    await made.aclose()


def on_loop(mesh):
    dialer = dialer_of(mesh)
    return OnLoop(dialer.core, dialer.settings)


async def sent(mesh, **more):
    """The outcome of a first attempt, and its effect."""
    _, exchange = begun(mesh, **more)
    effect = first_send(exchange)
    try:
        return await on_loop(mesh).send(effect), effect
    finally:
        exchange.close()


class Called:
    """grpcio's multicallable: its call is a future of the test's."""

    def __init__(self, monkeypatch):
        self.call = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()
        monkeypatch.setattr(loop_runtime, "upstream_for", lambda *_: SimpleNamespace(calls={}))
        monkeypatch.setattr(loop_runtime, "callable_on", lambda *_: self)

    def __call__(self, data, **keywords):
        self.data, self.keywords = data, keywords
        self.asked.set()
        return self.call


async def test_its_message_is_the_outcome_and_its_channel_is_kept_for_the_loop(server, mesh):
    outcome, effect = await sent(mesh, metadata=(("y", "2"),))
    assert type(outcome) is GrpcOutcome
    assert (outcome.message.server, outcome.code) == ("a", 0)
    assert server.seen[0].metadata["y"] == "2"
    await sent(mesh)
    [(key, upstream)] = effect.cluster.targets.items()
    assert key == (effect.endpoint, dialer_of(mesh).settings, asyncio.get_running_loop(), "")
    assert type(upstream) is Upstream
    assert upstream.under_way == set()


async def test_a_status_of_the_servers_is_its_word(server, mesh):
    server.echo.script = ["NOT_FOUND"]
    outcome, _ = await sent(mesh)
    assert (outcome.failure, outcome.code, outcome.grpc_status) == (None, 5, 5)


@pytest.mark.parametrize(
    ("error", "failure", "detail"),
    [
        (CannotConnect("no channel"), Failure.CONNECT_FAILED, "no channel"),
        (grpc.aio.InternalError("batch"), Failure.INVALID_REQUEST, "Invalid metadata"),
        (LookupError("odd"), Failure.INVALID_REQUEST, "the call could not be made: LookupError: odd"),
    ],
)
async def test_what_raises_is_its_failure(mesh, monkeypatch, error, failure, detail):
    Called(monkeypatch).call.set_exception(error)
    outcome, _ = await sent(mesh)
    assert (outcome.failure, outcome.detail) == (failure, detail)


async def test_who_cancels_the_task_cancels_the_attempt(mesh, monkeypatch):
    called = Called(monkeypatch)
    task = asyncio.create_task(sent(mesh, messages=b"data"))
    await called.asked.wait()
    assert called.data == b"data"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called.call.cancelled()


async def test_a_call_that_the_meshs_closing_cancels_is_no_cancelled_task(mesh, monkeypatch):
    called = Called(monkeypatch)
    task = asyncio.create_task(sent(mesh))
    await called.asked.wait()
    await mesh.aclose()
    called.call.cancel()
    outcome, _ = await task
    assert outcome.failure is Failure.CLOSED


async def test_a_race_says_who_has_won(mesh):
    _, exchange = begun(mesh)
    tries = SimpleNamespace(another=lambda: None, wins=lambda outcome: True, lost=lambda send: None)
    race = SimpleNamespace(first=first_send(exchange), delay=60.0, tries=tries)
    await on_loop(mesh).race(race)
    assert race.winner is race.first
    assert race.winner.outcome.message.server == "a"
    exchange.close()
