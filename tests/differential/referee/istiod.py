"""Istio resources (as dicts) -> Envoy's virtual hosts and clusters, the way istiod writes a sidecar's outbound routes.

An independent reading: nothing of meshlib is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Config = dict[str, Any]
TYPES = "type.googleapis.com/envoy.extensions.filters"
CORS = "envoy.filters.http.cors"
FAULT = "envoy.filters.http.fault"
REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def cluster_name(destination: Config, port: int) -> str:
    """Istio's name of an outbound cluster."""
    number = destination.get("port", {}).get("number", port)
    return f"outbound|{number}|{destination.get('subset', '')}|{destination['host']}"


def virtual_host(service: Config, port: int = 80) -> Config:
    """The virtual host of a VirtualService on one port."""
    domains = [name for host in service["spec"]["hosts"] for name in (host, f"{host}:{port}")]
    return marked_host(
        service["metadata"]["name"],
        domains,
        [route for rule in service["spec"]["http"] for route in routes(rule, port)],
    )


def marked_host(name: str, domains: list[str], routes: list[Config]) -> Config:
    """A virtual host whose answers tell which route and cluster they come from."""
    return {
        "name": name,
        "domains": domains,
        "routes": routes,
        "include_request_attempt_count": True,
        "response_headers_to_add": [
            _header("x-referee-cluster", "%UPSTREAM_CLUSTER%", "OVERWRITE_IF_EXISTS_OR_ADD"),
            _header("x-referee-route", "%ROUTE_NAME%", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ],
    }


def routes(rule: Config, port: int) -> Iterator[Config]:
    """One Envoy route for each match block."""
    for block in rule.get("match") or [{}]:
        name = ".".join(filter(None, (rule.get("name", ""), block.get("name", ""))))
        yield {"name": name, "match": match(block), **action(rule, block, port)}


# -- matching ---------------------------------------------------------------------------------------------------------


def match(block: Config) -> Config:
    """HTTPMatchRequest -> RouteMatch."""
    made: Config = {}
    uri = block.get("uri", {})
    if "exact" in uri:
        made["path"] = uri["exact"]
    elif "regex" in uri:
        made["safe_regex"] = {"regex": uri["regex"]}
    else:
        made["prefix"] = uri.get("prefix", "/")
    if block.get("ignoreUriCase"):
        made["case_sensitive"] = False
    headers = [_header_match(name, value) for name, value in block.get("headers", {}).items()]
    for name, value in block.get("withoutHeaders", {}).items():
        inverted = {**_header_match(name, value), "invert_match": True}
        if "present_match" not in inverted:
            inverted["treat_missing_header_as_empty"] = True
        headers.append(inverted)
    headers += [_header_match(f":{f}", block[f]) for f in ("method", "authority", "scheme") if f in block]
    if headers:
        made["headers"] = headers
    if block.get("queryParams"):
        made["query_parameters"] = [_query_match(name, value) for name, value in block["queryParams"].items()]
    return made


def _string(value: Config) -> Config:
    if "exact" in value:
        return {"exact": value["exact"]}
    if "prefix" in value:
        return {"prefix": value["prefix"]}
    return {"safe_regex": {"regex": value["regex"]}}


def _present(value: Config) -> bool:
    return not value or value.get("regex") == "*"


def _header_match(name: str, value: Config) -> Config:
    return {"name": name, "present_match": True} if _present(value) else {"name": name, "string_match": _string(value)}


def _query_match(name: str, value: Config) -> Config:
    return {"name": name, "present_match": True} if _present(value) else {"name": name, "string_match": _string(value)}


# -- actions ----------------------------------------------------------------------------------------------------------


def action(rule: Config, block: Config, port: int) -> Config:
    """What a route does, with its filters' own settings."""
    made: Config = {}
    own = rule.get("headers", {})
    if "redirect" in rule:
        made["redirect"] = redirect(rule["redirect"], port)
    elif "directResponse" in rule:
        direct = rule["directResponse"]
        made["direct_response"] = {"status": direct["status"]}
        if "body" in direct:
            made["direct_response"]["body"] = {"inline_string": direct["body"]["string"]}
    else:
        made["route"] = forward(rule, block, port)
        destinations = rule["route"]
        if len(destinations) == 1:
            made.update(_operations(_joined(own, destinations[0].get("headers", {}))))
    if "route" not in made or len(rule["route"]) > 1:
        made.update(_operations(own))
    filters = {}
    if "fault" in rule:
        filters[FAULT] = fault(rule["fault"])
    if "corsPolicy" in rule:
        filters[CORS] = cors(rule["corsPolicy"])
    if filters:
        made["typed_per_filter_config"] = filters
    return made


def forward(rule: Config, block: Config, port: int) -> Config:
    """RouteAction."""
    made: Config = {"timeout": "0s"}
    destinations = rule["route"]
    if len(destinations) == 1:
        made["cluster"] = cluster_name(destinations[0]["destination"], port)
    else:
        made["weighted_clusters"] = {
            "clusters": [
                {
                    "name": cluster_name(d["destination"], port),
                    "weight": d.get("weight", 0),
                    **_operations(d.get("headers", {})),
                }
                for d in destinations
                if d.get("weight", 0) > 0
            ]
        }
    rewrite = rule.get("rewrite", {})
    if "uriRegexRewrite" in rewrite:
        regex = rewrite["uriRegexRewrite"]
        made["regex_rewrite"] = {"pattern": {"regex": regex["match"]}, "substitution": regex["rewrite"]}
    elif "uri" in rewrite:
        made["prefix_rewrite"] = rewrite["uri"]
    authority = rewrite.get("authority") or _authority(rule.get("headers", {}))
    if not authority and len(destinations) == 1:
        authority = _authority(destinations[0].get("headers", {}))
    if authority:
        made["host_rewrite_literal"] = authority
    elif len(destinations) > 1:
        for target, weighted in zip(
            [d for d in destinations if d.get("weight", 0) > 0], made["weighted_clusters"]["clusters"], strict=True
        ):
            own = _authority(target.get("headers", {}))
            if own:
                weighted["host_rewrite_literal"] = own
    if "retries" in rule:
        made["retry_policy"] = retry(rule["retries"])
    if "timeout" in rule:
        made["timeout"] = rule["timeout"]
    return made


def retry(retries: Config) -> Config:
    """RetryPolicy of a rule that says something about retries."""
    tokens = retries.get("retryOn", "connect-failure,refused-stream,unavailable,cancelled").split(",")
    codes = [int(token) for token in tokens if token.isdigit()]
    names = [token for token in tokens if not token.isdigit()]
    made: Config = {"num_retries": retries.get("attempts", 2)}
    if codes:
        names.append("retriable-status-codes")
        made["retriable_status_codes"] = codes
    made["retry_on"] = ",".join(names)
    if "backoff" in retries:
        made["retry_back_off"] = {"base_interval": _seconds(retries["backoff"])}
    if "perTryTimeout" in retries:
        made["per_try_timeout"] = _seconds(retries["perTryTimeout"])
    return made


def _seconds(text: str) -> str:
    return f"{int(text[:-2]) / 1000:.3f}s" if text.endswith("ms") else text


def redirect(settings: Config, port: int) -> Config:
    """RedirectAction."""
    made: Config = {"response_code": REDIRECT_CODES[settings.get("redirectCode", 301)]}
    if "authority" in settings:
        made["host_redirect"] = settings["authority"]
    if "uri" in settings:
        made["path_redirect"] = settings["uri"]
    if "scheme" in settings:
        made["scheme_redirect"] = settings["scheme"]
    number = settings.get("port", 0)
    if settings.get("derivePort") == "FROM_REQUEST_PORT":
        number = port
    if number and (settings.get("scheme", "http"), number) not in (("http", 80), ("https", 443)):
        made["port_redirect"] = number
    return made


def fault(settings: Config) -> Config:
    """HTTPFault with an abort; its share is 0 or 100 in what is generated."""
    abort = settings["abort"]
    return {
        "@type": f"{TYPES}.http.fault.v3.HTTPFault",
        "abort": {
            "http_status": abort["httpStatus"],
            "percentage": {"numerator": int(abort.get("percentage", {}).get("value", 0))},
        },
    }


def cors(policy: Config) -> Config:
    """CorsPolicy of a route."""
    made: Config = {
        "@type": f"{TYPES}.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_string(origin) for origin in policy.get("allowOrigins", [])],
        "forward_not_matching_preflights": policy.get("unmatchedPreflights") != "IGNORE",
    }
    for ours, theirs in (
        ("allowMethods", "allow_methods"),
        ("allowHeaders", "allow_headers"),
        ("exposeHeaders", "expose_headers"),
    ):
        if policy.get(ours):
            made[theirs] = ",".join(policy[ours])
    if "maxAge" in policy:
        made["max_age"] = policy["maxAge"].removesuffix("s")
    if policy.get("allowCredentials"):
        made["allow_credentials"] = True
    return made


# -- header operations ------------------------------------------------------------------------------------------------

_HOST = ("host", ":authority")


def _authority(headers: Config) -> str:
    request = headers.get("request", {})
    for verb in ("set", "add"):
        for name, value in request.get(verb, {}).items():
            if name.lower() in _HOST:
                return str(value)
    return ""


def _joined(of_rule: Config, of_destination: Config) -> Config:
    """A rule's operations and its sole destination's as one list: the destination's follow the rule's."""
    made: Config = {}
    for direction in ("request", "response"):
        one, two = of_rule.get(direction, {}), of_destination.get(direction, {})
        made[direction] = {
            "set": [*sorted(one.get("set", {}).items()), *sorted(two.get("set", {}).items())],
            "add": [*sorted(one.get("add", {}).items()), *sorted(two.get("add", {}).items())],
            "remove": [*one.get("remove", []), *two.get("remove", [])],
        }
    return made


def _operations(headers: Config) -> Config:
    made: Config = {}
    for direction in ("request", "response"):
        operations = headers.get(direction, {})
        changes = []
        for verb, how in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD")):
            values = operations.get(verb, {})
            pairs = sorted(values.items()) if isinstance(values, dict) else values
            changes += [_header(name, value, how) for name, value in pairs if name.lower() not in _HOST]
        if changes:
            made[f"{direction}_headers_to_add"] = changes
        if operations.get("remove"):
            made[f"{direction}_headers_to_remove"] = list(operations["remove"])
    return made


def _header(name: str, value: str, how: str) -> Config:
    return {"header": {"key": name, "value": value}, "append_action": how}
