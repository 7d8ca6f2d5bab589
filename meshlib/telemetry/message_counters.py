"""Istio's gRPC message counters, ``istio_request_messages_total`` and ``istio_response_messages_total``.

Like Istio's they have the labels of the two peers and none of the answer. Counted when a call is over.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from meshlib.telemetry.metrics import LABELS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PEER_LABELS = LABELS[: LABELS.index("request_protocol")]

_made: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def message_counters(registry: CollectorRegistry) -> tuple[Any, Any]:
    """The families (requests, responses) of a registry, registered once however many meshes share it."""
    found = _made.get(registry)
    if found is None:
        from prometheus_client import Counter

        found = _made[registry] = (
            Counter("istio_request_messages_total", "Messages of gRPC requests.", PEER_LABELS, registry=registry),
            Counter("istio_response_messages_total", "Messages of gRPC answers.", PEER_LABELS, registry=registry),
        )
    return found
