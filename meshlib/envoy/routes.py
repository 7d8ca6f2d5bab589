"""Rules of a snapshot as Envoy's routes (``envoy.config.route.v3.Route``): one for each match block, as istiod makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.envoy.headers import common_end, header_changes
from meshlib.envoy.values import Json, duration, fraction, string_match, text_of, typed

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.policy.cors import CorsPolicy
    from meshlib.policy.fault import FaultPolicy
    from meshlib.policy.http_match import HttpMatch
    from meshlib.policy.retry import RetryPolicy
    from meshlib.policy.rewrite import Redirect
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.policy.string_match import StringMatcher

FAULT = "envoy.filters.http.fault"
CORS = "envoy.filters.http.cors"
MISSING = "missing"
"""Begins the name of a cluster that there is none of: Envoy responds 503, flag NC."""
HOST_SELECTION_ATTEMPTS = "5"
"""As istiod has it."""
CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
EVERYTHING: Json = {"prefix": "/"}


def routes_of(rule: Rule, settings: ProxyHeaders) -> Iterator[Json]:
    """In order. A rule without match blocks is one route that matches everything."""
    action = _action(rule, settings)
    matches: list[HttpMatch | None] = [each.settings for each in rule.matches]
    for match in matches or [None]:
        yield {"name": _name(rule, match), "match": route_match(match), **action}


def _name(rule: Rule, match: HttpMatch | None) -> str:
    """As istiod names routes."""
    names = (rule.name, match.name if match is not None else "")
    return ".".join(filter(None, names)) or ("default" if rule.index < 0 else "")


# -- matches ----------------------------------------------------------------------------------------------------------


def route_match(match: HttpMatch | None) -> Json:
    """RouteMatch of a block."""
    if match is None:
        return dict(EVERYTHING)
    found = _path(match.uri)
    pseudo = [(f":{name}", matcher) for name in ("method", "scheme", "authority") if (matcher := getattr(match, name))]
    headers = [_header(name, matcher) for name, matcher in (*pseudo, *match.headers)]
    for name, matcher in match.without_headers:
        inverted = {**_header(name, matcher), "invert_match": True}
        if matcher.kind != "present":
            inverted["treat_missing_header_as_empty"] = True
        headers.append(inverted)
    if headers:
        found["headers"] = headers
    if match.query_params:
        found["query_parameters"] = [_query(name, matcher) for name, matcher in match.query_params]
    return found


def _path(uri: StringMatcher | None) -> Json:
    if uri is None or uri.kind == "present":
        return dict(EVERYTHING)
    if uri.kind == "regex":
        return {"safe_regex": {"regex": uri.value}}
    found: Json = {"path" if uri.kind == "exact" else "prefix": uri.value}
    if uri.ignore_case:
        found["case_sensitive"] = False
    return found


def _header(name: str, matcher: StringMatcher) -> Json:
    if matcher.kind == "present":
        return {"name": text_of(name), "present_match": True}
    return {"name": text_of(name), "string_match": string_match(matcher)}


def _query(name: str, matcher: StringMatcher) -> Json:
    if matcher.kind == "present":
        return {"name": text_of(name), "present_match": True}
    return {"name": text_of(name), "string_match": string_match(matcher)}


# -- actions ----------------------------------------------------------------------------------------------------------


def _action(rule: Rule, settings: ProxyHeaders) -> Json:
    made: Json
    if rule.redirect is not None:
        made = {"redirect": _redirect(rule.redirect), **header_changes(rule.response_ops, "response")}
    elif rule.direct is not None:
        status, body = rule.direct
        direct: Json = {"status": status}
        if body:
            direct["body"] = {"inline_bytes": _base64(body)}
        made = {"direct_response": direct, **header_changes(rule.response_ops, "response")}
    else:
        made = _forward(rule, settings)
    filters: Json = {}
    if rule.fault is not None:
        filters[FAULT] = _fault(rule.fault)
    if rule.cors is not None:
        filters[CORS] = _cors(rule.cors)
    if filters:
        made["typed_per_filter_config"] = filters
    return made


def _base64(body: bytes) -> str:
    import base64

    return base64.b64encode(body).decode()


def cluster_name(destination: Destination) -> str:
    """The cluster of a destination, or the name of one that is not there."""
    return destination.cluster or f"{MISSING}|{destination.port}|{destination.subset}|{destination.host}"


def _forward(rule: Rule, settings: ProxyHeaders) -> Json:
    targets = [
        (to, weight)
        for to, weight in zip(rule.destinations, rule.choice.weights, strict=False)
        if weight or len(rule.destinations) == 1
    ]
    action: Json = {"timeout": duration(rule.timeout or 0.0)}
    made: Json = {"route": action}
    if not targets:
        action["cluster"] = MISSING
    authority = _authority(rule, [to for to, _ in targets])
    if len(rule.destinations) == 1:
        (sole,) = rule.destinations
        action["cluster"] = cluster_name(sole)
        made |= _changes(sole)
    elif targets:
        request = common_end([to.request_ops for to, _ in targets])
        response = common_end([to.response_ops for to, _ in targets])
        first = targets[0][0]
        action["weighted_clusters"] = {
            "clusters": [_weighted(to, weight, request, response, own_host=not authority) for to, weight in targets]
        }
        made |= header_changes(first.request_ops[len(first.request_ops) - request :], "request")
        made |= header_changes(first.response_ops[len(first.response_ops) - response :], "response")
    if authority:
        action["host_rewrite_literal"] = authority
    if rule.rewrite is not None:
        if settings.forwarded_host:
            action["append_x_forwarded_host"] = True
        if rule.rewrite.by_regex is not None:
            pattern, substitution = rule.rewrite.by_regex
            action["regex_rewrite"] = {"pattern": {"regex": pattern}, "substitution": substitution}
        elif rule.rewrite.prefix is not None:
            action["prefix_rewrite"] = text_of(rule.rewrite.prefix)
    if rule.retry.attempts:
        action["retry_policy"] = retry_policy(rule.retry)
    if rule.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(mirror.destination),
                "runtime_fraction": {"default_value": fraction(mirror.share)},
                "trace_sampled": False,
            }
            for mirror in rule.mirrors
        ]
    hashes = [_hash(policy) for policy in rule.hash_policies]
    if hashes:
        action["hash_policy"] = hashes
    return made


def _changes(to: Destination) -> Json:
    return {**header_changes(to.request_ops, "request"), **header_changes(to.response_ops, "response")}


def _weighted(to: Destination, weight: int, request: int, response: int, *, own_host: bool) -> Json:
    """``request``, ``response``: how many levels of operations are the route's, which Envoy does after these. ``own_host``:
    the rule itself sets no Host, which would go before what its destinations set."""
    found: Json = {"name": cluster_name(to), "weight": weight}
    found |= header_changes(to.request_ops[: len(to.request_ops) - request], "request")
    found |= header_changes(to.response_ops[: len(to.response_ops) - response], "response")
    if own_host and to.authority:
        found["host_rewrite_literal"] = to.authority
    return found


def _authority(rule: Rule, targets: Sequence[Destination]) -> str:
    """The Host that the rule itself sets, whatever its destination."""
    if rule.rewrite is not None and rule.rewrite.authority:
        return rule.rewrite.authority
    return next((to.authority for to in targets if to.authority and to.tells_original_host), "")


def _redirect(redirect: Redirect) -> Json:
    found: Json = {"response_code": CODES.get(redirect.code, "MOVED_PERMANENTLY")}
    if redirect.authority:
        found["host_redirect"] = text_of(redirect.authority)
    if redirect.scheme:
        found["scheme_redirect"] = redirect.scheme
    if redirect.port and (redirect.scheme or "http", redirect.port) not in (("http", 80), ("https", 443)):
        found["port_redirect"] = redirect.port
    if redirect.uri:
        found["path_redirect"] = text_of(redirect.uri)
    elif redirect.prefix is not None:
        found["prefix_rewrite"] = text_of(redirect.prefix)
    return found


def retry_policy(retry: RetryPolicy) -> Json:
    """RetryPolicy of a route."""
    names = [name for name in retry.retry_on.text.split(",") if name and not name.isdecimal()]
    found: Json = {
        "num_retries": retry.attempts,
        "host_selection_retry_max_attempts": HOST_SELECTION_ATTEMPTS,
        "retry_back_off": {"base_interval": duration(retry.backoff_base), "max_interval": duration(retry.backoff_max)},
    }
    if retry.retry_on.codes:
        names.append("retriable-status-codes")
        found["retriable_status_codes"] = sorted(retry.retry_on.codes)
    found["retry_on"] = ",".join(names)
    if retry.per_try_timeout:
        found["per_try_timeout"] = duration(retry.per_try_timeout)
    if retry.ignore_previous_hosts:
        predicate = typed("retry.host.previous_hosts.v3.PreviousHostsPredicate")
        found["retry_host_predicate"] = [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": predicate}
        ]
    if retry.remote_localities:
        priority = typed("retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency=2)
        found["retry_priority"] = {"name": "envoy.retry_priorities.previous_priorities", "typed_config": priority}
    return found


def _hash(policy: HashPolicy) -> Json:
    cookie = policy.cookie
    if cookie is not None:
        found: Json = {"name": text_of(cookie.name)}
        if cookie.ttl is not None:
            found["ttl"] = duration(cookie.ttl)
        if cookie.path:
            found["path"] = text_of(cookie.path)
        if cookie.attributes:
            found["attributes"] = [
                {"name": text_of(name), "value": text_of(value)} for name, value in cookie.attributes
            ]
        return {"cookie": found}
    if policy.header:
        return {"header": {"header_name": text_of(policy.header)}}
    if policy.query:
        return {"query_parameter": {"name": text_of(policy.query)}}
    return {"connection_properties": {"source_ip": True}}


# -- filters' own settings --------------------------------------------------------------------------------------------


def _fault(fault: FaultPolicy) -> Json:
    made = typed("filters.http.fault.v3.HTTPFault")
    if fault.delay_share:
        made["delay"] = {"fixed_delay": duration(fault.delay), "percentage": fraction(fault.delay_share)}
    if fault.abort_share:
        status: Json = {"http_status": fault.abort_status}
        if fault.abort_grpc is not None:
            status = {"grpc_status": fault.abort_grpc}
        made["abort"] = {**status, "percentage": fraction(fault.abort_share)}
    return made


def _cors(policy: CorsPolicy) -> Json:
    made = typed(
        "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[_origin(origin) for origin in policy.origins],
        forward_not_matching_preflights=policy.forward_unmatched,
    )
    for name in ("allow_methods", "allow_headers", "expose_headers", "max_age"):
        value = getattr(policy, name)
        if value:
            made[name] = text_of(value)
    if policy.allow_credentials:
        made["allow_credentials"] = True
    return made


def _origin(matcher: StringMatcher) -> Json:
    return {"safe_regex": {"regex": ".*"}} if matcher.kind == "present" else string_match(matcher)
