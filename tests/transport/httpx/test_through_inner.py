"""The runtimes through somebody else's transport: the mesh's end is theirs, and of a race in threads the first try is run."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx
import pytest

import meshlib
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.httpx.inner import AsyncInner
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.httpx.through_inner import (
    AsyncThroughInner,
    SyncThroughInner,
    async_runtime,
    sync_runtime,
)
from meshlib.transport.runtimes.loop import AsyncNetwork
from meshlib.transport.runtimes.threads import SyncNetwork
from meshlib.transport.upstream.client_settings import ClientSettings


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_resources([]) as made:
        yield made


def attempt():
    endpoint = SimpleNamespace(endpoint=SimpleNamespace(address="10.0.0.1", port=8080))
    request = HttpxRequest(httpx.Request("GET", "http://reviews/"), None)
    return SimpleNamespace(call=SimpleNamespace(request=request), endpoint=endpoint, timeout=None, attempt=1)


class Seeing(httpx.BaseTransport):
    def __init__(self):
        self.seen = []

    def handle_request(self, request):
        self.seen.append(request)
        return httpx.Response(200)


class Silent(httpx.AsyncBaseTransport):
    """Never responds; ``error`` is what it was broken off with."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.error = None

    async def handle_async_request(self, _request):
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.error = error
            raise


def test_without_another_transport_the_meshs_own_connections_are_taken(mesh):
    core, settings = mesh._core, ClientSettings()
    assert type(sync_runtime(core, None, settings, httpx)) is SyncNetwork
    assert type(async_runtime(core, None, settings, httpx)) is AsyncNetwork
    assert type(sync_runtime(core, Seeing(), settings, httpx)) is SyncThroughInner
    assert type(async_runtime(core, httpx.AsyncHTTPTransport(), settings, httpx)) is AsyncThroughInner


def test_a_closed_mesh_asks_it_nothing(mesh):
    behind = Seeing()
    runtime = SyncThroughInner(mesh._core, behind, httpx)
    assert runtime.send(attempt()).status == 200
    mesh.close()
    assert runtime.send(attempt()).failure is Failure.CLOSED
    assert len(behind.seen) == 1


def test_in_threads_a_race_is_its_first_try(mesh):
    behind = Seeing()
    race = SimpleNamespace(first=attempt())
    SyncThroughInner(mesh._core, behind, httpx).race(race)
    assert race.winner is race.first
    assert (race.winner.outcome.status, len(behind.seen)) == (200, 1)


async def test_the_meshs_closing_breaks_off_what_it_waits_for():
    mesh = meshlib.Mesh.from_resources([])
    behind = Silent()
    sending = asyncio.create_task(AsyncThroughInner(mesh._core, behind, httpx).send(attempt()))
    await behind.asked.wait()
    await mesh.aclose()
    assert (await sending).failure is Failure.CLOSED
    assert isinstance(behind.error, asyncio.CancelledError)


async def test_who_cancels_the_call_is_no_closing_of_the_mesh():
    mesh = meshlib.Mesh.from_resources([])
    behind = Silent()
    sending = asyncio.create_task(AsyncThroughInner(mesh._core, behind, httpx).send(attempt()))
    await behind.asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await mesh.aclose()


async def test_a_timeout_that_is_not_the_closings_is_its_own(monkeypatch):
    async def late(*_):
        raise TimeoutError("of somebody else")

    mesh = meshlib.Mesh.from_resources([])
    monkeypatch.setattr(AsyncInner, "send", late)
    with pytest.raises(TimeoutError, match="of somebody else"):
        await AsyncThroughInner(mesh._core, Silent(), httpx).send(attempt())
    await mesh.aclose()


async def test_on_a_loop_a_race_is_won_by_whoever_responds():
    class Tries:
        def another(self):
            return None

        def wins(self, _outcome: Outcome):
            return True

        def lost(self, _send):
            raise AssertionError

    mesh = meshlib.Mesh.from_resources([])
    behind = httpx.MockTransport(lambda _: httpx.Response(200))
    race = SimpleNamespace(first=attempt(), delay=60.0, tries=Tries())
    await AsyncThroughInner(mesh._core, behind, httpx).race(race)
    assert race.winner is race.first
    assert race.winner.outcome.status == 200
    await mesh.aclose()
