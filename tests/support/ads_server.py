"""A control plane for grpcio's own xDS client: ADS (state of the world) in this process, resources from plain values.

The messages live in a descriptor pool of their own (``xds_descriptors.py`` says where they come from), so that no generated
module and no package beside grpcio and protobuf is needed. grpcio reads its bootstrap once a process: clients of
``xds:///`` therefore run in processes of their own, with ``bootstrap_environment``.
"""

from __future__ import annotations

import functools
import json
import lzma
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory

from tests.support.xds_descriptors import FILE

Resource = dict[str, Any]

_TYPES = "type.googleapis.com/"
LISTENER = _TYPES + "envoy.config.listener.v3.Listener"
ROUTES = _TYPES + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = _TYPES + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = _TYPES + "envoy.config.endpoint.v3.ClusterLoadAssignment"
_FILTERS = _TYPES + "envoy.extensions.filters."
_FAULT = "envoy.filters.http.fault"
_NAMES = {LISTENER: "name", ROUTES: "name", CLUSTER: "name", ENDPOINTS: "cluster_name"}
_ADS: Resource = {"ads": {}, "resource_api_version": "V3"}


# -- messages ----------------------------------------------------------------------------------------------------------
@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(lzma.decompress(FILE.read_bytes()))
    made = descriptor_pool.DescriptorPool()
    for file in files.file:
        made.Add(file)
    return made


@functools.cache
def message(name: str) -> Any:
    """The class of a message, by its full name."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def parse(resource: Resource) -> Any:
    """A resource (with "@type") as its message. Raises json_format.ParseError for a field that Envoy does not have."""
    fields = {k: v for k, v in resource.items() if k != "@type"}
    made = message(resource["@type"].removeprefix(_TYPES))()
    return json_format.ParseDict(fields, made, descriptor_pool=pool())


# -- resources from plain values ---------------------------------------------------------------------------------------
def listener(name: str, routes: Sequence[Resource]) -> list[Resource]:
    """What ``xds:///<name>`` asks for: a listener (fault and router filters) and its routes (``route``)."""
    manager = {
        "@type": _FILTERS + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"config_source": _ADS, "route_config_name": name},
        "http_filters": [
            {"name": _FAULT, "typed_config": {"@type": _FILTERS + "http.fault.v3.HTTPFault"}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _FILTERS + "http.router.v3.Router"}},
        ],
    }
    hosts = [{"name": name, "domains": ["*"], "routes": list(routes)}]
    return [
        {"@type": LISTENER, "name": name, "api_listener": {"api_listener": manager}},
        {"@type": ROUTES, "name": name, "virtual_hosts": hosts},
    ]


def route(
    clusters: Mapping[str, int],
    *,
    path: tuple[str, str] = ("prefix", ""),
    headers: Iterable[tuple[str, str, str]] = (),
    retry: Resource | None = None,
    max_stream_duration: float | None = None,
    abort: Resource | None = None,
    delay: Resource | None = None,
) -> Resource:
    """A route to clusters by weight.

    ``path`` is ("exact" | "prefix" | "regex", text), a header (name, "exact" | "prefix" | "regex" | "present", text).
    ``retry`` is a retry_policy, ``abort`` a FaultAbort and ``delay`` a FaultDelay with Envoy's field names;
    ``max_stream_duration`` in seconds is what gRPC has for a route's timeout.
    """
    kind, text = path
    match: Resource = {"safe_regex": {"regex": text}} if kind == "regex" else {_PATHS[kind]: text}
    match["headers"] = [_header(*header) for header in headers]
    weights = [{"name": name, "weight": weight} for name, weight in clusters.items()]
    action: Resource = {"weighted_clusters": {"clusters": weights}}
    if retry is not None:
        action["retry_policy"] = retry
    if max_stream_duration is not None:
        action["max_stream_duration"] = {"max_stream_duration": f"{max_stream_duration:g}s"}
    made: Resource = {"match": match, "route": action}
    faults = {k: v for k, v in (("abort", abort), ("delay", delay)) if v is not None}
    if faults:
        made["typed_per_filter_config"] = {_FAULT: {"@type": _FILTERS + "http.fault.v3.HTTPFault", **faults}}
    return made


_PATHS = {"exact": "path", "prefix": "prefix"}


def _header(name: str, kind: str, text: str) -> Resource:
    if kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}}


def percent(value: float) -> Resource:
    """A FractionalPercent."""
    return {"numerator": round(value * 10_000), "denominator": "MILLION"}


