"""Envoy's bootstrap for what ``resources.reviews`` says: header match, weights of 90 and 10, two endpoints a version, timeout,
retries and outlier detection. Its statistics are on, as they are without being asked for, and those of gRPC, which meshlib has
too: a listener has the filters that istiod gives every sidecar's, as far as Envoy has them itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshlib.bench import resources

_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Scene:
    """What Envoy does beside routing. ``http2``: to the upstream; ``retry_on``: as the VirtualService has it; ``upstream_tls``:
    an UpstreamTlsContext; ``filters``: HTTP filters before those that all have; ``manager``: more fields of the connection
    manager; ``clusters``: more of them; ``more_rules``: as many routes that do not match before the others;
    ``everywhere``: the listener is at all addresses of the reviews, else at 127.0.0.1."""

    http2: bool = False
    retry_on: str = "5xx"
    upstream_tls: dict[str, Any] | None = None
    downstream_tls: dict[str, Any] | None = None
    filters: tuple[dict[str, Any], ...] = ()
    manager: dict[str, Any] = field(default_factory=dict)
    clusters: tuple[dict[str, Any], ...] = ()
    more_rules: int = 0
    everywhere: bool = False


def typed(package: str, name: str, /, **fields: Any) -> dict[str, Any]:
    """An extension: ``package`` below envoy.extensions, ``name`` of its message."""
    return {"@type": f"{_TYPES}.{package}.{name}", **fields}


def outbound(listen: int, upstream: int, scene: Scene) -> dict[str, Any]:
    """A listener on loopback in front of the reviews, all four at the port ``upstream``."""
    return bootstrap(
        listen, _routes(scene), [_cluster(version, upstream, scene) for version in resources.ADDRESSES], scene
    )


def inbound(listen: int, application: int, scene: Scene) -> dict[str, Any]:
    """A listener on loopback in front of one application, as a sidecar's inbound side."""
    cluster = _cluster("v1", application, scene)
    cluster["load_assignment"] = _assignment("v1", ("127.0.0.1",), application)
    del cluster["outlier_detection"]
    hosts = [{"name": "inbound", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "v1"}}]}]
    return bootstrap(listen, hosts, [cluster], scene)


def tracing(collector: int) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Fields of the connection manager, and clusters, for spans of all requests, sent by OTLP to this port."""
    service = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "service_name": "client",
        "http_service": {
            "http_uri": {"uri": f"http://127.0.0.1:{collector}/v1/traces", "cluster": "collector", "timeout": "5s"}
        },
    }
    cluster = {
        "name": "collector",
        "type": "STATIC",
        "load_assignment": _assignment("collector", ("127.0.0.1",), collector),
    }
    return {"tracing": {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": service}}}, (cluster,)


def admitting(count: int) -> dict[str, Any]:
    """The filter that says what ``resources.admitting`` says."""
    policies = {}
    allowed = [rule for policy in resources.admitting(count) for rule in policy["spec"]["rules"]]
    for n, rule in enumerate(allowed):
        (path,) = rule["to"][0]["operation"]["paths"]
        method = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
        url = {"url_path": {"path": {"prefix": path.removesuffix("*")}}}
        policies[f"rule-{n}"] = {
            "permissions": [{"and_rules": {"rules": [method, url]}}],
            "principals": [{"any": True}],
        }
    made = typed("filters.http.rbac.v3", "RBAC", rules={"action": "ALLOW", "policies": policies})
    return {"name": "envoy.filters.http.rbac", "typed_config": made}


def bootstrap(listen: int, hosts: list[dict[str, Any]], clusters: list[dict[str, Any]], scene: Scene) -> dict[str, Any]:
    """With these virtual hosts."""
    messages = typed("filters.http.grpc_stats.v3", "FilterConfig", emit_filter_state=True, stats_for_all_methods=False)
    filters = {
        "grpc_stats": messages,
        "fault": typed("filters.http.fault.v3", "HTTPFault"),
        "cors": typed("filters.http.cors.v3", "Cors"),
        "router": typed("filters.http.router.v3", "Router"),
    }
    named = ({"name": f"envoy.filters.http.{name}", "typed_config": each} for name, each in filters.items())
    manager = typed(
        "filters.network.http_connection_manager.v3",
        "HttpConnectionManager",
        stat_prefix="measured",
        http_filters=[*scene.filters, *named],
        route_config={"virtual_hosts": hosts},
        **scene.manager,
    )
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if scene.downstream_tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": scene.downstream_tls}
    listener: dict[str, Any] = {"address": _address("127.0.0.1", listen), "filter_chains": [chain]}
    if scene.everywhere:
        addresses = [each for version in resources.ADDRESSES.values() for each in version][1:]
        listener["additional_addresses"] = [{"address": _address(each, listen)} for each in addresses]
    return {"static_resources": {"listeners": [listener], "clusters": [*clusters, *scene.clusters]}}


def _routes(scene: Scene) -> list[dict[str, Any]]:
    previous = typed("retry.host.previous_hosts.v3", "PreviousHostsPredicate")
    retry = {
        "retry_on": scene.retry_on,
        "num_retries": 2,
        "host_selection_retry_max_attempts": "5",
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": previous}],
    }
    jason = {"name": "end-user", "string_match": {"exact": "jason"}}
    weights = [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]
    others = [{"match": {"prefix": f"/service-{n}/x"}, "route": {"cluster": "v1"}} for n in range(scene.more_rules)]
    routes = [
        *others,
        {
            "match": {"prefix": "/", "headers": [jason]},
            "route": {"cluster": "v2", "timeout": "0s", "retry_policy": retry},
        },
        {
            "match": {"prefix": "/"},
            "route": {"weighted_clusters": {"clusters": weights}, "timeout": "5s", "retry_policy": retry},
        },
    ]
    missing = [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}]
    return [
        {
            "name": "reviews",
            "domains": ["reviews:9080", "reviews"],
            "include_request_attempt_count": True,
            "routes": routes,
        },
        {"name": "all", "domains": ["*"], "routes": missing},
    ]


def _cluster(version: str, port: int, scene: Scene) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": version,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        # Istio's defaults: no limits, where Envoy's own are 1,024
        "circuit_breakers": {
            "thresholds": [
                {f"max_{of}": 4294967295 for of in ("connections", "requests", "pending_requests", "retries")}
            ]
        },
        "outlier_detection": {"consecutive_5xx": 5},
        "load_assignment": _assignment(version, resources.ADDRESSES[version], port),
    }
    if scene.http2:
        options = typed("upstreams.http.v3", "HttpProtocolOptions")
        options["explicit_http_config"] = {"http2_protocol_options": {}}
        made["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    if scene.upstream_tls is not None:
        made["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": scene.upstream_tls}
    return made


def _assignment(name: str, addresses: tuple[str, ...], port: int) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(address, port)}} for address in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
