"""Whether the certificate says the same of this process as its mesh was told.

A mesh selects policies by the workload that it was given, as a sidecar does by its Pod, never by a certificate. Where the two
differ, others judge this process by one name and it judges others by another: that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.workload import Workload

CODE = "identity-of-another-workload"


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
            f"the certificate is {identity}, of service account {shown}, and this workload was given service account {given}: "
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
