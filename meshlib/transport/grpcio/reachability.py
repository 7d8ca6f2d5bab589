"""Connectivity of channels as endpoint health: an endpoint that cannot be connected to is avoided as long as there are
others, until its channel says that it is back."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Send
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.grpcio.upstreams import Upstream

READY = grpc.ChannelConnectivity.READY


def lost_connection(effect: Send) -> None:
    """An attempt could not connect."""
    cluster, endpoint = effect.cluster, effect.endpoint
    if not endpoint.reachable or len(cluster.endpoints) < 2:
        return
    upstream = next(
        (
            target
            for key, target in list(cluster.targets.items())
            if isinstance(key, tuple) and key[0] is endpoint and hasattr(target, "watching")
        ),
        None,
    )
    if upstream is None or upstream.watching is not None:
        return
    cluster.observe_health(endpoint, reachable=False)
    if upstream.loop is None:
        _watch_from_thread(upstream, cluster, endpoint)
    else:
        _watch_on_loop(upstream, cluster, endpoint)


def _watch_from_thread(upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState) -> None:
    channel = upstream.channel
    bound = weakref.ref(cluster)

    def changed(state: Any) -> None:
        if state is not READY:
            return
        channel.unsubscribe(changed)
        upstream.watching = None
        here = bound()
        if here is not None:
            here.observe_health(endpoint, reachable=True)

    def stop() -> None:
        channel.unsubscribe(changed)
        endpoint.reachable = True  # nobody knows any more: the next attempt will tell

    upstream.watching = stop
    upstream.subscribed = True
    channel.subscribe(changed, try_to_connect=True)


def _watch_on_loop(upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState) -> None:
    bound = weakref.ref(cluster)
    channel: Any = upstream.channel

    async def until_ready() -> None:
        state = channel.get_state(try_to_connect=True)
        while state is not READY:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
        upstream.watching = None
        here = bound()
        if here is not None:
            here.observe_health(endpoint, reachable=True)

    task = asyncio.get_running_loop().create_task(until_ready())

    def stop() -> None:
        if not upstream.loop.is_closed():
            task.cancel()
        endpoint.reachable = True  # nobody knows any more: the next attempt will tell

    upstream.watching = stop
