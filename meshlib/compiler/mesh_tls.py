"""Which TLS goes to the endpoints of a cluster: what a DestinationRule says, else mTLS of the mesh to the endpoints that take
it (auto mTLS); and which identities are allowed there.

Stricter than istiod: what PeerAuthentications say of one endpoint counts for that one, and not what the namespace of its
service says for all (istiod then sends plain text to a workload that is STRICT in a namespace with DISABLE); of an address
that is dialled as it is, its own workload decides; ``credentialName`` acts without a ``workloadSelector``, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from meshlib.compiler.routes import TlsSettings
from meshlib.compiler.traffic_policy import tls_of_levels
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.spiffe_id import SCHEME

if TYPE_CHECKING:
    from meshlib.compiler.destination_rules import MergedRule
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.compiler.peer_authentication import PeerAuthentications
    from meshlib.compiler.tls_secrets import Secrets
    from meshlib.registry.service import Endpoint, Service
    from meshlib.resources import destination_rule as written

ISTIO_MUTUAL = "ISTIO_MUTUAL"
_ISTIOS = re.compile(r"spiffe://[^/]+/(ns/[^/]+/sa/[^/]+)")
ISTIO = "istio"
"""``security.istio.io/tlsMode`` of a workload that takes mTLS of the mesh."""


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """``tls`` for all endpoints; else ``auto`` for those in ``mutual``, by the endpoints' keys. ``refusal``: why no call may be
    made. ``why_plain``: why none of them is called by mTLS, for people, where that is decided for all; ``disabled``: the
    PeerAuthentications (namespace/name) that say DISABLE, by the endpoints' keys."""

    tls: TlsSettings | None = None
    auto: TlsSettings | None = None
    mutual: frozenset[str] = frozenset()
    refusal: str = ""
    why_plain: str = ""
    disabled: Mapping[str, str] = field(default_factory=dict)


