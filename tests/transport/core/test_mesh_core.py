"""What all transports of a mesh share: connections a loop, what a reload leaves, what closing and a fork do."""

from __future__ import annotations

import asyncio
import gc
import weakref

import httpx
import pytest

import meshlib
from meshlib.engine.plain_request import PlainRequest
from meshlib.transport.core.mesh_core import on_loop
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.target import Target
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service

HTTP = PlainRequest("GET", "http", "reviews:9080", "/", {})


class Channel:
    """As gRPC's: a target that connects by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.told: list[str] = []

    def forget(self) -> None:
        self.told.append("forget")

    def close(self) -> None:
        self.told.append("close")


class Channels:
    def after_fork(self) -> None: ...

    def abandon(self, cluster) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def core():
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)], clock=FakeClock()) as mesh:
        yield mesh._core


def cluster_of(core):
    (key,) = [key for key in core.live.snapshot.clusters if "reviews" in key]
    return core.live.cluster(key)


def target_of(core, limits: ClientLimits | None = None) -> Target:
    cluster = cluster_of(core)
    (endpoint,) = cluster.endpoints
    return find_target(core, cluster, endpoint, HTTP, ClientSettings(limits=limits))


async def upstream_of(core):
    return core.loop_upstream()


def test_a_loop_has_its_own_connections_and_loses_them_with_its_end(core):
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    one = first.run_until_complete(upstream_of(core))
    assert first.run_until_complete(upstream_of(core)) is one
    first.close()
    assert second.run_until_complete(upstream_of(core)) is not one
    assert list(core.loops) == [second]
    second.close()


def test_what_connects_by_itself_on_a_loop_is_closed_with_its_end_and_of_others_nothing(core):
    async def job():
        core.loop_upstream()
        return Channel(asyncio.get_running_loop())

    targets, other, of_threads = cluster_of(core).targets, Channel(asyncio.new_event_loop()), Channel()

    async def main():
        targets["own"] = own = await job()
        targets["other"], targets["threads"] = other, of_threads
        return own

    own = asyncio.run(main())
    assert (own.told, other.told, of_threads.told) == (["forget"], [], [])
    assert list(targets.values()) == [other, of_threads]
    assert not core.loops
    other.loop.close()


def test_connections_that_were_made_before_a_fork_are_left_to_the_parent_as_a_loop_ends(core):
    """They are its sockets: a goodbye of TLS would be said in its name."""

    async def main():
        upstream = core.loop_upstream()
        upstream.pid += 1
        return upstream

    upstream = asyncio.run(main())
    assert not upstream.closed
    assert list(core.loops.values()) == [upstream]


def test_a_mesh_that_was_dropped_wants_to_know_of_no_loop():
    ended = []

    async def main():
        mesh = meshlib.Mesh.from_resources([service("reviews")], clock=FakeClock())
        ends = mesh._core.loop_ends
        ends._ended = ended.append
        mesh._core.loop_upstream()
        core = weakref.ref(mesh._core)
        del mesh
        gc.collect()
        assert core() is None

    asyncio.run(main())
    assert ended == []


async def test_a_loop_that_comes_when_the_mesh_is_closed_gets_connections_that_are_closed(core):
    core.close()
    assert core.loop_upstream().closed


async def test_closing_closes_every_part(core):
    upstream, channel = core.loop_upstream(), Channel()
    core.channels = Channels()
    cluster_of(core).targets["a"] = channel
    core.close()
    assert (core.closed, core.live) == (True, None)
    assert (core.upstream.closed, upstream.closed, core.alarms.closed) == (True, True, True)
    assert channel.told == ["close"]


class Gone:
    """An endpoint that the cluster has no more."""

    key = "127.0.0.1:1"


def test_a_reload_keeps_the_targets_that_it_has_a_use_for_and_retires_the_others(core):
    kept, channel = target_of(core), Channel()
    cluster_of(core).targets[Gone()] = channel
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2)]) as more:
        core.install(more._core.live.snapshot)
    assert (kept.retired, channel.told) == (False, ["forget"])
    assert kept in cluster_of(core).targets.values()
    with meshlib.Mesh.from_resources([]) as empty:
        core.install(empty._core.live.snapshot)
    assert kept.retired


async def test_targets_that_are_forgotten_go_on_every_loop(core, monkeypatch):
    target, dropped = target_of(core), []
    upstream = core.loop_upstream()
    monkeypatch.setattr(core.upstream, "drop_idle", dropped.append)
    monkeypatch.setattr(upstream, "drop_targets", dropped.extend)
    core.forget_targets([target])
    assert dropped == [target]
    await asyncio.sleep(0)
    assert dropped == [target, target]


def test_a_client_with_limits_that_is_closed_takes_its_own_targets_with_it(core):
    limits = ClientLimits(httpx.Limits(max_connections=1))
    own, shared = target_of(core, limits), target_of(core)
    core.forget_limits(limits)
    assert (own.retired, shared.retired) == (True, False)
    assert list(cluster_of(core).targets.values()) == [shared]


@pytest.mark.parametrize("closed", [False, True])
def test_a_forked_child_begins_anew_and_stays_closed_if_it_was(core, closed):
    background, closing = core.background, core.closing
    if closed:
        core.close()
    core.after_fork()
    assert core.background is not background
    assert core.closing is not closing
    assert core.closed is closed
    background.close()


def test_a_loop_that_is_closed_is_told_nothing():
    loop = asyncio.new_event_loop()
    loop.close()
    on_loop(loop, lambda: pytest.fail("called"))
