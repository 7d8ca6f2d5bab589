"""Namespaces that are named and do not exist: in exportTo, and in the sources of AuthorizationPolicies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import NOT_FOUND
from meshlib.analysis.finding import Finding, Loc, Subject
from meshlib.analysis.index import Index
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns
from meshlib.registry.kubernetes import EXPORT_TO
from meshlib.resources.typed import AUTHORIZATION_POLICY, DESTINATION_RULE, SERVICE, SERVICE_ENTRY, VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import DestinationRule
    from meshlib.resources.service_entry import ServiceEntry
    from meshlib.resources.virtual_service import VirtualService


class _Known:
    """Namespaces: those that are there as resources, and those that resources are in. When no Namespace is there, a name is
    wrong only if it looks like a slip of the pen."""

    def __init__(self, index: Index) -> None:
        self._sure = bool(index.namespaces)
        self._names = {*index.namespaces, *index.used_namespaces}
        self._nearest = Nearest(sorted(self._names))

    def wrong(self, name: str) -> bool:
        if name in self._names:
            return False
        return self._sure or bool(self._nearest.of(name))

    def matches_none(self, pattern: str) -> bool:
        """As Istio reads the sources of a policy: ``*``, ``prod-*``, ``*-test``, any case."""
        if pattern == "*" or not self._sure:
            return False
        if pattern.startswith("*"):
            return not any(name.endswith(pattern[1:]) for name in self._names)
        if pattern.endswith("*"):
            return not any(name.startswith(pattern[:-1]) for name in self._names)
        return pattern.lower() not in {name.lower() for name in self._names}

    def finding(self, resource: Subject, loc: Loc, name: str) -> Finding:
        hint = did_you_mean(self._nearest.of(name)) or "add the Namespace, or remove its name"
        message = f"no namespace matches {name}" if "*" in name else f"the namespace {name} does not exist"
        return Finding(NOT_FOUND, resource, loc, message, hint)


def exported_to(index: Index) -> Iterator[Finding]:
    """exportTo of VirtualServices, DestinationRules and ServiceEntries, and the annotation of Services."""
    known = _Known(index)
    exported: list[VirtualService | DestinationRule | ServiceEntry] = [
        *index.analyzed(VIRTUAL_SERVICE),
        *index.analyzed(DESTINATION_RULE),
        *index.analyzed(SERVICE_ENTRY),
    ]
    for resource in exported:
        take_turns()
        for position, name in enumerate(resource.spec.export_to or ()):
            if name not in ("*", ".", "~") and known.wrong(name):
                yield known.finding(resource, ("spec", "exportTo", position), name)
    for service in index.analyzed(SERVICE):
        for name in service.annotations.get(EXPORT_TO, "").split(","):
            bare = name.strip()
            if bare and bare not in ("*", ".", "~") and known.wrong(bare):
                yield known.finding(service, ("metadata", "annotations", EXPORT_TO), bare)


def sources_of_policies(index: Index) -> Iterator[Finding]:
    """``namespaces`` and ``notNamespaces`` of AuthorizationPolicies."""
    known = _Known(index)
    for policy in index.analyzed(AUTHORIZATION_POLICY):
        for number, rule in enumerate(policy.spec.rules or ()):
            for position, origin in enumerate(rule.from_ or ()):
                if origin.source is None:
                    continue
                here: Loc = ("spec", "rules", number, "from", position, "source")
                for field, names in (
                    ("namespaces", origin.source.namespaces),
                    ("notNamespaces", origin.source.not_namespaces),
                ):
                    for at, name in enumerate(names or ()):
                        if known.matches_none(name):
                            yield known.finding(policy, (*here, field, at), name)
