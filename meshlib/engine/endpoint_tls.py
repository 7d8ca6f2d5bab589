"""What is spoken to an endpoint, and why, in words: for explanations and ``mesh.status()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from meshlib.compiler.routes import Cluster
    from meshlib.policy.endpoint import Address

MTLS = "mTLS"
PLAIN = "plain text"
LABEL = "security.istio.io/tlsMode"


def endpoint_tls(
    spec: Cluster, endpoint: Address, mutual: Collection[str], certificate: str | None = None
) -> tuple[str, str]:
    """``mTLS``, ``plain text`` or the mode of a DestinationRule (SIMPLE, MUTUAL), and the reason. ``mutual``: keys of endpoints
    that take mTLS of the mesh; ``certificate``: our SPIFFE ID, "" without a certificate, None when it is not known."""
    tls = spec.tls
    if tls is not None:
        if tls.mode != "ISTIO_MUTUAL":
            return tls.mode, f"tls of {spec.destination_rule}"
        missing = "; this process has no certificate: calls fail (UF)" if certificate == "" else ""
        return MTLS, f"tls ISTIO_MUTUAL of {spec.destination_rule}{missing}"
    if endpoint.key in mutual:
        if certificate == "":
            return PLAIN, "its workload takes mTLS, and this process has no certificate"
        return MTLS, "auto mTLS: its workload takes it" if certificate else "auto mTLS, if we have a certificate"
    policy = spec.mtls_disabled.get(endpoint.key)
    if policy is not None:
        return PLAIN, f"PeerAuthentication/{policy} is DISABLE at its port" if policy else "mTLS is off at its port"
    if spec.why_plain:
        return PLAIN, spec.why_plain
    said = endpoint.labels.get(LABEL)
    return PLAIN, f"its label {LABEL} is {said}" if said else f"its workload has no label {LABEL}: istio"
