"""A control plane for grpcio's own ``xds:///``: over ADS, the resources of ``resources.py`` in the words of xDS, as far as gRPC
has them. Its messages are PyPI's ``xds-protos``.

``python -m meshlib.bench.control_plane '{"port": P, "rules": N}'``: P is where the backend listens; prints ``{"port": P}``,
where this listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from meshlib.bench.http_client import AUTHORITY
from meshlib.bench.measuring import reply
from meshlib.bench.resources import ADDRESSES
from meshlib.bench.web_backend import until_stdin_ends

NEEDS = "envoy.service.discovery.v3.ads_pb2_grpc"
"""The module that ``xds-protos`` has and the packages of Envoy's binary have not."""
TARGET = f"xds:///{AUTHORITY}"
_TYPES = "type.googleapis.com/"
_LISTENER, _CLUSTER, _ENDPOINTS = (
    f"{_TYPES}envoy.config.{each}"
    for each in ("listener.v3.Listener", "cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment")
)
_FILTERS = f"{_TYPES}envoy.extensions.filters"
_ADS = {"ads": {}, "resource_api_version": "V3"}
NODE = {"id": "meshlib-bench"}


def bootstrap(port: int) -> dict[str, str]:
    """The environment of a client that is to ask the control plane at ``port``."""
    server = {"server_uri": f"127.0.0.1:{port}", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps({"xds_servers": [server], "node": NODE})}


def told(port: int, rules: int) -> dict[str, dict[str, Any]]:
    """Of each type the resources by name. gRPC has outlier detection by failure percentage, not by failures in a row; it has
    no LEAST_REQUEST without a setting of its own, so the balancer is round robin."""
    clusters, endpoints = {}, {}
    for version, addresses in ADDRESSES.items():
        clusters[version] = {
            "name": version,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": _ADS},
            "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": {"thresholds": [{"max_requests": 1000}]},
            "outlier_detection": {"failure_percentage_threshold": 50, "enforcing_failure_percentage": 100},
        }
        members = [
            {"endpoint": {"address": {"socket_address": {"address": each, "port_value": port}}}} for each in addresses
        ]
        place = {"locality": {"region": "here"}, "load_balancing_weight": 1, "lb_endpoints": members}
        endpoints[version] = {"cluster_name": version, "endpoints": [place]}
    to_v2 = {"prefix": "", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]}
    routes: list[dict[str, Any]] = [
        {"match": {"prefix": f"/service-{n}/x"}, "route": {"cluster": "v1"}} for n in range(rules - 1)
    ]
    routes.append({"match": to_v2, "route": {"cluster": "v2"}})
    weights = [{"name": name, "weight": weight} for name, weight in (("v1", 90), ("v2", 10))]
    retry = {"retry_on": "unavailable", "num_retries": 2}
    routes.append(
        {"match": {"prefix": ""}, "route": {"weighted_clusters": {"clusters": weights}, "retry_policy": retry}}
    )
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "name": "bench",
            "virtual_hosts": [{"name": "bench", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
    }
    listener = {"name": AUTHORITY, "api_listener": {"api_listener": manager}}
    return {_LISTENER: {AUTHORITY: listener}, _CLUSTER: clusters, _ENDPOINTS: endpoints}


def packed(resources: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same as messages in an Any. ImportError without xds-protos, ParseError: no field of Envoy's."""
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.config.endpoint.v3 import endpoint_pb2
    from envoy.config.listener.v3 import listener_pb2
    from google.protobuf import any_pb2, json_format

    for each in ("http.router.v3.router_pb2", "network.http_connection_manager.v3.http_connection_manager_pb2"):
        importlib.import_module(f"envoy.extensions.filters.{each}")  # so that protobuf knows its messages

    kinds: dict[str, Any] = {
        _LISTENER: listener_pb2.Listener,
        _CLUSTER: cluster_pb2.Cluster,
        _ENDPOINTS: endpoint_pb2.ClusterLoadAssignment,
    }
    made: dict[str, dict[str, Any]] = {}
    for kind, named in resources.items():
        made[kind] = {}
        for name, fields in named.items():
            value = json_format.ParseDict(fields, kinds[kind]())
            made[kind][name] = any_pb2.Any(type_url=kind, value=value.SerializeToString(deterministic=True))
    return made


async def serve(known: dict[str, dict[str, Any]]) -> tuple[Any, int]:
    """A server that has started, and its port."""
    from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

    class Ads(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc, unused-ignore]
        async def StreamAggregatedResources(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
            wanted: dict[str, set[str]] = {}
            async for request in requests:
                kind = request.type_url
                if request.HasField("error_detail"):
                    sys.stderr.write(f"grpcio refuses {kind}: {request.error_detail.message}\n")
                if kind not in known or wanted.get(kind) == set(request.resource_names):
                    continue  # an ACK: nothing ever changes
                wanted[kind] = set(request.resource_names)
                found = [known[kind][name] for name in sorted(wanted[kind]) if name in known[kind]]
                yield discovery_pb2.DiscoveryResponse(version_info="1", nonce="1", type_url=kind, resources=found)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Ads(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def main(spec: dict[str, Any]) -> None:
    """Until standard input ends."""
    server, port = await serve(packed(told(spec["port"], spec["rules"])))
    reply({"port": port})
    until_stdin_ends(asyncio.get_running_loop())
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
