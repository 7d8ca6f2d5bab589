"""Delegation (VirtualService ``http[].delegate``): the rules of another VirtualService in place of a root's rule.

A delegate has no hosts, and one level is all there is. Each of its rules is narrowed by the root rule's match blocks; a
rule that contradicts them does not exist. What a delegate's rule leaves unset (timeout, retries, rewrite ...) comes from
the root's. Names of destinations are those of the namespace that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.compiler.scope import exported_to
from meshlib.pace import free_in_turns, take_turns
from meshlib.problems import Problem, Severity
from meshlib.registry.names import resolve

if TYPE_CHECKING:
    from meshlib.resources.types import StringMatch
    from meshlib.resources.virtual_service import Destination, HttpMatchRequest, HttpRoute, VirtualService

_FILLED_BY_ROOT = (
    "rewrite",
    "direct_response",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirror_percent",
    "mirror_percentage",
    "mirrors",
    "cors_policy",
    "headers",
)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One http rule as a client may get it: ``index`` in the root's ``spec.http``; ``namespace`` resolves its hosts;
    ``delegate`` names the rule it was taken from (``VirtualService/ns/name http[0]``), "" for the root's own;
    ``unusable`` says why there is none."""

    index: int
    model: HttpRoute
    namespace: str
    delegate: str = ""
    unusable: str = ""


class Delegates:
    """All delegates, and the rules of roots with theirs put in."""

    def __init__(self, services: Iterable[VirtualService], domain: str) -> None:
        self._domain = domain
        self._delegates: dict[tuple[str, str], VirtualService] = {}
        self._with_hosts: set[tuple[str, str]] = set()
        self._routes: dict[str, list[Route]] = {}
        self.problems: list[Problem] = []
        for service in services:
            key = (service.namespace, service.name)
            if service.spec.hosts:
                self._with_hosts.add(key)
            else:
                self._delegates[key] = service

    def routes(self, root: VirtualService) -> list[Route]:
        """The rules of a root in order, delegated ones expanded. Made once a root; problems are noted then."""
        found = self._routes.get(root.id)
        if found is None:
            found = self._routes[root.id] = list(self._expand(root))
        return found

    def forget(self) -> None:
        """Nobody asks any more: another compilation has taken the place of this one."""
        for routes in self._routes.values():
            free_in_turns(routes)

    def _expand(self, root: VirtualService) -> Iterator[Route]:
        for index, rule in enumerate(root.spec.http or ()):
            take_turns()
            if rule.delegate is None:
                yield Route(index, rule, root.namespace)
                continue
            namespace, name = rule.delegate.namespace or root.namespace, rule.delegate.name or ""
            delegate = self._delegates.get((namespace, name))
            missing = self._missing(delegate, namespace, name, root.namespace)
            if delegate is None or missing:
                yield Route(index, rule, root.namespace, unusable=missing)
                self._warn(root, index, missing, "requests go on to the next rule")
                continue
            for position, leaf in enumerate(delegate.spec.http or ()):
                take_turns()
                where = f"{delegate.id} http[{position}]"
                merged = _merge(self._full_names(rule, root.namespace), leaf)
                if merged is None:
                    reason = f"{where} matches nothing that {root.id} http[{index}] matches"
                    yield Route(index, rule, namespace, where, reason)
                    self._warn(root, index, f"{reason}: the whole rule is left out", "narrow the delegate's match")
                else:
                    yield Route(index, merged, namespace, where)

    def _missing(self, delegate: VirtualService | None, namespace: str, name: str, root_namespace: str) -> str:
        there = f"VirtualService/{namespace}/{name}"
        if delegate is None:
            if (namespace, name) in self._with_hosts:
                return f"the delegate {there} has hosts, which a delegate must not have"
            return f"the delegate {there} does not exist"
        if not exported_to(delegate.spec.export_to, namespace, root_namespace):
            return f"the delegate {there} is not exported to namespace {root_namespace}"
        return ""

    def _full_names(self, rule: HttpRoute, namespace: str) -> HttpRoute:
        """Mirrors that a delegate inherits keep meaning what they mean in the root's namespace."""
        changes: dict[str, object] = {}
        if rule.mirror is not None:
            changes["mirror"] = self._full_name(rule.mirror, namespace)
        if rule.mirrors:
            changes["mirrors"] = [
                m.model_copy(update={"destination": self._full_name(m.destination, namespace)}) for m in rule.mirrors
            ]
        return rule.model_copy(update=changes) if changes else rule

    def _full_name(self, destination: Destination, namespace: str) -> Destination:
        return destination.model_copy(update={"host": resolve(destination.host, namespace, self._domain)})

    def _warn(self, root: VirtualService, index: int, message: str, hint: str) -> None:
        origin = root.origin
        self.problems.append(
            Problem(
                "delegate",
                Severity.WARNING,
                origin.file,
                origin.line,
                origin.column,
                f"{root.id} spec.http[{index}].delegate",
                message,
                hint,
            )
        )


