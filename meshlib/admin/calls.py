"""``/calls``: what happened to the last calls; ``/hosts``: how the calls of each host do, for ``meshlib top``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from meshlib.admin.page import JSON, Page, as_json, json_list, text
from meshlib.telemetry.families import BUCKETS
from meshlib.telemetry.host_calls import HostCalls, calls_by_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meshlib.admin.seen import Seen
    from meshlib.engine.live import Live
    from meshlib.telemetry.recent import RecentCall

LIMIT = 100


class HostFacts(TypedDict):
    """``direction`` is "made" or "served". ``calls`` and ``errors`` since the process began, ``counts`` of the calls in each
    bucket alone. Of made ones: ``active`` attempts under way, ``endpoints``, and how many of those are ``ejected`` and
    ``unusable`` (ejected or not ready) now."""

    direction: str
    host: str
    calls: float
    errors: float
    counts: list[float]
    active: int
    endpoints: int
    ejected: int
    unusable: int


def calls_page(seen: Seen, query: Mapping[str, str]) -> Page:
    """The newest first. ``match``: of one host or route; ``failed``: only those that failed; ``limit``."""
    wanted = query.get("limit", str(LIMIT))
    if not (wanted.isascii() and wanted.isdecimal()) or len(wanted) > 6:
        return text("limit is a number, 100 for example\n", 400)
    match, failed = query.get("match", ""), "failed" in query
    found = (
        call for call in seen.recent.calls() if (not match or is_of(call, match)) and (not failed or has_failed(call))
    )
    return Page(json_list('{"calls": [', _first(found, int(wanted)), "]}\n"), JSON)


def is_of(call: RecentCall, match: str) -> bool:
    """Whether a call is of a host (``reviews``, its full name, what the URL said), of a route
    (``VirtualService/default/reviews``, ``default/reviews``, ``reviews``, also with ``http[1]`` or the rule's own name behind
    it), or of the rules of one name."""
    host, route, authority = call["host"], call["route"], call["authority"]
    if match in (host, authority, host.partition(".")[0], authority.partition(":")[0]):
        return True
    if "." in match and host.startswith(f"{match}."):
        return True
    resource, _, rule = route.partition(" ")
    named = call.get("rule_name")  # an older process does not say it
    if match == route or (named and match == named):
        return True
    if not resource.startswith("VirtualService/"):  # of a call that was served: the application's own
        return False
    found, _, rest = match.partition(" ")
    namespaced = resource.partition("/")[2]
    if found not in (resource, namespaced, namespaced.rpartition("/")[2]):
        return False
    return not rest or rest in (rule, named)


def has_failed(call: RecentCall) -> bool:
    """Whether it has ended with an error, or one of its attempts has."""
    grpc = call["grpc_status"]
    if call["status"] >= 500 or call["status"] == 0 or (grpc is not None and grpc != 0) or call["flags"]:
        return True
    return any(each["failure"] or each["status"] >= 500 for each in call["attempts"])


def hosts_page(seen: Seen) -> Page:
    """Of all hosts that were called or served; ``at`` is in seconds of the mesh's monotonic clock."""
    core = seen.core
    core.telemetry.catch_up()
    made = {key: _facts(*key, calls) for key, calls in calls_by_host(seen.registry, seen.workload).items()}
    if core.live is not None:
        _add_endpoints(made, core.live)
    return as_json(
        {
            "at": core.clock.monotonic(),
            "workload": f"{seen.workload.name}.{seen.workload.namespace}",
            "bounds": BUCKETS,
            "hosts": list(made.values()),
        }
    )


def _facts(direction: str, host: str, calls: HostCalls) -> HostFacts:
    return {
        "direction": direction,
        "host": host,
        "calls": calls.calls,
        "errors": calls.errors,
        "counts": calls.counts,
        "active": 0,
        "endpoints": 0,
        "ejected": 0,
        "unusable": 0,
    }


def _add_endpoints(hosts: dict[tuple[str, str], HostFacts], live: Live) -> None:
    for cluster in list(live.bound.values()):
        spec = cluster.spec
        key = "made", spec.host if spec.resolution != "passthrough" else "unknown"
        facts = hosts.get(key)
        if facts is None:
            facts = hosts[key] = _facts(*key, HostCalls())
        facts["active"] += cluster.state.active
        if spec.resolution == "passthrough":
            continue
        facts["endpoints"] += len(cluster.endpoints)
        facts["ejected"] += sum(endpoint.ejected for endpoint in cluster.endpoints)
        facts["unusable"] += sum(not endpoint.usable for endpoint in cluster.endpoints)


def _first(calls: Iterator[RecentCall], most: int) -> Iterator[RecentCall]:
    for number, call in enumerate(calls):
        if number == most:
            return
        yield call
