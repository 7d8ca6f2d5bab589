"""Who this process is in the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshlib.distribution import require_ours

require_ours()


@dataclass(frozen=True, slots=True)
class Workload:
    """The identity that Istio would read from the Pod: it decides which rules apply to this client.

    ``labels`` and ``namespace`` are what ``sourceLabels``, ``sourceNamespace``, ``exportTo`` and ``workloadSelector``
    look at; ``locality`` is ``region/zone/subzone``; ``service_account`` and ``trust_domain`` make the SPIFFE id. ``address``
    is the source address that ``consistentHash.useSourceIp`` hashes (the name when it is empty).
    """

    name: str = "unknown"
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    trust_domain: str = "cluster.local"
    locality: str = ""
    cluster: str = "Kubernetes"
    address: str = ""

    @property
    def principal(self) -> str:
        """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"
