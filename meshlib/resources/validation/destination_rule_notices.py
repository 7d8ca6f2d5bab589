"""Old spellings and settings of a DestinationRule that do less than they seem to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, deprecated

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import DestinationRule, PortLevelSetting, TrafficPolicy


def notices(rule: DestinationRule) -> Iterator[Notice]:
    """Of each traffic policy and port level."""
    policies: list[tuple[Loc, TrafficPolicy | None]] = [(("spec", "trafficPolicy"), rule.spec.traffic_policy)]
    policies += [
        (("spec", "subsets", i, "trafficPolicy"), subset.traffic_policy)
        for i, subset in enumerate(rule.spec.subsets or ())
    ]
    for loc, policy in policies:
        if policy is None:
            continue
        yield from _policy_notices(policy, loc)
        for i, level in enumerate(policy.port_level_settings or ()):
            yield from _policy_notices(level, (*loc, "portLevelSettings", i))


def _policy_notices(policy: TrafficPolicy | PortLevelSetting, loc: Loc) -> list[Notice]:
    found = []
    balancer, detection = policy.load_balancer, policy.outlier_detection
    if balancer is not None:
        here: Loc = (*loc, "loadBalancer")
        if balancer.simple == "LEAST_CONN":
            found.append(deprecated((*here, "simple"), "LEAST_CONN", "LEAST_REQUEST"))
        if balancer.warmup_duration_secs is not None:
            found.append(deprecated((*here, "warmupDurationSecs"), "warmupDurationSecs", "warmup: {duration: ...}"))
        if balancer.consistent_hash is not None and balancer.consistent_hash.minimum_ring_size is not None:
            found.append(
                deprecated(
                    (*here, "consistentHash", "minimumRingSize"), "minimumRingSize", "ringHash: {minimumRingSize: ...}"
                )
            )
    if detection is not None:
        if detection.consecutive_errors is not None:
            found.append(
                deprecated(
                    (*loc, "outlierDetection", "consecutiveErrors"),
                    "consecutiveErrors",
                    "consecutiveGatewayErrors (which is how it is read here; Istio ignores it)",
                )
            )
        if detection.max_ejection_percent is None:
            found.append(
                Notice(
                    "ejection-cap",
                    "notice",
                    (*loc, "outlierDetection"),
                    "maxEjectionPercent is left at 10: with fewer than 10 endpoints none can ever be ejected",
                    "maxEjectionPercent: 50",
                )
            )
    return found
