"""What a DestinationRule says for one port and subset: the policy of the cluster, and what a route hashes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.compiler.destination_rules import MergedRule


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What counts for one port and subset: block by block, never merged inside a block."""

    load_balancer: Any = None
    connection_pool: Any = None
    outlier_detection: Any = None
    tls: Any = None
    retry_budget: Any = None


_BLOCKS = ("load_balancer", "connection_pool", "outlier_detection", "tls", "retry_budget")


def effective_policy(rule: MergedRule | None, subset: str, port: int) -> EffectivePolicy:
    """Block by block: subset's port level > subset > rule's port level > rule. A port-level entry does not inherit: blocks
    that it lacks are defaults, not those of its own level or of a lower one, as in Istio."""
    if rule is None:
        return EffectivePolicy()
    base = _level(rule.traffic_policy, port)
    chosen = rule.subsets.get(subset) if subset else None
    if chosen is not None:
        over = _level(chosen.traffic_policy, port)
        if _of_port(chosen.traffic_policy, port) is not None:
            base = {**dict.fromkeys(_BLOCKS), "retry_budget": base["retry_budget"]}  # which ports do not have
        base = {block: over[block] if over[block] is not None else base[block] for block in _BLOCKS}
    return EffectivePolicy(**base)


def route_hash(rule: MergedRule | None, subset: str, port: int) -> Any:
    """The consistentHash that a route of a VirtualService goes by, or None. Not what the cluster's balancer is: a level
    without one does not hide that of the next, and a port level counts only where the destination names the port
    (``port``; 0: it does not)."""
    if rule is None:
        return None
    chosen = rule.subsets.get(subset) if subset else None
    policies = (chosen.traffic_policy if chosen is not None else None, rule.traffic_policy)
    for policy in policies:
        for level in (_of_port(policy, port) if port else None, policy):
            balancer = level.load_balancer if level is not None else None
            if balancer is not None and balancer.consistent_hash is not None:
                return balancer.consistent_hash
    return None


def _of_port(policy: Any, port: int) -> Any:
    entries = policy.port_level_settings if policy is not None else None
    return next((e for e in entries or () if e.port is not None and e.port.number == port), None)


def _level(policy: Any, port: int) -> dict[str, Any]:
    source = _of_port(policy, port) or policy
    return {block: getattr(source, block, None) for block in _BLOCKS}
