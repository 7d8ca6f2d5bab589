"""Rules of a snapshot as Envoy's JSON has them (``envoy.config.route.v3.VirtualHost``).

What Envoy does elsewhere than in its routes (faults, cross-origin requests) and what is ours is in the metadata of the route,
under ``meshlib``. Values of headers that are secrets are not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.admin.dumped_clusters import duration, istio_config
from meshlib.policy.secret_values import HIDDEN, is_secret

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, PortTable, Rule, VirtualHost
    from meshlib.policy.fault import FaultPolicy
    from meshlib.policy.header_ops import HeaderOps
    from meshlib.policy.http_match import HttpMatch
    from meshlib.policy.retry import RetryPolicy
    from meshlib.policy.rewrite import Redirect
    from meshlib.policy.string_match import StringMatcher

Json = dict[str, Any]

MILLION = 1_000_000
LONGEST_BODY = 1000
NO_CLUSTER = "BlackHoleCluster"


def virtual_hosts(table: PortTable) -> Iterator[Json]:
    """Those of one port, each once, with the names it goes by."""
    domains: dict[int, list[str]] = {}
    hosts: dict[int, VirtualHost] = {}
    named = [*table.names.items(), *((f"*{suffix}", host) for suffix, host in table.wildcards.items())]
    if table.rest is not None:
        named.append(("*", table.rest))
    for name, host in named:
        hosts[id(host)] = host
        domains.setdefault(id(host), []).append(name)
    for key, host in hosts.items():
        yield virtual_host(host, domains[key])


def virtual_host(host: VirtualHost, domains: Sequence[str]) -> Json:
    """One of them."""
    notes = {
        "note": host.note,
        "tcp": host.tcp,
        "skipped": [f"http[{each.index}]: {each.reason}" for each in host.skipped],
    }
    return {
        "name": f"{host.host}:{host.port}",
        "domains": list(domains),
        "routes": [route for rule in host.rules for route in routes(rule, host.resource)],
        "metadata": {"filter_metadata": {"meshlib": {key: value for key, value in notes.items() if value}}},
    }


def routes(rule: Rule, resource: str) -> Iterator[Json]:
    """A route for each match block of a rule, as istiod makes them; one that matches all when there is none."""
    action = _action(rule)
    metadata = {"filter_metadata": {**istio_config(resource), "meshlib": _ours(rule)}}
    changes = _request_changes(rule)
    matches: list[HttpMatch | None] = [each.settings for each in rule.matches]
    for match in matches or [None]:
        yield {
            "name": (match.name if match is not None else "") or rule.name or ("default" if rule.index < 0 else ""),
            "match": _match(match),
            **action,
            **changes,
            "metadata": metadata,
        }


def _match(match: HttpMatch | None) -> Json:
    if match is None:
        return {"prefix": "/"}
    found: Json = {"prefix": "/"}
    if match.uri is not None:
        kind = {"exact": "path", "prefix": "prefix"}.get(match.uri.kind)
        found = {kind: match.uri.value} if kind else {"safe_regex": {"regex": match.uri.value}}
        if match.uri.ignore_case:
            found["case_sensitive"] = False
    pseudo = [(f":{name}", matcher) for name in ("method", "scheme", "authority") if (matcher := getattr(match, name))]
    headers = [_header(name, matcher) for name, matcher in (*pseudo, *match.headers)]
    headers += [{**_header(name, matcher), "invert_match": True} for name, matcher in match.without_headers]
    if headers:
        found["headers"] = headers
    if match.query_params:
        found["query_parameters"] = [
            {
                "name": name,
                **({"present_match": True} if matcher.kind == "present" else {"string_match": _string(name, matcher)}),
            }
            for name, matcher in match.query_params
        ]
    return found


def _header(name: str, matcher: StringMatcher) -> Json:
    if matcher.kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": _string(name, matcher)}


def _string(name: str, matcher: StringMatcher) -> Json:
    value = HIDDEN if is_secret(name) else matcher.value
    if matcher.kind == "regex":
        return {"safe_regex": {"regex": value}}
    return {matcher.kind: value, **({"ignore_case": True} if matcher.ignore_case else {})}


def _action(rule: Rule) -> Json:
    if rule.redirect is not None:
        return {"redirect": _redirect(rule.redirect)}
    if rule.direct is not None:
        status, body = rule.direct
        shown = body[:LONGEST_BODY].decode("utf-8", "replace")
        return {"direct_response": {"status": status, "body": {"inline_string": shown}}}
    action: Json = {"timeout": duration(rule.timeout or 0.0), "retry_policy": _retry(rule.retry)}
    if len(rule.destinations) == 1:
        action["cluster"] = rule.destinations[0].cluster or NO_CLUSTER
    elif rule.destinations:
        weighted = zip(rule.destinations, rule.choice.weights, strict=True)
        action["weighted_clusters"] = {
            "clusters": [
                {
                    "name": to.cluster or NO_CLUSTER,
                    "weight": weight,
                    **_changes(to.request_ops, "request"),
                    **_changes(to.response_ops, "response"),
                }
                for to, weight in weighted
            ]
        }
    else:
        action["cluster"] = NO_CLUSTER
    if rule.rewrite is not None:
        if rule.rewrite.authority:
            action["host_rewrite_literal"] = rule.rewrite.authority
        if rule.rewrite.prefix is not None:
            action["prefix_rewrite"] = rule.rewrite.prefix
    if rule.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": mirror.destination.cluster or NO_CLUSTER,
                "runtime_fraction": {"default_value": {"numerator": mirror.share, "denominator": "MILLION"}},
            }
            for mirror in rule.mirrors
        ]
    return {"route": action}


def _redirect(redirect: Redirect) -> Json:
    codes = {
        301: "MOVED_PERMANENTLY",
        302: "FOUND",
        303: "SEE_OTHER",
        307: "TEMPORARY_REDIRECT",
        308: "PERMANENT_REDIRECT",
    }
    found: Json = {"response_code": codes.get(redirect.code, "MOVED_PERMANENTLY")}
    parts = (
        ("host_redirect", redirect.authority),
        ("scheme_redirect", redirect.scheme),
        ("port_redirect", redirect.port),
        ("path_redirect", redirect.uri),
    )
    found |= {name: value for name, value in parts if value}
    if redirect.prefix is not None:
        found["prefix_rewrite"] = redirect.prefix
    return found


def _retry(retry: RetryPolicy) -> Json:
    found: Json = {
        "retry_on": ",".join(name for name in retry.retry_on.text.split(",") if not name.isdecimal()),
        "num_retries": retry.attempts,
        "retry_back_off": {"base_interval": duration(retry.backoff_base), "max_interval": duration(retry.backoff_max)},
    }
    if retry.retry_on.codes:
        found["retriable_status_codes"] = sorted(retry.retry_on.codes)
    if retry.per_try_timeout is not None:
        found["per_try_timeout"] = duration(retry.per_try_timeout)
    return found


def _request_changes(rule: Rule) -> Json:
    """Those of a rule with one destination; of others they are with each."""
    sole: Destination | None = rule.destinations[0] if len(rule.destinations) == 1 else None
    if sole is None:
        return _changes(rule.response_ops, "response")
    return {**_changes(sole.request_ops, "request"), **_changes(sole.response_ops, "response")}


def _changes(levels: Sequence[HeaderOps], what: str) -> Json:
    adds: list[Json] = []
    removes: list[str] = []
    for level in levels:
        removes += [name.decode("latin-1") for name in level.remove]
        for append, pairs in (("OVERWRITE_IF_EXISTS_OR_ADD", level.set), ("APPEND_IF_EXISTS_OR_ADD", level.add)):
            for raw, value in pairs:
                name = raw.decode("latin-1")
                shown = "(computed)" if not isinstance(value, bytes) else value.decode("utf-8", "replace")
                header = {"key": name, "value": HIDDEN if is_secret(name) else shown}
                adds.append({"header": header, "append_action": append})
    found: Json = {f"{what}_headers_to_add": adds} if adds else {}
    if removes:
        found[f"{what}_headers_to_remove"] = removes
    return found


def _ours(rule: Rule) -> Json:
    found: Json = {"rule": rule.index}
    if rule.delegate:
        found["delegate"] = rule.delegate
    missing = {to.host: to.missing for to in rule.destinations if to.missing}
    if missing:
        found["missing"] = missing
    if rule.fault is not None:
        found["fault"] = _fault(rule.fault)
    if rule.cors is not None:
        found["cors"] = {
            "allow_origins": [each.text for each in rule.cors.origins],
            "allow_methods": rule.cors.allow_methods,
        }
    if rule.rewrite is not None:
        found["rewrite"] = rule.rewrite.text
    return found


def _fault(fault: FaultPolicy) -> Json:
    found: Json = {}
    if fault.delay_share:
        found["delay"] = {"fixed_delay": duration(fault.delay), "percent": fault.delay_share * 100 / MILLION}
    if fault.abort_share:
        found["abort"] = {"status": fault.abort_status, "percent": fault.abort_share * 100 / MILLION}
    return found
