"""The http rules of one VirtualService for one client, host and port -> Rule objects (and those that do not apply)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal

from meshlib.compiler.matches import compile_match, not_for_client
from meshlib.compiler.mesh_settings import DEFAULTS, MeshSettings
from meshlib.compiler.routes import Destination, Mirror, Resolver, Rule, SkippedRule
from meshlib.compiler.rule_settings import DEFAULT_RETRY as DEFAULT_RETRY
from meshlib.compiler.rule_settings import (
    HASHED_RETRY,
    cors_of,
    direct_of,
    fault_of,
    percent_of,
    redirect_of,
    retry_of,
    rewrite_of,
)
from meshlib.compiler.scope import IN_MESH
from meshlib.pace import take_turns
from meshlib.policy.header_ops import HeaderOps, compile_ops, merge
from meshlib.policy.retry import NO_RETRY, RetryPolicy
from meshlib.policy.weights import WeightedChoice
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.compiler.delegates import Route
    from meshlib.policy.http_match import CompiledMatch
    from meshlib.resources import virtual_service as written
    from meshlib.resources.virtual_service import VirtualService

SOLE = WeightedChoice((1,))
NO_OPS = HeaderOps()
Direction = Literal["request", "response"]


def compile_rules(
    routes: Sequence[Route],
    workload: Workload,
    port: int,
    destination: Resolver,
    gateway: Collection[str] = IN_MESH,
    settings: MeshSettings = DEFAULTS,
) -> tuple[list[Rule], list[SkippedRule]]:
    """Rules in order, and those left out with the reason. An empty list means that the VirtualService does not exist
    for this client on this port (Istio then looks at the next one, or routes by default)."""
    rules: list[Rule] = []
    skipped: list[SkippedRule] = []
    known: dict[tuple[int, str, bool], Destination] = {}  # rules may have targets in common
    for route in routes:
        take_turns()
        model = route.model
        name = model.name or ""
        if route.unusable:
            skipped.append(SkippedRule(route.index, name, route.unusable))
            continue
        matches = []
        reasons = []
        for match in model.match or ():
            reason = not_for_client(match, workload, port, gateway)
            if reason is None:
                matches.append(compile_match(match))
            else:
                reasons.append(reason)
        if model.match and not matches:
            skipped.append(SkippedRule(route.index, name, f"not for this client: {'; '.join(reasons)}"))
            continue
        rules.append(
            _plain_rule(route, name, tuple(matches), port, destination, known, settings)
            if model.only_sends()
            else _rule(route, name, tuple(matches), port, destination, settings)
        )
    return rules, skipped


def catch_alls_last(rules: Sequence[Rule]) -> list[Rule]:
    """At a gateway, where rules of several VirtualServices are put one after the other, Istio moves those that match
    everything behind the others."""
    return sorted(rules, key=matches_everything)


def matches_everything(rule: Rule) -> bool:
    """Whether no request can miss the rule: no match block, or one that asks for nothing but the path ``/`` as prefix or
    ``.*`` as regex."""
    if not rule.matches:
        return True
    for match in rule.matches:
        settings = match.settings
        uri = settings.uri
        anything = uri is None or (uri.kind, uri.value) in (("prefix", "/"), ("prefix", ""), ("regex", ".*"))
        conditions = (settings.scheme, settings.method, settings.authority)
        if (
            anything
            and not any(conditions)
            and not (settings.headers or settings.without_headers or settings.query_params)
        ):
            return True
    return False


def _plain_rule(
    route: Route,
    name: str,
    matches: tuple[CompiledMatch, ...],
    port: int,
    destination: Resolver,
    known: dict[tuple[int, str, bool], Destination],
    settings: MeshSettings,
) -> Rule:
    """The same as ``_rule``, of a rule that only sends requests, to one target: as most are. ``known`` are targets by the
    object and the namespace that they were made of, and by whether calls are counted by the names of matches."""
    model, namespace = route.model, route.namespace
    if not model.route or len(model.route) > 1:
        return _rule(route, name, matches, port, destination, settings)
    (target,) = model.route
    counted_by_name = any(match.settings.stat_prefix for match in matches)
    found = known.get((id(target), namespace, counted_by_name))
    if found is None:
        found = _target(destination(target.destination, namespace, port), target, model, True)
        known[id(target), namespace, counted_by_name] = found
    hashing = found.hash_policy
    return Rule(
        index=route.index,
        name=name,
        matches=matches,
        destinations=(found,),
        choice=SOLE,
        retry=settings.retry if hashing is None else settings.hashed_retry,
        hash_policies=() if hashing is None else (hashing,),
        delegate=route.delegate,
        has_stat_prefix=counted_by_name,
    )


def _rule(
    route: Route,
    name: str,
    matches: tuple[CompiledMatch, ...],
    port: int,
    destination: Resolver,
    settings: MeshSettings,
) -> Rule:
    model, namespace = route.model, route.namespace
    sole = len(model.route or ()) == 1
    targets = tuple(_target(destination(d.destination, namespace, port), d, model, sole) for d in model.route or ())
    return Rule(
        index=route.index,
        name=name,
        matches=matches,
        destinations=targets,
        choice=SOLE if len(targets) < 2 else WeightedChoice([t.weight for t in targets]),
        retry=_retry(model.retries, settings, hashed=sole and targets[0].hash_policy is not None),
        timeout=model.timeout,
        fault=fault_of(model.fault),
        rewrite=rewrite_of(model.rewrite),
        redirect=redirect_of(model.redirect, port),
        direct=direct_of(model.direct_response),
        mirrors=_mirrors(model, namespace, port, destination),
        response_ops=_present(_ops(model, "response")),
        cors=cors_of(model.cors_policy) if targets else None,  # Envoy's filter looks only at routes that forward
        hash_policies=tuple(t.hash_policy for t in targets if t.hash_policy is not None and (sole or t.weight)),
        delegate=route.delegate,
        has_stat_prefix=any(match.settings.stat_prefix for match in matches),
    )


def _retry(retries: written.HttpRetry | None, settings: MeshSettings, *, hashed: bool) -> RetryPolicy:
    """MeshConfig's policy is for rules that say nothing; what a rule leaves unset of its own is as Istio has it."""
    if retries is None:
        return settings.hashed_retry if hashed else settings.retry
    return retry_of(retries, HASHED_RETRY if hashed else DEFAULT_RETRY)


