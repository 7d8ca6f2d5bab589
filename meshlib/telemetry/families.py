"""The families of metrics: Istio's names, labels and buckets, so that its dashboards work, and meshlib's own two.

Each is registered once in a registry, however many meshes share it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from meshlib.policy.telemetry_settings import TAGS
from meshlib.problems import MeshError
from meshlib.telemetry.registered_once import RegisteredOnce
from meshlib.telemetry.tables import (
    CallsByLabels,
    CallTable,
    CountedCalls,
    Counts,
    CountsByNames,
    CountTable,
    SizeTable,
    WrittenCalls,
    WrittenCounts,
    WrittenSizes,
    written_elsewhere,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

LABELS = TAGS
PEER_LABELS = LABELS[: LABELS.index("request_protocol")]
"""Those of the two peers: gRPC messages are counted by them, and by nothing of the response."""

CONNECTION_LABELS = (*PEER_LABELS, "request_protocol", "response_flags", "connection_security_policy")
"""Of connections whose bytes nobody reads."""

BUCKETS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
           3_600_000)  # fmt: skip


class Families(NamedTuple):
    """What every mesh counts."""

    calls: CountedCalls
    resilience: Counts
    routes: Counts


class MessageFamilies(NamedTuple):
    """What is counted of gRPC too, when a call is over."""

    requests: CountsByNames
    responses: CountsByNames


class PolicyFamilies(NamedTuple):
    """What is counted of AuthorizationPolicies on trial."""

    dry_run: Counts


class TcpFamilies(NamedTuple):
    """What is counted of connections whose bytes nobody reads."""

    opened: CountsByNames
    closed: CountsByNames
    sent: CountsByNames
    received: CountsByNames


class SizeFamilies(NamedTuple):
    """Bytes of heads and bodies."""

    requests: CallsByLabels
    responses: CallsByLabels


Made = TypeVar("Made", bound="Collector")


def collectors(make: Callable[[], Made]) -> RegisteredOnce[Made]:
    """A collector of each registry, which ``make`` makes, registered with the first mesh that asks for it. Asking raises
    ``MeshError`` when the registry refuses it."""

    def registered(registry: CollectorRegistry) -> Made:
        made = make()
        with registering(registry):
            registry.register(made)
        return made

    return RegisteredOnce(registered)


@contextlib.contextmanager
def registering(registry: CollectorRegistry) -> Iterator[None]:
    """Collectors are registered in here, while a mesh is made: what a registry raises becomes ``MeshError``, as with these
    metrics nobody would have any."""
    try:
        yield
    except MeshError:
        raise
    except Exception as error:
        kind = type(error).__name__
        said = (str(error) or "it says no more")[:300]
        raise MeshError(
            f"the metrics of the mesh cannot be registered in registry={registry!r} ({kind}: {said}): give the mesh one of its "
            f"own, registry=prometheus_client.CollectorRegistry(), or take away what has those names there"
        ) from error


def _make_families(registry: CollectorRegistry) -> Families:
    return Families(
        _calls(registry),
        _counts(
            registry,
            "meshlib_resilience",
            "What mechanisms of ResiliencePolicies did or, in shadow mode, would have done.",
            ("service", "mechanism", "mode", "verdict"),
        ),
        _counts(
            registry,
            "meshlib_route_requests",
            "Requests by the statPrefix of the VirtualService match they took.",
            ("virtual_service", "stat_prefix", "response_code"),
        ),
    )


def _make_message_families(registry: CollectorRegistry) -> MessageFamilies:
    return MessageFamilies(
        _counts(registry, "istio_request_messages_total", "Messages of gRPC requests.", PEER_LABELS),
        _counts(registry, "istio_response_messages_total", "Messages of gRPC responses.", PEER_LABELS),
    )


def _make_policy_families(registry: CollectorRegistry) -> PolicyFamilies:
    return PolicyFamilies(
        _counts(
            registry,
            "meshlib_authorization_dry_run",
            "Requests by what AuthorizationPolicies with istio.io/dry-run would have decided, and which of them.",
            ("policy", "result"),
        )
    )


def _make_tcp_families(registry: CollectorRegistry) -> TcpFamilies:
    labels = CONNECTION_LABELS
    return TcpFamilies(
        _counts(registry, "istio_tcp_connections_opened_total", "Connections that were opened.", labels),
        _counts(registry, "istio_tcp_connections_closed_total", "Connections that were closed.", labels),
        _counts(registry, "istio_tcp_sent_bytes_total", "Bytes to who has connected.", labels),
        _counts(registry, "istio_tcp_received_bytes_total", "Bytes from who has connected.", labels),
    )


def _make_size_families(registry: CollectorRegistry) -> SizeFamilies:
    return SizeFamilies(
        _sizes(registry, "istio_request_bytes", "Bytes of requests, their heads included."),
        _sizes(registry, "istio_response_bytes", "Bytes of responses, their heads included."),
    )


def _sizes(registry: CollectorRegistry, name: str, documentation: str) -> CallsByLabels:
    if written_elsewhere():
        from prometheus_client import Histogram

        def make(names: Sequence[str], registry: CollectorRegistry | None = None) -> Histogram:
            return Histogram(name, documentation, names, registry=registry, buckets=BUCKETS)

        return WrittenSizes(make(LABELS, registry), make)
    table = SizeTable(name, documentation, LABELS, BUCKETS)
    registry.register(table)
    return table


def _calls(registry: CollectorRegistry) -> CountedCalls:
    counter = ("istio_requests_total", "Requests through the mesh.")
    histogram = (
        "istio_request_duration_milliseconds",
        "Duration of requests, in milliseconds, to the last byte of the response.",
    )
    if written_elsewhere():
        from prometheus_client import Counter, Histogram

        def count(names: Sequence[str], registry: CollectorRegistry | None = None) -> Counter:
            return Counter(*counter, names, registry=registry)

        def time(names: Sequence[str], registry: CollectorRegistry | None = None) -> Histogram:
            return Histogram(*histogram, names, registry=registry, buckets=BUCKETS)

        return WrittenCalls(count(LABELS, registry), time(LABELS, registry), count, time)
    table = CallTable(counter, histogram, LABELS, BUCKETS)
    registry.register(table)
    return table


def _counts(registry: CollectorRegistry, name: str, documentation: str, labels: Sequence[str]) -> CountsByNames:
    if written_elsewhere():
        from prometheus_client import Counter

        def make(names: Sequence[str], registry: CollectorRegistry | None = None) -> Counter:
            return Counter(name, documentation, names, registry=registry)

        return WrittenCounts(make(labels, registry), make)
    table = CountTable(name, documentation, labels)
    registry.register(table)
    return table


families = RegisteredOnce(_make_families)
message_families = RegisteredOnce(_make_message_families)
"""Who makes and serves no calls of gRPC does not register them."""
policy_families = RegisteredOnce(_make_policy_families)
"""Who has no policies on trial does not register them."""
tcp_families = RegisteredOnce(_make_tcp_families)
"""Who forwards no connections does not register them."""
size_families = RegisteredOnce(_make_size_families)
