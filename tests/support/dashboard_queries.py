"""What Istio's dashboards ask of Prometheus: the shapes of their queries, written anew, so that every clone has them. Where the
complete list lies beside the repository (``../shared``), ``all_queries`` has that one, too.

``$name`` are Grafana's variables.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

COMPLETE = Path(__file__).parents[3] / "shared" / "reference" / "istio-dashboard-queries.txt"

_REQUESTS = "istio_requests_total"
_BY_SERVICE = 'reporter="destination", destination_service="$service", destination_workload=~"$dstwl"'
_FROM_CLIENTS = (
    'reporter=~"$qrep", destination_service="$service", source_workload=~"$srcwl", source_workload_namespace=~"$srcns"'
)
_OF_WORKLOAD = 'reporter=~"$qrep", destination_workload_namespace=~"$namespace", destination_workload=~"$workload"'
_TO_OTHERS = 'reporter="source", source_workload_namespace=~"$namespace", source_workload=~"$workload"'
_SECURE = 'connection_security_policy="mutual_tls"'
_OPEN = 'connection_security_policy!="mutual_tls"'
_HISTOGRAMS = ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")


def shapes() -> Iterator[str]:
    """Our own list."""
    for chosen, by in (
        (_BY_SERVICE, "destination_workload"),
        (_FROM_CLIENTS, "source_workload"),
        (_OF_WORKLOAD, "source_workload"),
    ):
        for policy in (_SECURE, _OPEN):
            rate = f"irate({_REQUESTS}{{{chosen}, {policy}}}[$__rate_interval])"
            good = f'irate({_REQUESTS}{{{chosen}, {policy}, response_code!~"5.*"}}[$__rate_interval])'
            yield f"round(sum({rate}) by ({by}, response_code), 0.001)"
            yield f"sum({good}) by ({by}) / sum({rate}) by ({by})"
            for histogram, quantile in itertools.product(_HISTOGRAMS, (0.5, 0.99)):
                buckets = f"irate({histogram}_bucket{{{chosen}, {policy}}}[$__rate_interval])"
                yield f"histogram_quantile({quantile}, sum({buckets}) by ({by}, le))"
    for principal in ('destination_principal=~"spiffe.*"', 'destination_principal!~"spiffe.*"'):
        yield f"sum(irate({_REQUESTS}{{{_TO_OTHERS}, {principal}}}[$__rate_interval])) by (destination_service)"
    for good in ("", ', response_code!~"5.."'):
        labels = "destination_workload, destination_workload_namespace, destination_service"
        chosen = f'reporter=~"source|waypoint"{good}'
        summed = f"sum by ({labels}) (rate({_REQUESTS}{{{chosen}}}[$__rate_interval]))"
        yield f'label_join({summed}, "where", ".", "destination_workload", "destination_workload_namespace")'
    for label in ("destination_service", "destination_cluster", "destination_workload_namespace", "source_cluster"):
        yield f"query_result(sum({_REQUESTS}) by ({label}))"
    yield f'sum(rate({_REQUESTS}{{response_code=~"4.."}}[$__rate_interval])) or vector(0)'


def complete() -> list[str]:
    """Istio's own, where they lie beside the repository."""
    if not COMPLETE.exists():
        return []
    return [line for line in COMPLETE.read_text().splitlines() if line and not line.startswith("#")]


def substituted(query: str, variables: Mapping[str, str]) -> str:
    """As Grafana would: variables replaced, and ``query_result``, which is its own, taken off."""
    found = re.sub(r"\$(\w+)", lambda match: variables[match[1]], query)
    inside = re.fullmatch(r"query_result\((.*)\)", found)
    return found if inside is None else inside[1]


def has_no_data(query: str) -> str:
    """Why a query has no data where there is traffic of HTTP and gRPC only, as it has none in Istio; "" of others."""
    if "istio_build" in query:
        return "of Istio's own components"
    if "istio_tcp" in query and "istio_requests" not in query:
        return "of TCP"
    if re.search(r'reporter="source"[^}]*connection_security_policy="mutual_tls"', query) or re.search(
        r'connection_security_policy="mutual_tls"[^}]*reporter="source"', query
    ):
        return "a client's own metrics say unknown of the policy, in Istio too"
    return ""
