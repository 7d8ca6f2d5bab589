"""The connectivity of a mesh channel: that of the endpoints its calls may go to, taken together."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec

import grpc

from meshlib.transport.grpcio.client.attempt import endpoint_upstream
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.upstream import Upstream

if TYPE_CHECKING:
    import asyncio

    from meshlib.alarms import Alarm
    from meshlib.transport.grpcio.client.dialer import Dialer

log = logging.getLogger("meshlib.grpc")

State = grpc.ChannelConnectivity
Watcher = Callable[[State], None]
"""Who is told of a channel's state."""
P = ParamSpec("P")
RESYNC = 0.5
"""Seconds between looks for endpoints that have come or gone, while somebody is subscribed."""

_BEST_FIRST = (State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE, State.SHUTDOWN)


def together(states: list[State]) -> State:
    """The best of the endpoints' states; without endpoints there is nobody to connect to."""
    return next((state for state in _BEST_FIRST if state in states), State.TRANSIENT_FAILURE)


def upstreams_of(dialer: Dialer, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[Upstream]:
    """Channels to every usable endpoint that some rule of the host may send a call to."""
    core = dialer.core
    live = core.live
    if live is None:
        return
    virtual_host = live.snapshot.virtual_host(dialer.dialled, dialer.scheme, dialer.authority)
    keys = dict.fromkeys(d.cluster for rule in virtual_host.rules for d in rule.destinations if d.cluster)
    for key in keys:
        cluster = live.cluster(key)
        for endpoint in cluster.usable:
            try:
                yield endpoint_upstream(core, dialer.settings, cluster, endpoint, loop=loop)
            except CannotConnect:
                continue


def _weakly(method: Callable[P, None]) -> Callable[P, None]:
    """``method``, for those who must not keep its object: a channel that its user drops is not watched any more."""
    found = weakref.WeakMethod(method)

    def call(*arguments: P.args, **named: P.kwargs) -> None:
        there = found()
        if there is not None:
            there(*arguments, **named)

    return call


class Connectivity:
    """Subscriptions to a channel of threads."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._lock = threading.RLock()
        self._callbacks: list[Watcher] = []
        self._states: dict[Upstream, State] = {}
        self._watchers: dict[Upstream, Watcher] = {}
        self._told: dict[Watcher, State] = {}
        self._connect = False
        self._alarm: Alarm | None = None

    def subscribe(self, callback: Watcher, try_to_connect: bool) -> None:
        with self._lock:
            self._callbacks.append(callback)
            self._connect = self._connect or try_to_connect
        self._sync()

    def unsubscribe(self, callback: Watcher) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
                self._told.pop(callback, None)
            if not self._callbacks:
                self._stop()

    def __del__(self) -> None:
        if self._callbacks:
            self._stop()

    def close(self) -> None:
        with self._lock:
            self._callbacks.clear()
            self._stop()

    def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for upstream, watcher in self._watchers.items():
            upstream.channel.unsubscribe(watcher)
        self._watchers.clear()
        self._states.clear()
        self._told.clear()
        self._connect = False

    def _sync(self) -> None:
        """Watch the endpoints that there are now."""
        with self._lock:
            if not self._callbacks:
                return
            if self._alarm is not None:
                self._alarm.cancel()
            core = self._dialer.core
            if core.live is not None:
                self._alarm = core.alarms.after(RESYNC, _weakly(self._sync))
            wanted = list(upstreams_of(self._dialer))
            for gone in [u for u in self._watchers if u not in wanted]:
                gone.channel.unsubscribe(self._watchers.pop(gone))
                self._states.pop(gone, None)
            for upstream in wanted:
                if upstream not in self._watchers:
                    self._states[upstream] = State.IDLE
                    watcher = self._watchers[upstream] = self._watcher(upstream)
                    upstream.subscribed = True
                    upstream.channel.subscribe(watcher, try_to_connect=self._connect)
        self._tell()

    def _watcher(self, upstream: Upstream) -> Watcher:
        changed, watched = _weakly(self._changed), weakref.ref(upstream)
        return lambda state: changed(watched(), state)

    def _changed(self, upstream: Upstream | None, state: State) -> None:
        with self._lock:
            if upstream in self._watchers:
                self._states[upstream] = state
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            state = together(list(self._states.values())) if self._dialer.core.live is not None else State.SHUTDOWN
            news = [c for c in self._callbacks if self._told.get(c) is not state]
            for callback in news:
                self._told[callback] = state
        for callback in news:
            try:
                callback(state)
            except Exception:
                log.exception("a callback that is subscribed to a channel's state raised")
