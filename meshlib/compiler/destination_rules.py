"""DestinationRule selection and merging: which traffic policy and subsets a client applies to a host.

Order of namespaces: the client's own, the service's, the root namespace; the first that has one wins whole. In another
namespace than its own a client looks among what is exported at all, and only then asks whether it is exported to the client:
an exact host that is exported elsewhere hides a wildcard. (A client in the root namespace has as its own only what is for that
namespace alone.) Rules of one host merge where their exportTo is the same, or that of the later one includes the earlier one's:
the oldest trafficPolicy counts, subsets with new names are added. Of those that stay apart the newest counts (Istio's
push context).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity
from meshlib.registry.names import SuffixIndex, resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import DestinationRule, DestinationRuleSpec, Subset, TrafficPolicy


@dataclass(slots=True)
class MergedRule:
    """One or several DestinationRules of a host, as one. ``id`` names the first; ``selector`` None: for every workload.
    ``passes_through``: a balancer PASSTHROUGH is somewhere in it."""

    id: str
    namespace: str
    traffic_policy: TrafficPolicy | None
    subsets: dict[str, Subset]
    export_to: frozenset[str]
    selector: Mapping[str, str] | None
    passes_through: bool = False

    def visible_from(self, client: str) -> bool:
        """Whether exportTo shows it to clients of another namespace than its own."""
        return not self.export_to or "*" in self.export_to or client in self.export_to


class _Hosts:
    """Merged rules by host: exact ones, and wildcards by what follows the asterisk."""

    def __init__(self) -> None:
        self._exact: dict[str, list[MergedRule]] = {}
        self._wildcards = SuffixIndex[list[MergedRule]]()

    def of(self, host: str) -> list[MergedRule]:
        """The rules of this very host, to be added to."""
        if host.startswith("*"):
            return self._wildcards.setdefault(host[1:], [])
        return self._exact.setdefault(host, [])

    def most_specific(self, host: str) -> list[MergedRule]:
        """The rules that name the host, else those of the longest wildcard that covers it."""
        if host.startswith("*"):
            return self._wildcards.longest(host[1:]) or []
        return self._exact.get(host) or self._wildcards.longest(host) or []


@dataclass(slots=True)
class _Namespace:
    """One namespace's rules, as three kinds of clients see them."""

    own: _Hosts = field(default_factory=_Hosts)  # clients of the namespace
    private: _Hosts = field(default_factory=_Hosts)  # what is for clients of the namespace only
    exported: _Hosts = field(default_factory=_Hosts)  # the rest, whomever it is exported to


class DestinationRules:
    """All DestinationRules, looked up as one client would."""

    def __init__(self, rules: Iterable[DestinationRule], workload: Workload, domain: str, root_namespace: str) -> None:
        self._root_namespace = root_namespace
        self._workload = workload
        self._domain = domain
        self._namespaces: dict[str, _Namespace] = {}
        self._said: dict[tuple[str, str, str], Problem] = {}
        for rule in sorted(rules, key=lambda r: (r.spec.workload_selector is None, r.age_key)):
            self._add(rule)

    @property
    def problems(self) -> list[Problem]:
        """What is lost where several rules have one host."""
        return list(self._said.values())

    def find(self, host: str, service_namespace: str | None) -> MergedRule | None:
        """The rule for ``host``, or None."""
        client = self._workload.namespace
        own = self._namespaces.get(client)
        if own is not None:
            found = (own.private if client == self._root_namespace else own.own).most_specific(host)
            if found:
                return self._for_workload(found)
        for namespace in (service_namespace or client, self._root_namespace):
            there = self._namespaces.get(namespace)
            if there is not None:
                found = [rule for rule in there.exported.most_specific(host) if rule.visible_from(client)]
                if found:
                    return self._for_workload(found)
        return None

    def _for_workload(self, rules: list[MergedRule]) -> MergedRule | None:
        """The first whose selector fits, else the last for every workload."""
        chosen = None
        labels = self._workload.labels
        for rule in rules:
            if rule.selector is None:
                chosen = rule
            elif rule.namespace == self._workload.namespace and all(
                labels.get(k) == v for k, v in rule.selector.items()
            ):
                return rule
        return chosen

    def _add(self, rule: DestinationRule) -> None:
        spec, namespace = rule.spec, rule.namespace
        host = resolve(spec.host, namespace, self._domain)
        # whoever is chosen by labels is in the rule's own namespace
        export_to = frozenset(spec.export_to or ()) if spec.workload_selector is None else frozenset((".",))
        tables = self._namespaces.setdefault(namespace, _Namespace())
        if not export_to or not export_to.isdisjoint(("*", ".", namespace)):
            self._merge(tables.own.of(host), rule, export_to)
        private = len(export_to) == 1 and not export_to.isdisjoint((".", namespace))
        self._merge((tables.private if private else tables.exported).of(host), rule, export_to)

    def _merge(self, rules: list[MergedRule], rule: DestinationRule, export_to: frozenset[str]) -> None:
        spec = rule.spec
        selector = (spec.workload_selector.match_labels or {}) if spec.workload_selector is not None else None
        apart = True
        for other in rules:
            same_export = export_to == other.export_to
            if not same_export and not (other.export_to and export_to > other.export_to):
                apart = True
                continue
            if selector is not None and other.selector is not None and selector != other.selector:
                apart = True
                continue
            apart = not same_export and (selector is None) != (other.selector is None)
            self._join(other, rule)
        if not apart:
            return
        if rules:
            self._warn(
                rule,
                rules[0].id,
                "they have not the same exportTo or workloadSelector and are not merged: of several that are for a client "
                "the newest counts whole",
            )
        subsets = {subset.name: subset for subset in spec.subsets or ()}
        rules.append(
            MergedRule(
                rule.id, rule.namespace, spec.traffic_policy, subsets, export_to, selector, _passes_through(spec)
            )
        )

    def _join(self, merged: MergedRule, rule: DestinationRule) -> None:
        spec = rule.spec
        merged.passes_through = merged.passes_through or _passes_through(spec)
        if merged.traffic_policy is None:
            merged.traffic_policy = spec.traffic_policy
        elif spec.traffic_policy is not None:
            self._warn(rule, merged.id, "its trafficPolicy is not used: the oldest DestinationRule of a host decides")
        for subset in spec.subsets or ():
            if subset.name in merged.subsets:
                self._warn(rule, merged.id, f"its subset {subset.name} is not used: an older rule has that name")
            merged.subsets.setdefault(subset.name, subset)

    def _warn(self, rule: DestinationRule, first: str, message: str) -> None:
        origin = rule.origin
        self._said.setdefault(
            (rule.id, first, message),
            Problem(
                "destination-rule-overlap",
                Severity.WARNING,
                origin.file,
                origin.line,
                origin.column,
                rule.id,
                f"host {rule.spec.host} already has {first}; {message}",
                f"merge it into {first}",
            ),
        )


def _passes_through(spec: DestinationRuleSpec) -> bool:
    for policy in (spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets or ())):
        if policy is None:
            continue
        for level in (policy, *(policy.port_level_settings or ())):
            if level.load_balancer is not None and level.load_balancer.simple == "PASSTHROUGH":
                return True
    return False
