"""What a DestinationRule says for one port and subset: the policy of the cluster, and what a route hashes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from meshlib.compiler.destination_rules import MergedRule
    from meshlib.resources import destination_rule as written
    from meshlib.resources.connection_pool import ConnectionPool

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What counts for one port and subset: block by block, never merged inside a block."""

    load_balancer: written.LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: written.OutlierDetection | None = None
    tls: written.Tls | None = None
    retry_budget: written.RetryBudget | None = None
    proxy_protocol: written.ProxyProtocol | None = None


NO_POLICY = EffectivePolicy()


def effective_policy(rule: MergedRule | None, subset: str, port: int) -> EffectivePolicy:
    """Block by block: subset's port level > subset > rule's port level > rule. A port-level entry does not inherit: blocks
    that it lacks are defaults, not those of its own level or of a lower one, as in Istio."""
    if rule is None:
        return NO_POLICY
    base = _level(rule.traffic_policy, port)
    chosen = rule.subsets.get(subset) if subset else None
    if chosen is None:
        return base
    over = _level(chosen.traffic_policy, port)
    if _of_port(chosen.traffic_policy, port) is not None:
        base = EffectivePolicy(retry_budget=base.retry_budget, proxy_protocol=base.proxy_protocol)  # ports have none
    return EffectivePolicy(
        _first(over.load_balancer, base.load_balancer),
        _first(over.connection_pool, base.connection_pool),
        _first(over.outlier_detection, base.outlier_detection),
        _first(over.tls, base.tls),
        _first(over.retry_budget, base.retry_budget),
        _first(over.proxy_protocol, base.proxy_protocol),
    )


def tls_of_levels(rule: MergedRule | None, subset: str, port: int) -> written.Tls | None:
    """The tls block of the narrowest level that has one: what istiod asks of an endpoint where the effective policy has none. A
    port level without one does not hide that of the level around it."""
    if rule is None:
        return None
    chosen = rule.subsets.get(subset) if subset else None
    for policy in (chosen.traffic_policy if chosen is not None else None, rule.traffic_policy):
        for level in (_of_port(policy, port), policy):
            if level is not None and level.tls is not None:
                return level.tls
    return None


def _first(over: B | None, base: B | None) -> B | None:
    return base if over is None else over


def route_hash(rule: MergedRule | None, subset: str, port: int) -> written.ConsistentHash | None:
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


def _of_port(policy: written.TrafficPolicy | None, port: int) -> written.PortLevelSetting | None:
    entries = policy.port_level_settings if policy is not None else None
    return next((e for e in entries or () if e.port is not None and e.port.number == port), None)


def _level(policy: written.TrafficPolicy | None, port: int) -> EffectivePolicy:
    entry = _of_port(policy, port)
    if entry is not None:
        proxied = None if policy is None else policy.proxy_protocol
        return EffectivePolicy(
            entry.load_balancer, entry.connection_pool, entry.outlier_detection, entry.tls, proxy_protocol=proxied
        )
    if policy is None:
        return NO_POLICY
    return EffectivePolicy(
        policy.load_balancer,
        policy.connection_pool,
        policy.outlier_detection,
        policy.tls,
        policy.retry_budget,
        policy.proxy_protocol,
    )
