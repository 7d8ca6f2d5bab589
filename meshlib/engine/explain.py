"""The decision for a request that is not sent: every rule looked at, and the policies that would count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.routes import Cluster, Destination, Rule, VirtualHost
from meshlib.compiler.snapshot import split_authority
from meshlib.engine.endpoint_tls import endpoint_tls
from meshlib.engine.explanation import Considered, Exchange
from meshlib.engine.route import route
from meshlib.engine.wrong_address import UNREGISTERED, lack_of_unknown, takes_no_tls, why_unknown
from meshlib.policy.circuit_limits import UNLIMITED, CircuitLimits
from meshlib.registry.names import is_ip

if TYPE_CHECKING:
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.facts import DestinationFacts, DetailFacts, EndpointFacts
    from meshlib.engine.live import Live
    from meshlib.policy.http_match import RequestView

SHOWN = 5
"""Addresses of a headless service that are named; the others are counted."""


def explain(live: Live, view: RequestView, now: float, certificate: str | None = None) -> Exchange:
    """What ``outbound`` would decide, with the reasons. The weighted choice is left open: all destinations are shown.
    ``certificate``: our SPIFFE ID, "" without a certificate, None when it is not known."""
    found = route(live.snapshot, view)
    vhost, taken = found.virtual_host, found.rule_object
    considered = [Considered(s.index, s.name, False, s.reason) for s in vhost.skipped]
    passed = False
    for rule in vhost.rules:
        if rule is taken:
            considered.append(Considered(rule.index, rule.name, True, _why_taken(rule, view)))
            passed = True
        elif passed:
            considered.append(Considered(rule.index, rule.name, False, "an earlier rule matched"))
        else:
            considered.append(Considered(rule.index, rule.name, False, _why_not(rule, view)))
    alias = _what_alias(live, view, vhost)
    if alias:
        found.add_details({"alias": alias})
    if view.authority.lower() != view.dialled.lower():
        found.add_details({"host_header": _what_host_did(live, view, vhost)})
    found.considered = sorted(considered, key=lambda c: c.index)
    details: DetailFacts = {"virtual_host": f"{vhost.host}:{vhost.port}" if vhost.port else vhost.host}
    unknown = why_unknown(live.snapshot, view.dialled, view.scheme) if live.snapshot.is_unknown(vhost) else ""
    if unknown:
        details["note"] = vhost.note.replace(UNREGISTERED, unknown)
        if UNREGISTERED in unknown:
            details["lack"] = lack_of_unknown(live.snapshot, view.dialled)
    if taken is None:
        if vhost is live.snapshot.blocked:
            details["reply"] = f"502 ({unknown}, and outbound traffic is REGISTRY_ONLY)"
        else:
            found.add_flag("NR")
            details["reply"] = "404 (no rule matches; an existing VirtualService does not fall back to the service)"
    else:
        if len(taken.destinations) == 1:
            found.destination = taken.destinations[0]
        details["timeout"] = taken.timeout
        details["retry"] = taken.retry.text
        if taken.redirect is not None:
            details["reply"] = f"{taken.redirect.code} (redirect)"
        elif taken.direct is not None:
            details["reply"] = f"{taken.direct[0]} (direct response)"
        details["mirrors"] = [
            {"host": m.destination.host, "subset": m.destination.subset, "share": m.share / 10_000}
            for m in taken.mirrors
        ]
        details["rewrite"] = taken.rewrite.text if taken.rewrite is not None else ""
        details["cors"] = taken.cors is not None
        details["delegate"] = taken.delegate
        details["fault"] = taken.fault.text if taken.fault is not None else ""
        details["destinations"] = [_destination(live, taken, d, now, view, certificate) for d in taken.destinations]
        clusters = [live.snapshot.clusters[d.cluster] for d in taken.destinations if d.cluster]
        no_tls = next(filter(None, (takes_no_tls(c, view.dialled, view.scheme) for c in clusters)), "")
        if no_tls:
            details["url"] = no_tls
    found.add_details(details)
    return found


def _what_host_did(live: Live, view: RequestView, vhost: VirtualHost) -> str:
    """A Host that is not the URL's own: whether it decides, by the table of ``Snapshot.virtual_host``."""
    snapshot = live.snapshot
    by_url = snapshot.virtual_host(view.dialled, view.scheme)
    if snapshot.is_unknown(by_url):
        return f"Host {view.authority} is sent and does not decide: {view.dialled}, which the URL names, is outside the mesh"
    if vhost.tcp:
        return f"Host {view.authority} is sent and does not decide: {vhost.note}"
    if vhost.any_host:
        return (
            f"Host {view.authority} is sent and does not decide: port {vhost.port} of {vhost.host} declares no protocol, and "
            "such a service has its address for itself (Istio)"
        )
    if snapshot.is_unknown(vhost):
        what = "the address that the URL names is dialled as it is" if snapshot.allow_any else "the call is blocked"
        return (
            f"Host {view.authority} is not a host of the mesh on port {by_url.port}: no rule or policy of {view.dialled} "
            f"counts, and {what}"
        )
    return f"Host {view.authority} decides, not the URL's {view.dialled}: both are hosts of the mesh"


def _why_taken(rule: Rule, view: RequestView) -> str:
    if not rule.matches:
        return "matches everything"
    for match in rule.matches:
        if match(view):
            name = f"{match.settings.name}: " if match.settings.name else ""
            return f"{name}{match.text}"
    return "matches"


def _why_not(rule: Rule, view: RequestView) -> str:
    reasons = [match.why_not(view) for match in rule.matches]
    return "; or ".join(reason for reason in reasons if reason)


