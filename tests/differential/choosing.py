"""A real Envoy that chooses among endpoints which say who they are, and a mesh that chooses among the same."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, running
from tests.support.resources import destination_rule, service, virtual_service
from tests.support.scripted import Bench


def manager(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        },
    }


def listener(address: str, port: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": f"{address}:{port}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [manager("x", routes)]}],
    }


def answering(address: str, port: int, status: int = 200) -> dict[str, Any]:
    """An endpoint that answers everything with ``status`` and says who it is."""
    header = {"header": {"key": "x-endpoint", "value": f"{address}:{port}"}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": status}, "response_headers_to_add": [header]}
    return listener(address, port, [route])


def members(port: int, count: int, weights: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    made = []
    for number in range(count):
        address = {"socket_address": {"address": f"127.0.0.{number + 1}", "port_value": port}}
        one: dict[str, Any] = {"endpoint": {"address": address}}
        if weights:
            one["load_balancing_weight"] = weights[number]
        made.append(one)
    return made


def cluster_of(name: str, endpoints: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        # no panic mode, as in Istio; and no waiting: Envoy puts changes of health within a second together
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


@contextlib.contextmanager
def envoy_with(
    routes: list[dict[str, Any]], clusters: list[dict[str, Any]], behind: list[dict[str, Any]]
) -> Iterator[tuple[httpx.Client, str]]:
    """(a client of the routes, the admin URL)."""
    front, admin = free_port(), free_port()
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [listener("127.0.0.1", front, routes), *behind], "clusters": clusters},
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=10) as client:
        yield client, f"http://127.0.0.1:{admin}"


def workload_entries(port: int, count: int, weights: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": f"e{n}", "namespace": "default", "labels": {"app": "reviews"}},
            "spec": {
                "address": f"127.0.0.{n + 1}",
                "ports": {"http": port},
                **({"weight": weights[n]} if weights else {}),
            },
        }
        for n in range(count)
    ]


def bench(port: int, count: int, weights: tuple[int, ...] = (), rule: Any = None, **policy: Any) -> Bench:
    extra = [virtual_service("reviews", rule)] if rule else []
    return Bench(
        service("reviews"),
        *workload_entries(port, count, weights),
        *([destination_rule("reviews", **policy)] if policy else []),
        *extra,
    )


def far_from(counts: Counter[str], shares: dict[str, float]) -> list[str]:
    """Those whose count is more than 4.5 standard deviations from its share."""
    total = sum(counts.values())
    return [
        f"{name}: {counts[name]} of {total}, {share:.3f} expected"
        for name, share in shares.items()
        if abs(counts[name] - total * share) > 4.5 * math.sqrt(total * share * (1 - share)) + 1e-9
    ]


def ejected_in(status: dict[str, Any]) -> set[int]:
    """Positions of the endpoints that Envoy's admin page shows as ejected."""
    return {
        int(host["address"]["socket_address"]["address"].rpartition(".")[2]) - 1
        for host in status["host_statuses"]
        if host["health_status"].get("failed_outlier_check")
    }
