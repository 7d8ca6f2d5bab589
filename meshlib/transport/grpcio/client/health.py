"""grpc.health.v1: what an endpoint says of itself decides whether it gets calls.

Asked for as gRPC's own clients are: by ``healthCheckConfig`` in the channel option ``grpc.service_config``. A server without
the service counts as healthy; one that cannot be reached is not judged here (connectivity and outlier detection do that).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import grpc

from meshlib.problems import MeshError
from meshlib.transport.grpcio.client.loops import soon_on

if TYPE_CHECKING:
    from meshlib.alarms import Alarms
    from meshlib.engine.cluster import BoundCluster
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.grpcio.client.upstream import Upstream

log = logging.getLogger("meshlib.grpc")
WATCH = "/grpc.health.v1.Health/Watch"
AGAIN = 1.0
"""Seconds before a broken watch is begun again."""


def watch(upstream: Upstream, cluster: BoundCluster, endpoint: EndpointState, service: str, alarms: Alarms) -> None:
    """Follow the health of ``service`` ("" for the whole server) for as long as the channel is in use."""
    try:
        from grpc_health.v1 import health_pb2
    except ImportError as error:
        raise MeshError("healthCheckConfig needs grpcio-health-checking: pip install 'sidecarless[grpc]'") from error
    observer = _HealthObserver(cluster, endpoint, health_pb2.HealthCheckResponse.SERVING)
    request: object = health_pb2.HealthCheckRequest(service=service)
    invoke = upstream.channel.unary_stream(
        WATCH,
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    if upstream.loop is None:
        upstream.ended.append(_ThreadWatch(invoke, request, observer, alarms).stop)
    else:
        loop = asyncio.get_running_loop()
        task = loop.create_task(_follow(invoke, request, observer, alarms))

        def stop() -> None:
            soon_on(loop, task.cancel)
            observer(None)

        upstream.ended.append(stop)


class HealthResponse(Protocol):
    """``grpc.health.v1.HealthCheckResponse``."""

    status: int


class Watch(Protocol):
    """Its stream, of threads."""

    def __iter__(self) -> Iterator[HealthResponse]: ...
    def cancel(self) -> bool: ...


LoopWatch = AsyncIterable[HealthResponse]


class _HealthObserver:
    """Tells the cluster's state, which outlives reloads, what the endpoint says."""

    def __init__(self, cluster: BoundCluster, endpoint: EndpointState, serving: int) -> None:
        self._state = cluster.state
        self._endpoint = endpoint
        self._serving = serving

    def __call__(self, status: int | None) -> None:
        """``status`` of the response; None: it does not say (any more)."""
        self._state.observe_health(self._endpoint, serving=status is None or status == self._serving)

    def broken(self, code: grpc.StatusCode) -> bool:
        """The watch ended; whether to begin again."""
        if code is grpc.StatusCode.UNIMPLEMENTED:
            log.warning("%s has no health service; it counts as healthy", self._endpoint.key)
            self(None)
            return False
        return True

    def raised(self) -> None:
        """The watch raised what it should not (call from its handler); it is begun again."""
        log.warning("the health of %s cannot be asked for; trying again", self._endpoint.key, exc_info=True)
        self(None)


class _ThreadWatch:
    """A watch in a thread of its own: gRPC's streams can only be read by blocking."""

    def __init__(
        self, invoke: Callable[..., Watch], request: object, observer: _HealthObserver, alarms: Alarms
    ) -> None:
        self._invoke, self._request, self._observer, self._alarms = invoke, request, observer, alarms
        self._stopped = False
        self._stream: Watch | None = None
        self._begin()

    def _begin(self) -> None:
        if not self._stopped:
            threading.Thread(target=self._follow, name="meshlib-grpc-health", daemon=True).start()

    def _follow(self) -> None:
        try:
            stream = self._stream = self._invoke(self._request, wait_for_ready=True)
            if self._stopped:
                stream.cancel()
            for response in stream:
                self._observer(response.status)
        except grpc.RpcError as error:
            if self._stopped or not self._observer.broken(error.code()):
                return
        except Exception:  # noqa: BLE001 (logged by it: nobody else would hear of it, and the endpoint stay as it was)
            if self._stopped:
                return
            self._observer.raised()
        if not self._stopped:
            self._alarms.after(AGAIN, self._begin)

    def stop(self) -> None:
        self._stopped = True
        if self._stream is not None:
            self._stream.cancel()
        self._observer(None)  # nobody asks any more


async def _follow(invoke: Callable[..., LoopWatch], request: object, observer: _HealthObserver, alarms: Alarms) -> None:
    while True:
        try:
            async for response in invoke(request, wait_for_ready=True):
                observer(response.status)
        except grpc.aio.AioRpcError as error:
            if not observer.broken(error.code()):
                return
        except Exception:  # noqa: BLE001 (logged by it: nobody else would hear of it, and the endpoint stay as it was)
            observer.raised()
        await alarms.pause(AGAIN)
