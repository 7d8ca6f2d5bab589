"""What is in force for the requests that a workload serves, as plain data for ``mesh.status()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound, InboundPorts
    from meshlib.engine.authorization_check import AuthorizationCounts
    from meshlib.engine.peer_check import PeerCounts


class PolicyStatus(TypedDict):
    """An AuthorizationPolicy of this workload. ``denied`` counts the requests that it refused, ``audited`` those that it
    matched with action AUDIT, ``would_have_denied`` those that it would have refused were it no dry run; ``broken``: why it
    refuses everything that it could have, "" when it does not."""

    policy: str
    action: str
    dry_run: bool
    rules: int
    broken: str
    denied: int
    audited: int
    would_have_denied: int


class MtlsStatus(TypedDict):
    """The mode of a port, the PeerAuthentication that says so ("" when none does), and why it cannot be read ("" when it can:
    it is STRICT then)."""

    mode: str
    policy: str
    broken: str


class InboundStatus(TypedDict):
    """``mtls`` is the mode of all ports but those of ``mtls_ports`` (by number; "unknown": a server that does not tell);
    ``mtls_refused`` counts by PeerAuthentication the requests of callers without identity that STRICT has refused.
    ``denied_by_none``: requests that no rule of the ALLOW policies let in. ``custom`` are the providers that CUSTOM policies
    ask, ``tokens`` the RequestAuthentications, ``broken_tokens`` those of them that cannot be read, and why: every token where
    they may have looked for one is refused. ``protection`` is the ResiliencePolicy ("" without), ``faults`` the EnvoyFilters
    that inject some, ``rate_limits`` how many limits EnvoyFilters set. ``path_normalization`` and ``trust_domains`` are
    MeshConfig's."""

    policies: list[PolicyStatus]
    denied_by_none: int
    custom: list[str]
    tokens: list[str]
    broken_tokens: dict[str, str]
    protection: str
    rate_limits: int
    faults: list[str]
    path_normalization: str
    trust_domains: list[str]
    mtls: MtlsStatus
    mtls_ports: dict[str, MtlsStatus]
    mtls_refused: dict[str, int]


def _mtls(settings: Inbound) -> MtlsStatus:
    return {"mode": settings.mtls.value, "policy": settings.mtls_policy, "broken": settings.mtls_broken}


def inbound_status(ports: InboundPorts, counts: AuthorizationCounts, peers: PeerCounts) -> InboundStatus:
    """Of the settings of all ports (policies are the same on each), and what they have decided so far."""
    settings = ports.default
    modes = {"unknown" if port == 0 else str(port): _mtls(inbound) for port, inbound in ports.ports.items()}
    mtls = _mtls(settings)
    denied, audited, tried = counts.of("denied"), counts.of("audited"), counts.of("dry_run_denied")
    policies = () if settings.authorization is None else settings.authorization.policies
    tokens = () if settings.tokens is None else settings.tokens.rules
    unread = () if settings.tokens is None else settings.tokens.unread
    named = [*(rule.resource for rule in tokens), *(broken.resource for broken in unread)]
    mesh = settings.mesh
    return {
        "policies": [
            {
                "policy": policy.id,
                "action": policy.action,
                "dry_run": policy.dry_run,
                "rules": len(policy.rules),
                "broken": policy.broken,
                "denied": denied.get(policy.id, 0),
                "audited": audited.get(policy.id, 0),
                "would_have_denied": tried.get(policy.id, 0),
            }
            for policy in policies
        ],
        "denied_by_none": denied.get("", 0),
        "custom": [custom.provider for custom in settings.custom],
        "tokens": list(dict.fromkeys(named)),
        "broken_tokens": {broken.resource: broken.why for broken in unread},
        "protection": "" if settings.protection is None else settings.protection.resource,
        "rate_limits": len(settings.limits.local) + len(settings.limits.shared),
        "faults": list(settings.resources),
        "path_normalization": mesh.path_normalization,
        "trust_domains": [mesh.trust_domain, *mesh.trust_domain_aliases],
        "mtls": mtls,
        "mtls_ports": {port: mode for port, mode in modes.items() if mode != mtls},
        "mtls_refused": dict(peers.refused()),
    }