def _merge(root: HttpRoute, leaf: HttpRoute) -> HttpRoute | None:
    """The delegate's rule inside the root's, None when they exclude each other."""
    matches = _merge_matches(root.match or [], leaf.match or [])
    if matches is None:
        return None
    changes: dict[str, object] = {
        "match": matches or None,
        "name": "-".join(filter(None, (root.name, leaf.name))) or None,
    }
    mirrors = leaf.mirror is not None or leaf.mirrors
    for field in _FILLED_BY_ROOT:
        if mirrors and field in ("mirror", "mirrors"):
            continue  # one or the other; the delegate's own decides
        if getattr(leaf, field) is None:
            changes[field] = getattr(root, field)
    return leaf.model_copy(update=changes)


def _merge_matches(
    roots: Sequence[HttpMatchRequest], leaves: Sequence[HttpMatchRequest]
) -> list[HttpMatchRequest] | None:
    """Every pair that can hold together; None when a block of the delegate fits no block of the root."""
    if not roots or not leaves:
        return [*(leaves or roots)]
    found = []
    for leaf in leaves:
        fitting = [root for root in roots if not _excludes(root, leaf)]
        if not fitting:
            return None
        found += [_both(root, leaf) for root in fitting]
    return found


def _both(root: HttpMatchRequest, leaf: HttpMatchRequest) -> HttpMatchRequest:
    changes: dict[str, object] = {"name": "-".join(filter(None, (root.name, leaf.name))) or None}
    for field in ("uri", "scheme", "method", "authority", "port", "source_namespace", "gateways", "stat_prefix"):
        if not getattr(leaf, field):
            changes[field] = getattr(root, field)
    for field in ("headers", "without_headers", "query_params", "source_labels"):
        together = {**(getattr(root, field) or {}), **(getattr(leaf, field) or {})}
        changes[field] = together or None
    return leaf.model_copy(update=changes)


def _excludes(root: HttpMatchRequest, leaf: HttpMatchRequest) -> bool:
    """Whether no request (or no client) can satisfy both blocks, by Istio's rules, which look at one field at a time."""
    if any(_differ(getattr(root, f), getattr(leaf, f)) for f in ("uri", "scheme", "method", "authority")):
        return True
    for field in ("headers", "without_headers", "query_params"):
        if _maps_differ(getattr(root, field) or {}, getattr(leaf, field) or {}):
            return True
    if bool(root.ignore_uri_case) != bool(leaf.ignore_uri_case):
        return True
    if root.port and leaf.port and root.port != leaf.port:
        return True
    if root.source_namespace and root.source_namespace != leaf.source_namespace:
        return True
    labels = root.source_labels or {}
    if any(labels.get(key, value) != value for key, value in (leaf.source_labels or {}).items()):
        return True
    return bool(root.gateways and leaf.gateways) and not set(leaf.gateways or ()) <= set(root.gateways or ())


def _maps_differ(roots: Mapping[str, StringMatch], leaves: Mapping[str, StringMatch]) -> bool:
    return any(_differ(roots.get(key), match) for key, match in leaves.items())


def _differ(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """A regex goes with nothing, an exact value with the same one, a prefix with what begins with it."""
    if root is None or leaf is None:
        return False
    if root.exact:
        return leaf.exact != root.exact
    if root.prefix:
        return not (leaf.exact or leaf.prefix or "").startswith(root.prefix)
    return True
