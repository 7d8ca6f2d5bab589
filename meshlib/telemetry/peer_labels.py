"""Who calls and who is called, as Istio's metrics name them (the stats filter of istio/proxy has the rules)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from meshlib.policy.peer_metadata import CANONICAL_NAMES, CANONICAL_REVISIONS, first_label
from meshlib.telemetry.dropped import dropped

if TYPE_CHECKING:
    from meshlib.policy.endpoint import Address
    from meshlib.policy.peer_metadata import PeerMetadata
    from meshlib.workload import Workload

UNKNOWN = "unknown"
MOST_PEERS = 1000
"""Workloads that make labels by what they tell, of one mesh and direction."""
LATEST = "latest"


class PeerLabels(NamedTuple):
    """One of the two: values of ``source_*`` or ``destination_*``, without its principal."""

    workload: str = UNKNOWN
    namespace: str = UNKNOWN
    canonical_service: str = UNKNOWN
    canonical_revision: str = LATEST
    app: str = UNKNOWN
    version: str = UNKNOWN
    cluster: str = UNKNOWN

    def source(self, principal: str) -> tuple[str, ...]:
        """The labels ``source_*`` in their order."""
        return (
            self.workload,
            self.canonical_service,
            self.canonical_revision,
            self.namespace,
            principal or UNKNOWN,
            self.app,
            self.version,
            self.cluster,
        )

    def destination(self, principal: str, service: str, name: str, namespace: str) -> tuple[str, ...]:
        """The labels ``destination_*`` in their order; ``service``, ``name`` and ``namespace`` are those of the service."""
        return (
            self.workload,
            self.namespace,
            principal or UNKNOWN,
            self.app,
            self.version,
            service,
            self.canonical_service,
            self.canonical_revision,
            name,
            namespace,
            self.cluster,
        )


NOBODY = PeerLabels()
"""Nothing is known of it."""


def of_workload(workload: Workload) -> PeerLabels:
    """This program."""
    return described(workload.name, workload.namespace, workload.labels, workload.cluster)


def of_endpoint(endpoint: Address, namespace: str, cluster: str) -> PeerLabels:
    """An endpoint of a service in ``namespace``."""
    return described(endpoint.workload, namespace, endpoint.labels, cluster)


def described(workload: str, namespace: str, labels: Mapping[str, str], cluster: str) -> PeerLabels:
    """A workload with these labels. Its canonical service is what its labels say, else its own name."""
    return PeerLabels(
        workload or UNKNOWN,
        namespace or UNKNOWN,
        first_label(labels, CANONICAL_NAMES) or workload or UNKNOWN,
        first_label(labels, CANONICAL_REVISIONS) or LATEST,
        labels.get("app") or UNKNOWN,
        labels.get("version") or UNKNOWN,
        cluster or UNKNOWN,
    )


def with_told(known: PeerLabels, peer: PeerMetadata) -> PeerLabels:
    """``known`` with what the peer has told of itself in headers, which counts first, as in Istio: of endpoints behind a
    gateway the resources know just the gateway."""
    return PeerLabels(
        peer.workload or known.workload,
        peer.namespace or known.namespace,
        peer.canonical_service or known.canonical_service,
        peer.canonical_revision or known.canonical_revision,
        peer.app or known.app,
        peer.version or known.version,
        peer.cluster or known.cluster,
    )


class ToldPeers:
    """The workloads that have told of themselves, so many as make labels: a stranger who makes up a name for each request must
    not crowd out those that are there. The others are as unknown as if they had said nothing, and counted."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[PeerMetadata] = set()

    def labelled(self, known: PeerLabels, peer: PeerMetadata | None) -> PeerLabels:
        """``known`` with what the peer has told, if it has."""
        if peer is None:
            return known
        if peer not in self._known:
            if len(self._known) >= MOST_PEERS:
                dropped.add("peer_metadata")
                return known
            self._known.add(peer)
        return with_told(known, peer)


def namespace_of(principal: str) -> str:
    """The namespace in ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``, "" without one."""
    _, found, rest = principal.partition("/ns/")
    return rest.partition("/")[0] if found else ""
