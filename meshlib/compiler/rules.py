"""The http rules of one VirtualService for one client, host and port -> Rule objects (and those that do not apply)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.compiler.matches import compile_match, not_for_client
from meshlib.compiler.snapshot import Destination, Rule, SkippedRule
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.retry import RetryPolicy, parse_retry_on
from meshlib.policy.weights import WeightedChoice
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService

DEFAULT_RETRY = RetryPolicy()
SOLE = WeightedChoice((1,))

Resolver = Callable[[Any, str, int], Destination]
"""(destination model, namespace of the resource, dialled port) -> Destination with weight 0."""


def compile_rules(
    resource: VirtualService, workload: Workload, port: int, destination: Resolver
) -> tuple[list[Rule], list[SkippedRule]]:
    """Rules in order, and those left out with the reason. An empty list means that the VirtualService does not exist
    for this client on this port (Istio then looks at the next one, or routes by default)."""
    rules: list[Rule] = []
    skipped: list[SkippedRule] = []
    for index, route in enumerate(resource.spec.http or ()):
        name = route.name or ""
        matches = []
        reasons = []
        for match in route.match or ():
            reason = not_for_client(match, workload, port)
            if reason is None:
                matches.append(compile_match(match))
            else:
                reasons.append(reason)
        if route.match and not matches:
            skipped.append(SkippedRule(index, name, "; ".join(reasons)))
            continue
        if not route.route:
            action = next(
                (a for a in ("redirect", "direct_response", "delegate") if getattr(route, a, None)), "no route"
            )
            skipped.append(SkippedRule(index, name, f"{action.replace('_', ' ')} is not acted on in this version"))
            continue
        rules.append(_rule(index, name, route, tuple(matches), resource.namespace, port, destination))
    return rules, skipped


def _rule(
    index: int, name: str, route: Any, matches: tuple[Any, ...], namespace: str, port: int, destination: Resolver
) -> Rule:
    targets = tuple(_weighted(destination(d.destination, namespace, port), d.weight or 0) for d in route.route)
    return Rule(
        index=index,
        name=name,
        matches=matches,
        destinations=targets,
        choice=SOLE if len(targets) == 1 else WeightedChoice([t.weight for t in targets]),
        retry=_retry(route.retries),
        timeout=route.timeout,
        fault=_fault(route.fault),
    )


def _weighted(target: Destination, weight: int) -> Destination:
    return Destination(target.host, target.subset, target.port, weight, target.cluster, target.missing)


def _retry(retries: Any) -> RetryPolicy:
    if retries is None:
        return DEFAULT_RETRY
    values: dict[str, Any] = {"attempts": retries.attempts}
    if retries.retry_on:
        values["retry_on"] = parse_retry_on(retries.retry_on)
    values["per_try_timeout"] = retries.per_try_timeout
    backoff = getattr(retries, "backoff", None)
    if backoff:
        values["backoff_base"] = backoff
        values["backoff_max"] = 10 * backoff
    values["ignore_previous_hosts"] = getattr(retries, "retry_ignore_previous_hosts", None)
    values["remote_localities"] = getattr(retries, "retry_remote_localities", None)
    return RetryPolicy(**{key: value for key, value in values.items() if value is not None})


def _fault(fault: Any) -> FaultPolicy | None:
    if fault is None:
        return None
    delay = abort = 0.0
    seconds, status, grpc_status = 0.0, 0, None
    if fault.delay is not None and fault.delay.fixed_delay:
        seconds = fault.delay.fixed_delay
        delay = _percent(fault.delay.percentage)
    if fault.abort is not None:
        abort = _percent(fault.abort.percentage)
        status = fault.abort.http_status or 0
        grpc_status = fault.abort.grpc_status
    if not delay and not abort:
        return None
    return FaultPolicy.from_percents(
        delay=seconds, delay_percent=delay, abort_status=status, abort_grpc_status=grpc_status, abort_percent=abort
    )


def _percent(percentage: Any) -> float:
    return 0.0 if percentage is None else float(percentage.value or 0.0)


def default_rule(destination: Destination) -> Rule:
    """What Istio does for a host that no VirtualService claims: everything to the service, default retries."""
    return Rule(index=-1, name="default", matches=(), destinations=(destination,), choice=SOLE, retry=DEFAULT_RETRY)


def sort_claims(services: Sequence[VirtualService], rank: Callable[[VirtualService], int]) -> list[VirtualService]:
    """Oldest first within each rank of export."""
    return sorted(services, key=lambda v: (rank(v), v.age_key))