def cluster(name: str, endpoints: Iterable[int | tuple[str, int]], **settings: Any) -> list[Resource]:
    """A cluster (round robin; further ``settings`` with Envoy's field names) and its endpoints: ports of 127.0.0.1, or
    address and port."""
    hosts = [("127.0.0.1", e) if isinstance(e, int) else e for e in endpoints]
    members = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in hosts
    ]
    locality = {"locality": {"region": "here"}, "load_balancing_weight": 1, "lb_endpoints": members}
    return [
        {
            "@type": CLUSTER,
            "name": name,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": _ADS},
            "lb_policy": "ROUND_ROBIN",
            **settings,
        },
        {"@type": ENDPOINTS, "cluster_name": name, "endpoints": [locality] if members else []},
    ]


# -- the server --------------------------------------------------------------------------------------------------------
class AdsServer:
    """Serves ``resources`` on 127.0.0.1; ``set`` replaces them and pushes what changed to whom it concerns.

    ``rejected`` holds what clients refused (type, message). Raises json_format.ParseError for resources that are none.
    """

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self.rejected: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._version = 0
        self._packed: dict[str, dict[str, Any]] = {}
        self._streams: set[_Stream] = set()
        self.set(resources)
        request, answer = (message(f"envoy.service.discovery.v3.Discovery{n}") for n in ("Request", "Response"))
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, request_deserializer=request.FromString, response_serializer=answer.SerializeToString
        )
        # each xds:/// channel has a stream of its own, and a stream keeps a thread
        self._server = grpc.server(futures.ThreadPoolExecutor(256), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "envoy.service.discovery.v3.AggregatedDiscoveryService", {"StreamAggregatedResources": handler}
                ),
            )
        )
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def set(self, resources: Iterable[Resource]) -> None:
        packed: dict[str, dict[str, Any]] = {kind: {} for kind in _NAMES}
        for resource in resources:
            kind = resource["@type"]
            made = any_pb2.Any(type_url=kind, value=parse(resource).SerializeToString(deterministic=True))
            packed[kind][resource[_NAMES[kind]]] = made
        with self._lock:
            before, self._packed = self._packed, packed
            self._version += 1
            for stream in self._streams:
                for kind, wanted in stream.wanted.items():
                    if any(packed[kind].get(name) != before[kind].get(name) for name in wanted):
                        stream.answers.put(self._answer(stream, kind))

    def _answer(self, stream: _Stream, kind: str) -> Any:
        """State of the runtime: all that the stream wants of a kind and that there is."""
        stream.nonce += 1
        stream.nonces[kind] = str(stream.nonce)
        known = self._packed[kind]
        # grpcio's messages come from the private pool, google.protobuf.Any of this process does not: by bytes
        answer = message("envoy.service.discovery.v3.DiscoveryResponse")(
            version_info=str(self._version), type_url=kind, nonce=stream.nonces[kind]
        )
        for name in sorted(stream.wanted[kind]):
            if name in known:
                answer.resources.add().MergeFromString(known[name].SerializeToString())
        return answer

    def _heard(self, stream: _Stream, request: Any) -> None:
        kind = request.type_url
        if kind not in _NAMES:
            return
        with self._lock:
            if request.HasField("error_detail"):
                self.rejected.append((kind, request.error_detail.message))
            if request.response_nonce and request.response_nonce != stream.nonces.get(kind):
                return  # speaks of an answer that is no longer the latest
            wanted = set(request.resource_names)
            if stream.wanted.get(kind) == wanted:
                return  # ACK or NACK
            stream.wanted[kind] = wanted
            stream.answers.put(self._answer(stream, kind))

    def _serve(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        stream = _Stream()
        with self._lock:
            self._streams.add(stream)

        def read() -> None:
            try:
                for request in requests:
                    self._heard(stream, request)
            except grpc.RpcError:
                return  # grpcio ends the iterator so when the stream breaks

        def ended() -> None:
            with self._lock:
                self._streams.discard(stream)
            stream.answers.put(None)

        if not context.add_callback(ended):
            ended()
        threading.Thread(target=read, daemon=True).start()
        return iter(stream.answers.get, None)

    def stop(self) -> None:
        self._server.stop(None).wait(60)

    def __enter__(self) -> AdsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Stream:
    """A client: what it wants by kind, and the nonce of the latest answer by kind."""

    def __init__(self) -> None:
        self.wanted: dict[str, set[str]] = {}
        self.nonces: dict[str, str] = {}
        self.nonce = 0
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()


def bootstrap_environment(port: int) -> dict[str, str]:
    """What a process needs in its environment for ``xds:///`` to ask the ADS server at ``port``."""
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "test"},
    }
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
