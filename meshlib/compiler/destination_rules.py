"""DestinationRule selection and merging: which traffic policy and subsets a client applies to a host.

Order of namespaces: the client's own, the service's, the root namespace; the first that has one wins whole. (Of a client in
the root namespace its own are those that are exported to it alone.) Within a
namespace the exact host beats the longest wildcard, and rules of one host are merged: the oldest trafficPolicy counts,
subsets with new names are added (istio-semantics 2.14).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlib.compiler.scope import ROOT_NAMESPACE, exported_to
from meshlib.errors import Problem, Severity
from meshlib.registry.names import most_specific, resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import DestinationRule


@dataclass(frozen=True, slots=True)
class MergedRule:
    """One or several DestinationRules of a host, as one. ``id`` names the oldest."""

    id: str
    traffic_policy: Any  # TrafficPolicy model or None
    subsets: Mapping[str, Any]  # name -> Subset model
    export_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What counts for one port and subset: block by block, never merged inside a block."""

    load_balancer: Any = None
    connection_pool: Any = None
    outlier_detection: Any = None
    tls: Any = None
    retry_budget: Any = None


class DestinationRules:
    """All DestinationRules, looked up as one client would."""

    def __init__(self, rules: Iterable[DestinationRule], workload: Workload, domain: str) -> None:
        self._workload = workload
        self._by_namespace: dict[str, dict[str, MergedRule]] = {}
        self.problems: list[Problem] = []
        grouped: dict[tuple[str, str], list[DestinationRule]] = {}
        for rule in sorted(rules, key=lambda r: r.age_key):
            selector = getattr(rule.spec, "workload_selector", None)
            if selector is not None and not self._selected(rule, selector):
                continue
            grouped.setdefault((rule.namespace, resolve(rule.spec.host, rule.namespace, domain)), []).append(rule)
        for (namespace, host), members in grouped.items():
            self._by_namespace.setdefault(namespace, {})[host] = self._merge(members)

    def find(self, host: str, service_namespace: str | None) -> MergedRule | None:
        """The rule for ``host``, or None."""
        client = self._workload.namespace
        # rules of the root namespace are for everybody and come last, for its own clients too, unless only they see them
        order = ((client, client == ROOT_NAMESPACE), (service_namespace or client, False), (ROOT_NAMESPACE, False))
        for namespace, private in order:
            table = self._by_namespace.get(namespace)
            if not table:
                continue
            found = table.get(host)
            if found is None:
                pattern = most_specific([h for h in table if h.startswith("*")], host)
                found = table.get(pattern) if pattern is not None else None
            if found is None or (private and not (found.export_to and {".", namespace}.issuperset(found.export_to))):
                continue
            if exported_to(found.export_to, namespace, client):
                return found
        return None

    def _selected(self, rule: DestinationRule, selector: Any) -> bool:
        labels = selector.match_labels or {}
        have = self._workload.labels
        return rule.namespace == self._workload.namespace and all(have.get(k) == v for k, v in labels.items())

    def _merge(self, members: Sequence[DestinationRule]) -> MergedRule:
        # a rule selected by workloadSelector goes before plain ones of the same host
        members = sorted(members, key=lambda r: getattr(r.spec, "workload_selector", None) is None)
        first = members[0]
        policy = first.spec.traffic_policy
        subsets: dict[str, Any] = {}
        for rule in members:
            if policy is None:
                policy = rule.spec.traffic_policy
            elif rule is not first and rule.spec.traffic_policy is not None:
                self._warn(rule, first, "its trafficPolicy is not used: the oldest DestinationRule of a host decides")
            for subset in rule.spec.subsets or ():
                if subset.name in subsets and rule is not first:
                    self._warn(rule, first, f"its subset {subset.name} is not used: an older rule has that name")
                subsets.setdefault(subset.name, subset)
        return MergedRule(first.id, policy, subsets, tuple(first.spec.export_to or ()))

    def _warn(self, rule: DestinationRule, first: DestinationRule, message: str) -> None:
        origin = rule.origin
        self.problems.append(
            Problem(
                "destination-rule-overlap",
                Severity.WARNING,
                origin.file,
                origin.line,
                origin.column,
                rule.id,
                f"host {rule.spec.host} already has {first.id}; {message}",
                f"merge it into {first.id}",
            )
        )


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
            base = dict.fromkeys(_BLOCKS)
        base = {block: over[block] if over[block] is not None else base[block] for block in _BLOCKS}
    return EffectivePolicy(**base)


def _of_port(policy: Any, port: int) -> Any:
    entries = policy.port_level_settings if policy is not None else None
    return next((e for e in entries or () if e.port is not None and e.port.number == port), None)


def _level(policy: Any, port: int) -> dict[str, Any]:
    source = _of_port(policy, port) or policy
    return {block: getattr(source, block, None) for block in _BLOCKS}
