"""Connectivity of channels as endpoint health: an endpoint that cannot be connected to is avoided as long as there are
others, until its channel says that it is back.

The channel that is watched is the one that the attempt was made on, hence one of the runtime that the attempt belongs to.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING

import grpc

from meshlib.transport.grpcio.client.loops import soon_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Send
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import GrpcRequest
    from meshlib.transport.grpcio.client.upstream import Upstream

log = logging.getLogger("meshlib.grpc")

READY = grpc.ChannelConnectivity.READY

ASKED_EVERY = 2.0
"""Seconds between asking a channel of threads to connect. grpcio asks once: a channel that was ready for a moment, which
nobody need have been told of, is idle afterwards, and as its endpoint is avoided no call wakes it."""
STALLED = 5.0
"""Seconds between checks whether a loop that watches a channel is running at all."""


def lost_connection(core: MeshCore, upstream: Upstream, effect: Send[GrpcRequest]) -> None:
    """An attempt on ``upstream`` could not connect."""
    cluster, endpoint = effect.cluster, effect.endpoint
    if not endpoint.reachable or len(cluster.endpoints) < 2 or upstream.watching is not None:
        return
    cluster.state.observe_health(endpoint, reachable=False)
    try:
        if upstream.loop is None:
            _watch_from_thread(core, upstream, cluster, endpoint)
        else:
            _watch_on_loop(core, upstream, cluster, endpoint)
    except Exception:
        # nobody would say that it is back
        log.warning("the channel to %s cannot be watched: the next attempt will tell", endpoint.key, exc_info=True)
        upstream.watching = None
        cluster.state.observe_health(endpoint, reachable=True)


def _watch_ender(upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState) -> Callable[[], None]:
    """What ends the watch of an upstream: it is back, or nobody knows any more and the next attempt will tell. Keeps
    neither the channel nor the cluster, which a reload may have bound anew meanwhile."""
    watched, state = weakref.ref(upstream), cluster.state

    def end_watch() -> None:
        here = watched()
        if here is not None:
            here.watching = None
        state.observe_health(endpoint, reachable=True)

    return end_watch


def _watch_from_thread(core: MeshCore, upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState) -> None:
    end_watch = _watch_ender(upstream, cluster, endpoint)
    watched = weakref.ref(upstream)

    def stop() -> None:
        here = watched()
        if here is not None:
            here.channel.unsubscribe(changed)

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state is READY:
            stop()
            end_watch()

    def stop_and_end() -> None:
        stop()
        end_watch()

    alarms = core.real_alarms

    def ask_again() -> None:
        here = watched()
        if here is not None and here.watching is stop_and_end:
            alarms.after(ASKED_EVERY, ask_again)  # first: where no thread can be had, the next time asks
            here.channel.subscribe(_ignore, try_to_connect=True)
            here.channel.unsubscribe(_ignore)

    upstream.watching = stop_and_end
    upstream.subscribed = True
    upstream.channel.subscribe(changed, try_to_connect=True)
    alarms.after(ASKED_EVERY, ask_again)


def _ignore(_: grpc.ChannelConnectivity) -> None:
    """Told of nothing: subscribed only to ask for a connection."""


def _watch_on_loop(core: MeshCore, upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState) -> None:
    end_watch = _watch_ender(upstream, cluster, endpoint)
    channel, loop, alarms = upstream.channel, asyncio.get_running_loop(), core.real_alarms

    async def until_ready() -> None:
        try:
            state = channel.get_state(try_to_connect=True)
            while state is not READY:
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
        finally:  # cancelled with its loop, too
            end_watch()

    task = loop.create_task(until_ready())

    def stop() -> None:
        soon_on(loop, task.cancel)
        end_watch()

    def check_loop() -> None:
        if task.done():
            return
        if loop.is_running():
            alarms.after(STALLED, check_loop)
        else:  # others call this endpoint too, and must not wait for a loop that nobody runs
            stop()

    upstream.watching = stop
    alarms.after(STALLED, check_loop)
