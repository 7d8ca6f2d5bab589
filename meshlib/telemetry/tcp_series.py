"""Istio's metrics of connections whose bytes nobody reads (``istio_tcp_*``), as one connection counts in them.

As in Istio the labels of a connection are those of when it is first told of, its flags among them: one that was opened well has
none, whatever ends it, and one that never was is opened and closed with those of its failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.telemetry.families import CONNECTION_LABELS, LABELS, tcp_families
from meshlib.telemetry.tag_overrides import NOTHING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.telemetry.tables import Count
    from meshlib.telemetry.tag_overrides import AsTheyAre, TagOverrides

Labels = tuple[str, ...]
_PLACES = tuple(LABELS.index(name) for name in CONNECTION_LABELS)


class TcpSeries(NamedTuple):
    """Where a connection is counted. ``sent`` and ``received`` are bytes to and from who has connected, while they go."""

    opened: Count
    closed: Count
    sent: Count
    received: Count


UNCOUNTED = TcpSeries(NOTHING, NOTHING, NOTHING, NOTHING)


def tcp_series(
    registry: CollectorRegistry, tags: TagOverrides[Any] | AsTheyAre, labels: Labels, values: Labels
) -> TcpSeries:
    """Of a connection with these of Istio's ``labels`` (those of calls); ``values`` are those of expressions of ``tags``."""
    families = tcp_families(registry)
    mine = tuple(labels[at] for at in _PLACES)
    return TcpSeries(
        tags.counts("tcp_connections_opened_total", families.opened, CONNECTION_LABELS, mine, values),
        tags.counts("tcp_connections_closed_total", families.closed, CONNECTION_LABELS, mine, values),
        tags.counts("tcp_sent_bytes_total", families.sent, CONNECTION_LABELS, mine, values),
        tags.counts("tcp_received_bytes_total", families.received, CONNECTION_LABELS, mine, values),
    )
