"""Subsets: those that VirtualServices name and no DestinationRule has, those that select nothing, and rules for hosts that
are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.analysis.codes import NOT_FOUND, SUBSET_WITHOUT_PODS, UNKNOWN_RULE_HOST
from meshlib.analysis.destinations import destinations_of
from meshlib.analysis.finding import Finding
from meshlib.analysis.hosts import KnownHost, full_name
from meshlib.analysis.index import Index, Workload, selector_text
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns
from meshlib.registry.lack import UNDEFINED, no_endpoints
from meshlib.registry.names import most_specific
from meshlib.resources.typed import DESTINATION_RULE, VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.load_result import Other

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_HOSTNAME = "kubernetes.io/hostname"


def named_subsets(index: Index) -> Iterator[Finding]:
    """Subsets that a destination names and no DestinationRule for its host defines."""
    defined: dict[str, dict[str, str]] = {}
    for rule in index.of(DESTINATION_RULE):
        if rule.spec.host:
            table = defined.setdefault(full_name(rule.spec.host, rule.namespace), {})
            for subset in rule.spec.subsets or ():
                table.setdefault(subset.name or "", rule.id)
    wildcards = [host for host in defined if host.startswith("*")]
    for service in index.analyzed(VIRTUAL_SERVICE):
        for place in destinations_of(service):
            take_turns()
            model = place.model
            if not model.subset or not model.host:
                continue
            name = full_name(model.host, service.namespace)
            pattern = most_specific(wildcards, name) if name not in defined and wildcards else name
            subsets = defined.get(pattern or name)
            if subsets is not None and model.subset in subsets:
                continue
            if subsets is None and index.hosts.find(model.host, service.namespace, service.spec.export_to) is None:
                continue  # the host is what is wrong
            yield Finding(
                NOT_FOUND,
                service,
                (*place.loc, "subset"),
                f"no DestinationRule defines the subset {model.subset} of {model.host}",
                _hint(model.host, model.subset, subsets or {}),
                name,
            )


def _hint(host: str, subset: str, subsets: Mapping[str, str]) -> str:
    if not subsets:
        return f"add a DestinationRule for {host} with that subset"
    near = did_you_mean(Nearest(subsets).of(subset))
    owner = next(iter(subsets.values()))
    return near or f"{owner} has {', '.join(list(subsets)[:10])}"


def rules(index: Index) -> Iterator[Finding]:
    """DestinationRules for hosts that are not there, and their subsets that select nothing."""
    nodes = {node.name: node for node in index.others("Node")}
    for rule in index.analyzed(DESTINATION_RULE):
        take_turns()
        host = rule.spec.host
        if not host:
            continue
        known = index.hosts.find(host, rule.namespace, rule.spec.export_to)
        if known is None:
            if host.startswith("*") and index.hosts.covered_by(host):
                continue
            what = "add its Service or ServiceEntry, or remove the rule"
            if not host.startswith("*"):
                lack = no_endpoints(full_name(host, rule.namespace), rule.namespace, UNDEFINED)
                what = f"{what}; {lack}"
            hint = index.hosts.hint(host, rule.namespace, what)
            message = f"the host {host} matches no Service and no ServiceEntry"
            yield Finding(UNKNOWN_RULE_HOST, rule, ("spec", "host"), message, hint)
        elif rule.spec.subsets and index.workloads.all and not index.hosts.is_local(known):
            yield from _without_pods(index, rule, known, nodes)


def _without_pods(
    index: Index, rule: DestinationRule, known: KnownHost, nodes: Mapping[str, Other]
) -> Iterator[Finding]:
    candidates = _candidates(index, known)
    for position, subset in enumerate(rule.spec.subsets or ()):
        labels = subset.labels or {}
        if candidates is None:
            found = bool(index.workloads.select(labels))
            found = found or (bool(nodes) and any(_has(pod, labels, nodes) for pod in index.pods.all))
        else:
            found = any(_has(workload, labels, nodes) for workload in candidates)
        if found:
            continue
        yield Finding(
            SUBSET_WITHOUT_PODS,
            rule,
            ("spec", "subsets", position, "labels" if labels else "name"),
            f"the subset {subset.name} selects nothing that serves {rule.spec.host}: calls to it get 503 (UH)",
            _other_values(index, candidates, labels),
        )


def _candidates(index: Index, known: KnownHost) -> Sequence[Workload] | None:
    """What may serve the host; None for anything, where no selector says it."""
    resource = known.resource
    if known.selector is not None:
        return index.workloads.select(known.selector, resource.namespace)
    if resource.kind == "ServiceEntry" and resource.spec.endpoints:
        return [
            Workload("endpoint", entry.address or "", resource.namespace, entry.labels or {}, {})
            for entry in resource.spec.endpoints
        ]
    return None


def _has(workload: Workload, labels: Mapping[str, str], nodes: Mapping[str, Other]) -> bool:
    if all(workload.labels.get(key) == value for key, value in labels.items()):
        return True
    node = nodes.get(workload.node)
    own = dict(workload.labels)
    if node is not None:
        found = node.metadata.get("labels")
        if isinstance(found, Mapping):
            own |= {key: found[key] for key in _TOPOLOGY if found.get(key)}
        own[_HOSTNAME] = workload.node
    return all(own.get(key) == value for key, value in labels.items())


def _other_values(index: Index, candidates: Sequence[Workload] | None, labels: Mapping[str, str]) -> str:
    """Which values the label has that is not found."""
    for key, value in labels.items():
        if candidates is None:
            values = index.workloads.values_of(key)
        else:
            values = sorted({w.labels[key] for w in candidates if key in w.labels})
        if value not in values:
            near = Nearest(values).of(value)
            if near:
                return did_you_mean(f"{key}: {near}")
            return f"{key} is {', '.join(values[:10])} there" if values else f"nothing there has the label {key}"
    return f"no workload has all of {selector_text(labels)}" if labels else ""
