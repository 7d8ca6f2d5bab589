"""What is counted of a proxy process itself: connections of clients, requests that were none, and what was turned away.

Read when it is scraped: no request pays for it. Names are ours, as meshlib's others; Envoy's are beside each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

    from meshlib.proxy.dns_server import DnsServer
    from meshlib.proxy.listener import Listener
    from meshlib.proxy.overload import Overload

ACTIVE = "meshlib_proxy_downstream_connections_active"
ACCEPTED = "meshlib_proxy_downstream_connections_total"
REFUSED = "meshlib_proxy_refused_requests_total"
SHED = "meshlib_proxy_overload_total"
GREETED = "meshlib_proxy_tls_connections_total"
ASKED = "meshlib_proxy_dns_requests_total"
UPSTREAM = "meshlib_proxy_dns_upstream_requests_total"
UPSTREAM_FAILURES = "meshlib_proxy_dns_upstream_failures_total"


class Counted(Protocol):
    """A proxy process."""

    @property
    def overload(self) -> Overload | None: ...
    @property
    def dns(self) -> DnsServer | None: ...
    def listeners(self) -> Sequence[tuple[str, str, Listener]]: ...


class ProxyMetrics:
    """A collector of ``registry`` (None: prometheus_client's own), until ``close``."""

    def __init__(self, registry: CollectorRegistry | None, process: Counted) -> None:
        self._registry = REGISTRY if registry is None else registry
        self._process = process
        self._registry.register(self)

    def close(self) -> None:
        """Idempotent."""
        try:
            self._registry.unregister(self)
        except KeyError:  # it is gone already
            return

    def describe(self) -> Iterable[Metric]:
        """The families, without samples."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """As of now."""
        active, accepted, refused, shed, greeted = found = self._families()
        for name, _, listener in self._process.listeners():
            active.add_metric([name], listener.connections)
            accepted.add_metric([name], listener.accepted)
            for status, count in list(listener.refusals.items()):
                refused.add_metric([name, str(status)], count)
            for result, count in list(listener.counts.items()):
                greeted.add_metric([name, result], count)
        if self._process.overload is not None:
            for reason, count in self._process.overload.shed.items():
                shed.add_metric([reason], count)
        return found if self._process.dns is None else [*found, *_about_names(self._process.dns)]

    @staticmethod
    def _families() -> tuple[
        GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily, CounterMetricFamily, CounterMetricFamily
    ]:
        return (
            GaugeMetricFamily(
                ACTIVE, "Open connections of clients (Envoy: downstream_cx_active).", labels=["listener"]
            ),
            CounterMetricFamily(
                ACCEPTED, "Connections of clients that were accepted (Envoy: downstream_cx_total).", labels=["listener"]
            ),
            CounterMetricFamily(
                REFUSED,
                "Requests that were refused because they can be read in two ways, by the status of their response.",
                labels=["listener", "code"],
            ),
            CounterMetricFamily(
                SHED,
                "What was turned away, by what was beyond its limit: connections, memory or lag of the event loop.",
                labels=["reason"],
            ),
            CounterMetricFamily(
                GREETED,
                "Connections to a gateway's ports over TLS, by what became of them: tls, passed_through; no_server (Envoy: "
                "no_filter_chain_match), refused, refused_peer, handshake_failed, not_tls, timed_out, cut.",
                labels=["listener", "result"],
            ),
        )


def _about_names(dns: DnsServer) -> Sequence[Metric]:
    asked = CounterMetricFamily(
        ASKED,
        "Queries of DNS (Istio: dns_requests_total), by what became of them: mesh, forwarded, failed (SERVFAIL), refused, "
        "malformed (dropped).",
        labels=["protocol", "result"],
    )
    for (protocol, result), count in list(dns.requests.items()):
        asked.add_metric([protocol, result], count)
    upstream = CounterMetricFamily(
        UPSTREAM, "Queries that were sent to resolvers (Istio: dns_upstream_requests_total).", dns.resolvers.asked
    )
    failures = CounterMetricFamily(
        UPSTREAM_FAILURES,
        "Queries that a resolver has not responded to (Istio: dns_upstream_failures_total).",
        dns.resolvers.failures,
    )
    return asked, upstream, failures