def _mirrors(route: written.HttpRoute, namespace: str, port: int, destination: Resolver) -> tuple[Mirror, ...]:
    """A missing percentage means all; 0 means none."""
    if route.mirror is None and not route.mirrors:
        return ()
    models: list[tuple[written.Destination, float]] = []
    if route.mirror is not None:
        percent = 100.0 if route.mirror_percent is None else float(route.mirror_percent)
        if route.mirror_percentage is not None:
            percent = percent_of(route.mirror_percentage)
        models.append((route.mirror, percent))
    models += [
        (mirror.destination, 100.0 if mirror.percentage is None else percent_of(mirror.percentage))
        for mirror in route.mirrors or ()
    ]
    return tuple(
        Mirror(destination(model, namespace, port), round(percent * 10_000)) for model, percent in models if percent > 0
    )


def _target(
    found: Destination, model: written.HttpRouteDestination, route: written.HttpRoute, sole: bool
) -> Destination:
    if route.model_fields_set.isdisjoint(_WITH_OPS) and model.model_fields_set.isdisjoint(_WITH_OPS):
        return Destination(  # as most do
            found.host,
            found.subset,
            found.port,
            model.weight or 0,
            found.cluster,
            found.missing,
            found.request_ops,
            found.response_ops,
            tells_original_host=sole,
            hash_policy=found.hash_policy,
            lack=found.lack,
        )
    of_rule, of_target = _ops(route, "request"), _ops(model, "request")
    back_rule, back_target = _ops(route, "response"), _ops(model, "response")
    return Destination(
        found.host,
        found.subset,
        found.port,
        model.weight or 0,
        found.cluster,
        found.missing,
        # Istio writes one level for a sole destination; with several, Envoy applies theirs first and the rule's after. What
        # the destination itself has (metadata of workloads) is a filter's in Envoy: further from the wire than a rule's
        (*found.request_ops, *(_present(merge(of_rule, of_target)) if sole else _present(of_target, of_rule))),
        (*(_present(merge(back_rule, back_target)) if sole else _present(back_target, back_rule)), *found.response_ops),
        _host_of(route.headers) or _host_of(model.headers),
        sole or bool(_host_of(route.headers)),
        found.hash_policy,
        found.lack,
    )


_HOST = frozenset(("host", ":authority"))


def _ops(model: written.HttpRoute | written.HttpRouteDestination, direction: Direction) -> HeaderOps:
    """The operations of a rule or a destination, those of Istio before 1.0 among them."""
    if model.model_fields_set.isdisjoint(_WITH_OPS):
        return NO_OPS
    headers = model.headers
    old_add: tuple[dict[str, str] | None, ...]
    if direction == "request":
        operations = headers.request if headers is not None else None
        old_add = (getattr(model, "append_headers", None), model.append_request_headers)  # the first is a rule's only
        old_remove = model.remove_request_headers
    else:
        operations = headers.response if headers is not None else None
        old_add, old_remove = (model.append_response_headers,), model.remove_response_headers
    remove = [*(operations.remove or ())] if operations is not None else []
    set_ = operations.set or {} if operations is not None else {}
    add = dict(operations.add or {}) if operations is not None else {}
    for old in old_add:
        add.update(old or {})
    remove += old_remove or ()
    if not (remove or set_ or add):
        return NO_OPS
    return compile_ops(remove, set_, add, _HOST)


_WITH_OPS = frozenset(
    (
        "headers",
        "append_headers",
        "append_request_headers",
        "append_response_headers",
        "remove_request_headers",
        "remove_response_headers",
    )
)
"""The fields of a rule or a destination that have header operations."""


def _present(*levels: HeaderOps) -> tuple[HeaderOps, ...]:
    return tuple(ops for ops in levels if ops)


def _host_of(headers: written.Headers | None) -> str:
    """The Host that request operations set, else the one they add."""
    request = headers.request if headers is not None else None
    if request is None:
        return ""
    for values in (request.set or {}, request.add or {}):
        for name, value in values.items():
            if name.lower() in _HOST:
                return value
    return ""


def default_rule(destination: Destination, retry: RetryPolicy = DEFAULT_RETRY) -> Rule:
    """What Istio does for a host that no VirtualService claims: everything to the service, default retries."""
    return Rule(
        index=-1,
        name="default",
        matches=(),
        destinations=(destination,),
        choice=SOLE,
        retry=retry,
        hash_policies=() if destination.hash_policy is None else (destination.hash_policy,),
    )


def passthrough_rule(destination: Destination) -> Rule:
    """What Istio does for a host that the mesh does not know: everything to the address dialled (or to the egress proxy),
    once."""
    return default_rule(destination, NO_RETRY)


def sort_claims(services: Sequence[VirtualService], rank: Callable[[VirtualService], int]) -> list[VirtualService]:
    """Oldest first within each rank of export."""

    def key(service: VirtualService) -> tuple[int, tuple[str, str, str, int]]:
        take_turns()
        return rank(service), service.age_key

    return sorted(services, key=key)