class MeshTls:
    """Of one configuration, for one workload."""

    __slots__ = ("_identities", "_settings", "peers", "secrets")

    def __init__(self, peers: PeerAuthentications, settings: MeshSettings, secrets: Secrets) -> None:
        self.peers = peers
        self._settings = settings
        self.secrets = secrets
        self._identities: dict[str, tuple[Service, tuple[str, ...]]] = {}

    def of_cluster(
        self,
        service: Service,
        rule: MergedRule | None,
        tls: written.Tls | None,
        subset: str,
        port: int,
        endpoints: Sequence[Endpoint],
        *,
        dialled: bool,
    ) -> ClusterTls:
        """``tls`` is the block that counts for this port and subset, ``endpoints`` those of the subset. ``dialled``: calls go
        to the address that they name."""
        if tls is not None:
            return self._written(service, rule, tls, subset, port)
        if service.external:
            return ClusterTls(why_plain=f"{service.host} is outside the mesh (MESH_EXTERNAL)")
        if not self._settings.auto_mtls:
            return ClusterTls(why_plain=f"{self._settings.resource} turns auto mTLS off (enableAutoMtls)")
        level = tls_of_levels(rule, subset, port)
        if (
            level is not None and rule is not None
        ):  # of a wider level, which says nothing of a port with settings of its own
            takers = [e for e in endpoints if e.tls_mode == ISTIO] if level.mode == ISTIO_MUTUAL else []
            mutual = frozenset(key for e in takers for key, _ in _places(e, port, dialled))
            disabled: dict[str, str] = {}
            why = "" if mutual else f"{rule.id} has a tls block of mode {level.mode or 'DISABLE'}"
        else:
            mutual, disabled = self._by_endpoint(service, endpoints, port, dialled)
            why = ""
        if not mutual:
            return ClusterTls(why_plain=why, disabled=disabled)
        return ClusterTls(None, self._mutual(service, subset, port), mutual, "", why, disabled)

    def _written(
        self, service: Service, rule: MergedRule | None, tls: written.Tls, subset: str, port: int
    ) -> ClusterTls:
        name = rule.id if rule is not None else ""
        if tls.mode == ISTIO_MUTUAL:
            allowed = tuple(tls.subject_alt_names or ())
            return ClusterTls(self._mutual(service, subset, port, tls.sni or "", allowed))
        if tls.mode not in ("SIMPLE", "MUTUAL"):
            return ClusterTls(why_plain=f"{name} has a tls block of mode {tls.mode or 'DISABLE'}")
        allowed = tuple(tls.subject_alt_names or ())
        of_registry = not allowed and service.kind == "serviceentry" and not tls.insecure_skip_verify
        if of_registry:
            allowed = self.identities(service)
        made = TlsSettings(
            mode=tls.mode,
            sni=tls.sni or "",
            ca_certificates=tls.ca_certificates or "",
            client_certificate=tls.client_certificate or "",
            private_key=tls.private_key or "",
            subject_alt_names=allowed,
            named_too=of_registry and bool(allowed) and not tls.sni,
            insecure_skip_verify=bool(tls.insecure_skip_verify),
            ca_crl=tls.ca_crl or "",
        )
        if not tls.credential_name:
            return ClusterTls(made)
        found = self.secrets.credential(
            tls.credential_name, mutual=tls.mode == "MUTUAL", verifies=not made.insecure_skip_verify
        )
        refusal = f"{name} needs the TLS secret {tls.credential_name}: {found.problem}" if found.problem else ""
        made = replace(
            made,
            credential=f"Secret {self.secrets.namespace}/{tls.credential_name}",
            ca_pem=found.ca,
            crl_pem=found.crl,
            certificate_pem=found.certificate,
            key_pem=found.key,
        )
        return ClusterTls(made, refusal=refusal)

    def _mutual(
        self, service: Service, subset: str, port: int, sni: str = "", allowed: tuple[str, ...] = ()
    ) -> TlsSettings:
        return TlsSettings(
            mode=ISTIO_MUTUAL,
            sni=sni or f"outbound_.{port}_.{subset}_.{service.host}",
            subject_alt_names=allowed or self.identities(service),
        )

    def identities(self, service: Service) -> tuple[str, ...]:
        """Which identities are allowed for a service: the service accounts of all its endpoints, on whatever port, and the
        ``subjectAltNames`` of a ServiceEntry; those of Istio's form also in the trust domains that are aliases. Empty: none is
        known."""
        known = self._identities.get(service.host)
        if known is None or known[0] is not service:
            known = self._identities[service.host] = service, tuple(sorted(self._who_answers(service)))
        return known[1]

    def _who_answers(self, service: Service) -> set[str]:
        settings = self._settings
        accounts = {e.service_account for found in service.endpoints.values() for e in found if e.service_account}
        paths = {f"ns/{service.namespace}/sa/{account}" for account in accounts}
        names = {f"{SCHEME}{settings.trust_domain}/{path}" for path in paths}
        names.update(service.subject_alt_names)
        of_istio = [found for name in names if (found := _ISTIOS.fullmatch(name)) is not None]
        for alias in settings.trust_domain_aliases:
            names.update(f"{SCHEME}{alias}/{found[1]}" for found in of_istio)
        return names

    def _by_endpoint(
        self, service: Service, endpoints: Iterable[Endpoint], port: int, dialled: bool
    ) -> tuple[frozenset[str], dict[str, str]]:
        mutual, disabled = [], {}
        for endpoint in endpoints:
            if endpoint.tls_mode != ISTIO:
                continue
            modes = self.peers.of(service.namespace, endpoint.labels)
            for key, number in _places(endpoint, port, dialled):
                mode = modes.of(number)
                if mode.mtls is MtlsMode.DISABLE:
                    disabled[key] = mode.policy
                else:
                    mutual.append(key)
        return frozenset(mutual), disabled


def _places(endpoint: Endpoint, port: int, dialled: bool) -> Iterator[tuple[str, int]]:
    """The keys of an endpoint and the workload's port that each is: where addresses are dialled as they are, the port that was
    dialled, too."""
    yield endpoint.key, endpoint.port
    if dialled and endpoint.port != port:
        yield replace(endpoint, port=port, key="").key, port
