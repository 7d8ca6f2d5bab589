"""What the mesh says of itself: why a call goes where it goes, and how many went."""

from __future__ import annotations

from collections import Counter

import grpc
from prometheus_client import CollectorRegistry

from meshlib.demo.report import counts
from meshlib.demo.shop.play.scenario import Stage, differs

URL = "grpc://catalog:7001/shop.Catalog/GetProduct"


def play_explain(stage: Stage) -> None:
    """``mesh.explain`` tells the route of a gRPC call without making it."""
    stage.begin("explain", "canary", f"POST {URL} with x-canary: yes")
    found = stage.customer.mesh.explain(method="POST", url=URL, headers={"x-canary": "yes"})
    why = differs("resource", found.resource, "VirtualService/default/catalog")
    why += differs("rule", found.rule_name, "canary") + differs("subset", found.subset, "v2")
    where = f"{found.resource} http[{found.rule}] {found.rule_name}"
    stage.saw("mesh.explain", "rule canary, subset v2", f"{where} -> {found.host} subset {found.subset}", why)


def play_metrics(stage: Stage, registry: CollectorRegistry) -> None:
    """Istio's counters hold every call of this run, by service and gRPC status."""
    stage.begin("metrics", "", 'istio_requests_total with request_protocol="grpc" counts every call of this run')
    wanted = stage.customer.ended
    seen: Counter[tuple[str, str]] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "istio_requests_total" and sample.labels["request_protocol"] == "grpc":
                labels = sample.labels
                seen[labels["destination_service_name"], _name(labels["grpc_response_status"])] += int(sample.value)
    why = differs("counted", dict(seen), dict(wanted))
    services = Counter[str]()
    for (service, _), count in seen.items():
        services[service] += count
    failed = sum(count for (_, status), count in seen.items() if status != "OK")
    text = f"{counts(services)}; {failed} of them with another status than OK" if seen else "nothing"
    stage.saw("istio_requests_total", f"{sum(wanted.values())} calls", text, why)


def _name(number: str) -> str:
    names = {str(code.value[0]): code.name for code in grpc.StatusCode}
    return names.get(number, f"status {number!r}")
