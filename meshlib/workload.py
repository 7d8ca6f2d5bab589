"""Who this process is in the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from meshlib.distribution import require_ours

require_ours()


class DefaultTrustDomain(str):
    """A trust domain that nobody has written."""

    __slots__ = ()


class NotGiven(str):
    """A namespace or service account that nobody has written."""

    __slots__ = ()


DEFAULT_TRUST_DOMAIN: str = DefaultTrustDomain("cluster.local")
DEFAULT: str = NotGiven("default")
"""The namespace and the service account of who names none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who this process is in the mesh, as Istio would read it from the Pod. It decides which rules and policies apply.

    ``labels`` and ``namespace`` are matched by ``sourceLabels``, ``sourceNamespace``, ``exportTo``, ``selector`` and
    ``workloadSelector``; ``locality`` is ``region/zone/subzone``; ``service_account`` and ``trust_domain`` make up the SPIFFE
    ID. A trust domain given here takes precedence over MeshConfig's; without either it is ``cluster.local``. ``cluster`` is the
    name of the Kubernetes cluster. ``address`` is the source address that ``consistentHash.useSourceIp`` hashes (if empty, the
    name is hashed). A mesh with an identity takes a namespace and a service account that are not given here from the
    certificate that it starts with (``named_by``).
    """

    name: str = "unknown"
    namespace: str = DEFAULT
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = DEFAULT
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    locality: str = ""
    cluster: str = "Kubernetes"
    address: str = ""

    @property
    def names_trust_domain(self) -> bool:
        """Whether ``trust_domain`` was given, whatever it is."""
        return not isinstance(self.trust_domain, DefaultTrustDomain)

    def in_trust_domain(self, trust_domain: str) -> Workload:
        """The same workload in a mesh of this trust domain: it stays in the one that it names itself."""
        if self.names_trust_domain or self.trust_domain == trust_domain:
            return self
        return replace(self, trust_domain=trust_domain)

    def named_by(self, namespace: str, service_account: str) -> Workload:
        """The same workload, with what nobody has given taken from the certificate of ``namespace`` and ``service_account``
        ("" of one that names neither). The service account belongs to its namespace: given another one, it is not taken."""
        space: str = self.namespace
        if isinstance(space, NotGiven):
            space = namespace or str(space)
        account: str = self.service_account
        if isinstance(account, NotGiven):
            account = service_account if service_account and space == namespace else str(account)
        if space is self.namespace and account is self.service_account:
            return self
        return replace(self, namespace=space, service_account=account)

    @property
    def principal(self) -> str:
        """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"
