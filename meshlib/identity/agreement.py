"""What the certificate says of this process, and whether its mesh was told the same.

A mesh selects policies by the workload that it was given, as a sidecar does by its Pod. A namespace and a service account that
nobody has given are those of the certificate that it starts with, and stay: no rotation changes which policies act. Where a
certificate differs, others judge this process by one name and it judges others by another: that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.identity.identity import Identity
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.workload import Workload

CODE = "identity-of-another-workload"


def named_by_certificate(workload: Workload, identity: Identity | None) -> Workload:
    """The workload of a mesh whose identity has been started: see ``Workload.named_by``. An identity that has no certificate
    yet (the Workload API or istiod does not respond) names nothing."""
    current = None if identity is None else identity.latest
    if current is None:
        return workload.named_by("", "")
    return workload.named_by(current.svid.identity.namespace, current.svid.identity.service_account)


def disagreements(
    identity: SpiffeId, workload: Workload, trust_domain: str, aliases: Sequence[str], what: str
) -> list[Problem]:
    """Warnings, none when all is well. ``trust_domain``: that in force, with ``aliases``, of MeshConfig or the workload;
    ``what``: the source of the certificate. A SPIFFE ID that is not Kubernetes' (``/ns/<namespace>/sa/<service account>``)
    tells no namespace to compare. The service account ``default`` is what nobody has given: it is not compared."""
    found: list[tuple[str, str]] = []
    if identity.namespace and identity.namespace != workload.namespace:
        given, shown = workload.namespace, identity.namespace
        found.append((
            f"the certificate is {identity}, of namespace {shown}, and this workload is in namespace {given}: the policies, "
            f"Sidecars and defaults of {given} act, not those of {shown}",
            f'if it is in {shown}, give Workload(namespace="{shown}"), MESHLIB_NAMESPACE={shown} or --namespace {shown}; if '
            f"it is in {given}, give it a certificate of {given}",
        ))  # fmt: skip
    if identity.service_account and workload.service_account not in ("default", identity.service_account):
        given, shown = workload.service_account, identity.service_account
        found.append((
            f"the certificate is {identity}, of service account {shown}, and this workload has service account {given}: "
            f"others know it as {shown}",
            f'give Workload(service_account="{shown}") or MESHLIB_SERVICE_ACCOUNT={shown}, or a certificate of {given}',
        ))  # fmt: skip
    if identity.trust_domain != trust_domain and identity.trust_domain not in aliases:
        shown = identity.trust_domain
        found.append((
            f"the certificate is {identity}, of trust domain {shown}, and the trust domain of the mesh is {trust_domain}, "
            f"without {shown} among its aliases: policies and names of servers keep meaning {trust_domain}",
            f"set MeshConfig's trustDomain (or trustDomainAliases), or without one Workload(trust_domain=...) or "
            f"MESHLIB_TRUST_DOMAIN, to {shown}; or give it a certificate of {trust_domain}",
        ))  # fmt: skip
    return [Problem(CODE, Severity.WARNING, what, 0, 0, "", message, hint) for message, hint in found]
