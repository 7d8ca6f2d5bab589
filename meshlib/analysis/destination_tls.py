"""TLS to servers without naming who may vouch for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

from meshlib.analysis.codes import NO_PORT_VERIFICATION, NO_VERIFICATION
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import DESTINATION_RULE

if TYPE_CHECKING:
    from meshlib.analysis.codes import Code
    from meshlib.resources.destination_rule import DestinationRule, Tls

_MEANS = (
    "any certificate issued by an authority of the system is accepted, and older Istio proxies verify nothing at all"
)
_HINT = "caCertificates: the file of the authority that signed the server's certificate"


def unverified_servers(index: Index) -> Iterator[Finding]:
    """TLS mode SIMPLE or MUTUAL without caCertificates, for the whole host or for a port."""
    for rule in index.analyzed(DESTINATION_RULE):
        take_turns()
        policy = rule.spec.traffic_policy
        if policy is None:
            continue
        if _unverified(policy.tls, rule):
            message = f"TLS mode {policy.tls.mode} for {rule.spec.host} without caCertificates"
            yield _finding(NO_VERIFICATION, rule, ("spec", "trafficPolicy", "tls", "mode"), message)
        for position, setting in enumerate(policy.port_level_settings or ()):
            if _unverified(setting.tls, rule):
                number = setting.port.number if setting.port is not None else None
                message = f"TLS mode {setting.tls.mode} for port {number} of {rule.spec.host} without caCertificates"
                loc: Loc = ("spec", "trafficPolicy", "portLevelSettings", position, "tls", "mode")
                yield _finding(NO_PORT_VERIFICATION, rule, loc, message)


def _unverified(tls: Tls | None, rule: DestinationRule) -> TypeGuard[Tls]:
    if tls is None or tls.mode not in ("SIMPLE", "MUTUAL") or tls.ca_certificates:
        return False
    # a secret may hold the authority; only a workload with that selector can have it
    return not (tls.credential_name and rule.spec.workload_selector is not None)


def _finding(code: Code, rule: DestinationRule, loc: Loc, message: str) -> Finding:
    return Finding(code, rule, loc, f"{message}: {_MEANS}", _HINT)