def _destination(
    live: Live, rule: Rule, target: Destination, now: float, view: RequestView, certificate: str | None
) -> DestinationFacts:
    share = 100.0 if len(rule.destinations) == 1 else 100.0 * target.weight / rule.choice.total
    found: DestinationFacts = {
        "host": target.host,
        "subset": target.subset,
        "port": target.port,
        "share": round(share, 4),
        "cluster": target.cluster,
    }
    if not target.cluster:
        found["missing"] = target.missing
        found["lack"] = str(target.lack or "")
        found["reply"] = "503 (flag NC)"
        return found
    cluster = live.cluster(target.cluster)
    spec = cluster.spec
    found["balancer"] = _balancer(spec, rule)
    workload = live.snapshot.workload
    hashed = cluster.hashed_to(rule.hash_policies, view, workload.address or workload.name)
    found["hash_leads_to"] = hashed.key if hashed is not None else ""
    found["protocol"] = "HTTP/2" if spec.http2 else "HTTP/1.1"
    found["warmup"] = spec.slow_start.window if spec.slow_start is not None else None
    found["retry_budget"] = spec.retry_budget.text if spec.retry_budget is not None else ""
    found["request_headers"] = "; ".join(ops.text for ops in target.request_ops)
    found["response_headers"] = "; ".join(ops.text for ops in target.response_ops)
    found["destination_rule"] = spec.destination_rule
    found["tls"] = spec.tls.mode if spec.tls is not None else ""
    found["limits"] = limits_text(spec.limits)
    found["resilience"] = cluster.guard.status() if cluster.guard is not None else None
    found["resilience_text"] = cluster.guard.text if cluster.guard is not None else ""
    found["outlier_detection"] = spec.outlier is not None
    found["endpoints"] = endpoints_of(cluster, now, certificate)
    if spec.resolution == "passthrough":
        found["endpoints_note"] = (
            f"the name {spec.dial_host} in DNS, on the port that the URL names"
            if spec.dial_host
            else f"the address that the URL names{_known_as(live, view)}"
        )
    elif spec.given_by and found["endpoints"]:
        found["endpoints_note"] = f"as {spec.given_by} says, which takes precedence over discovery"
    if spec.refusal and spec.resolution != "passthrough":
        found["reply"] = f"connect failure (flag UF): {spec.refusal}"
    elif spec.resolution != "passthrough" and not any(e["usable"] for e in found["endpoints"]):
        found["reply"] = "503 (flag UH: no usable endpoint)"
        found["lack"] = str(spec.lack or "")
    return found


def _balancer(spec: Cluster, rule: Rule) -> str:
    if spec.hash_policy is None:
        return spec.balancer
    keys = " and ".join(dict.fromkeys(policy.key for policy in rule.hash_policies))
    return f"{spec.hash_policy.kind} on {keys or 'nothing: the route has no key'}"


def _known_as(live: Live, view: RequestView) -> str:
    """What the registry says of a name that is dialled as it is: a headless service's, a pod's, an ExternalName."""
    known = live.snapshot.dialled.get(split_authority(view.dialled)[0], ())
    if not known:
        return ""
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f": {'one of ' if len(known) > 1 else ''}{', '.join(known[:SHOWN])}{more}"


def _what_alias(live: Live, view: RequestView, vhost: VirtualHost) -> str:
    """A URL's host that is an ExternalName: what it stands for."""
    host = split_authority(view.dialled)[0]
    known = live.snapshot.dialled.get(host, ())
    if len(known) != 1 or is_ip(known[0]):
        return ""
    counts = "" if live.snapshot.is_unknown(vhost) else ": its rules and policies count"
    return f"{host} is an ExternalName and stands for {known[0]}{counts}"


def endpoints_of(cluster: BoundCluster, now: float, certificate: str | None = None) -> list[EndpointFacts]:
    """The endpoints of a bound cluster with health, ejection and TLS (``certificate``: as in ``explain``)."""
    cluster.refresh(now)
    detector = cluster.state.detector
    found: list[EndpointFacts] = []
    for endpoint in cluster.endpoints:
        until = detector.ejected_until(endpoint) if detector is not None else None
        tls, why = endpoint_tls(cluster.spec, endpoint.endpoint, cluster.mutual, certificate)
        found.append(
            {
                "address": endpoint.key,
                "labels": dict(endpoint.endpoint.labels),
                "workload": endpoint.endpoint.workload,
                "pod": endpoint.endpoint.pod,
                "locality": endpoint.endpoint.locality,
                "priority": cluster.places.get(endpoint, (0, 0))[0],
                "healthy": endpoint.healthy,
                "serving": endpoint.serving,
                "reachable": endpoint.reachable,
                "ejected": endpoint.ejected,
                "ejected_for": None if until is None else max(0.0, round(until - now, 3)),
                "usable": endpoint.usable,
                "active": endpoint.active,
                "weight": endpoint.weight,
                "tls": tls,
                "tls_reason": why,
            }
        )
    return found


def limits_text(limits: CircuitLimits) -> str:
    """The limits that are set, in words; "" for defaults."""
    parts = []
    if limits.max_connections < UNLIMITED:
        parts.append(f"{limits.max_connections} connections")
    if limits.http1_max_pending_requests < UNLIMITED:
        parts.append(f"{limits.http1_max_pending_requests} pending")
    if limits.http2_max_requests < UNLIMITED:
        parts.append(f"{limits.http2_max_requests} requests")
    if limits.max_retries < UNLIMITED:
        parts.append(f"{limits.max_retries} retries at once")
    if limits.max_requests_per_connection:
        parts.append(f"{limits.max_requests_per_connection} requests per connection")
    return ", ".join(parts)
