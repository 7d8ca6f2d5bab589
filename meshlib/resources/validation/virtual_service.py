"""The rules of a VirtualService."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from meshlib.pace import take_turns
from meshlib.policy.grpc_status import NUMBERS as GRPC_STATUSES
from meshlib.policy.retry import CONDITIONS
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import is_ip, subnet
from meshlib.resources.validation.export_to import export_to
from meshlib.resources.validation.headers import condition_name, cors_name, header_operations, is_claim, one_authority
from meshlib.resources.validation.hosts import (
    covers,
    domain_problem,
    gateway_domain_problem,
    is_dns_label,
    overlap,
    wildcard_domain_problem,
)
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.protocols import port_number
from meshlib.resources.validation.regexes import one_condition, regex, string_match

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import HttpMatchRequest, HttpRoute, VirtualService, VirtualServiceSpec

MESH = "mesh"
MAX_BODY = 1 << 20
_LARGE_BODY = 100 << 10
_SPEC: Loc = ("spec",)
_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_STATUSES = frozenset(str(status.value) for status in HTTPStatus)
_number = re.compile(r"[+-]?0*([0-9]+)").fullmatch


def refusals(resource: VirtualService) -> Iterator[Notice]:
    """Every rule, in the order of the fields."""
    spec = resource.spec
    at_gateway = bool(spec.gateways) and MESH not in (spec.gateways or ())
    yield from export_to(spec.export_to, resource.namespace)
    yield from gateway_names(spec.gateways, (*_SPEC, "gateways"))
    yield from _hosts(spec, at_gateway)
    if not (spec.http or spec.tls or spec.tcp):
        yield refused("no-rules", _SPEC, "a VirtualService needs http, tls or tcp rules", "add http: [{route: [...]}]")
    if not spec.hosts:
        yield from _delegate(spec)
    for index, rule in enumerate(spec.http or ()):
        take_turns()
        yield from _http(rule, (*_SPEC, "http", index), delegate=not spec.hosts, at_gateway=at_gateway)
    for index, tls in enumerate(spec.tls or ()):
        yield from _tls(tls, (*_SPEC, "tls", index), spec, at_gateway)
    for index, tcp in enumerate(spec.tcp or ()):
        yield from _tcp(tcp, (*_SPEC, "tcp", index))


# -- hosts and gateways -----------------------------------------------------------------------------------------------


def gateway_names(names: Sequence[str] | None, loc: Loc) -> Iterator[Notice]:
    """``mesh``, ``name`` or ``namespace/name``. As in Istio, what follows a name without a namespace is not looked at."""
    for index, name in enumerate(names or ()):
        namespace, slash, gateway = name.partition("/")
        if not slash:
            problem = domain_problem(name)
            if problem:
                yield refused(
                    "bad-gateway",
                    (*loc, index),
                    f"{name!r} is not a gateway: {problem}",
                    "write namespace/name, or mesh",
                )
            return
        if not is_dns_label(namespace) or not is_dns_label(gateway):
            yield refused(
                "bad-gateway",
                (*loc, index),
                f"{name!r} is not a gateway",
                "write namespace/name, both of them DNS labels",
            )


def _hosts(spec: VirtualServiceSpec, at_gateway: bool) -> Iterator[Notice]:
    sni = any(match.sni_hosts for rule in spec.tls or () for match in rule.match or ())
    good = True
    for index, host in enumerate(spec.hosts or ()):
        loc = (*_SPEC, "hosts", index)
        problem = gateway_domain_problem(host, sni=sni) if at_gateway else wildcard_domain_problem(host)
        if problem and not is_ip(host):
            good = False
            if host:
                yield refused(
                    "bad-host", loc, f"{host!r} is not a host name: {problem}", "for example reviews or api.example.com"
                )
            else:
                yield refused("missing-host", loc, "the host is empty", "name a service, e.g. reviews")
        elif host == "*" and not at_gateway:
            good = False
            yield refused(
                "wildcard-host", loc, 'the host "*" is only for gateways', "name the hosts, or the gateways it is for"
            )
    if good:
        yield from _hosts_once(spec.hosts or ())


def _hosts_once(hosts: Sequence[str]) -> Iterator[Notice]:
    seen: set[str] = set()
    wildcards: list[str] = []
    for index, host in enumerate(hosts):
        take_turns()
        others = seen if host.startswith("*") else wildcards
        same = host if host in seen else next((other for other in others if overlap(host, other)), "")
        if same:
            yield refused(
                "duplicate-host",
                (*_SPEC, "hosts", index),
                f"hosts names {host} twice" if same == host else f"{host} and {same} cover the same hosts",
                "keep one of them",
            )
        seen.add(host)
        if host.startswith("*"):
            wildcards.append(host)


def _delegate(spec: VirtualServiceSpec) -> Iterator[Notice]:
    """Without hosts it is a delegate: http rules only, for the gateways of the one that delegates."""
    if spec.gateways:
        yield refused(
            "delegate-with-gateways",
            (*_SPEC, "gateways"),
            "a VirtualService without hosts is a delegate: no gateways",
            "leave gateways out, or add hosts",
        )
    for kind in ("tls", "tcp"):
        if getattr(spec, kind):
            yield refused(
                "missing-field",
                (*_SPEC, kind),
                "hosts is missing, and a delegate has http rules only",
                "hosts: [reviews]",
            )


# -- http rules -------------------------------------------------------------------------------------------------------


def _http(rule: HttpRoute, loc: Loc, *, delegate: bool, at_gateway: bool) -> Iterator[Notice]:
    yield from _action(rule, loc, delegate)
    for index, match in enumerate(rule.match or ()):
        yield from _match(match, (*loc, "match", index), at_gateway)
    if rule.headers is not None:
        yield from header_operations(rule.headers, (*loc, "headers"))
        yield from one_authority(rule, loc)
    if rule.cors_policy is not None:
        yield from _cors(rule.cors_policy, (*loc, "corsPolicy"))
    if rule.fault is not None:
        yield from _fault(rule.fault, (*loc, "fault"))
    if rule.mirror_percentage is not None:
        yield from _share(rule.mirror_percentage.value, (*loc, "mirrorPercentage"), 0.0)
    for index, mirror in enumerate(rule.mirrors or ()):
        if mirror.percentage is not None:
            yield from _share(mirror.percentage.value, (*loc, "mirrors", index, "percentage"), 0.0)
    if rule.redirect is not None:
        yield from _redirect(rule, (*loc, "redirect"))
    if rule.direct_response is not None:
        yield from _direct_response(rule.direct_response, (*loc, "directResponse"))
    if rule.retries is not None:
        yield from _retries(rule.retries, (*loc, "retries"))
    if rule.rewrite is not None:
        yield from _rewrite(rule.rewrite, (*loc, "rewrite"))
    if rule.route:
        yield from _destinations(rule.route, (*loc, "route"))


def _action(rule: HttpRoute, loc: Loc, delegate: bool) -> Iterator[Notice]:
    """One of route, redirect, directResponse and delegate, and what may stand beside it."""
    if rule.delegate is not None and delegate:
        yield refused(
            "delegate-of-a-delegate",
            (*loc, "delegate"),
            "a VirtualService without hosts is a delegate, and may not delegate further",
            "put its rules here, or delegate from the VirtualService that has the hosts",
        )
        return
    if rule.delegate is not None:
        for other, there in (("redirect", rule.redirect is not None), ("route", bool(rule.route))):
            if there:
                yield _several_actions("delegate", other, loc)
        return
    if rule.redirect is not None:
        yield from _alone("redirect", rule, loc, ("route", "fault", "rewrite", "directResponse"))
    elif rule.direct_response is not None:
        yield from _alone("directResponse", rule, loc, ("route", "fault", "rewrite"))
    elif not rule.route:
        yield refused(
            "no-action",
            loc,
            "the rule has no route, redirect, directResponse or delegate",
            "add route: [{destination: ...}]",
        )
    if rule.mirror is not None and rule.mirrors:
        yield refused("several-mirrors", (*loc, "mirrors"), "a rule has either mirror or mirrors", "keep mirrors")


_ATTRIBUTES = {"directResponse": "direct_response"}


def _alone(action: str, rule: HttpRoute, loc: Loc, others: tuple[str, ...]) -> Iterator[Notice]:
    for other in others:
        value = getattr(rule, _ATTRIBUTES.get(other, other))
        if value if other == "route" else value is not None:
            yield _several_actions(action, other, loc)


def _several_actions(action: str, other: str, loc: Loc) -> Notice:
    return refused(
        "several-actions",
        (*loc, other),
        f"{other} cannot be combined with {action}",
        "split it into several rules",
    )


def _match(match: HttpMatchRequest, loc: Loc, at_gateway: bool) -> Iterator[Notice]:
    uri = match.uri
    if uri is not None and (uri.regex is not None or len(uri.model_fields_set) > 1):
        yield from string_match(uri, (*loc, "uri"), empty_prefix=True)
    yield from string_match(match.scheme, (*loc, "scheme"))
    yield from string_match(match.method, (*loc, "method"))
    yield from string_match(match.authority, (*loc, "authority"))
    if match.headers:
        for name, condition in match.headers.items():
            yield from _header(name, (*loc, "headers", name), at_gateway)
            yield from string_match(condition, (*loc, "headers", name))
    if match.without_headers:
        for name, condition in match.without_headers.items():
            yield from _header(name, (*loc, "withoutHeaders", name), at_gateway)
            if condition.regex != "*":  # stands for "is present" here, and only here
                yield from string_match(condition, (*loc, "withoutHeaders", name))
    if match.query_params:
        for name, condition in match.query_params.items():
            yield from string_match(condition, (*loc, "queryParams", name))
    if match.source_labels:
        yield from labels(match.source_labels, (*loc, "sourceLabels"))
    if match.gateways:
        yield from gateway_names(match.gateways, (*loc, "gateways"))
    if match.source_namespace and not is_dns_label(match.source_namespace):
        yield refused(
            "bad-name", (*loc, "sourceNamespace"), f"{match.source_namespace!r} is not a namespace", "the name of one"
        )


def _header(name: str, loc: Loc, at_gateway: bool) -> Iterator[Notice]:
    yield from condition_name(name, loc)
    if not at_gateway and is_claim(name):
        yield refused(
            "claim-without-gateway",
            loc,
            f"{name} looks at the caller's token, which Istio does at gateways only",
            "name the gateways that the rules are for, without mesh",
        )


def _cors(policy: Any, loc: Loc) -> Iterator[Notice]:
    for index, origin in enumerate(policy.allow_origins or ()):
        there = (*loc, "allowOrigins", index)
        several = [*one_condition(origin, there)]
        if several:
            yield from several
        elif not (origin.exact or origin.prefix or origin.regex):
            yield refused("empty-origin", there, "an entry of allowOrigins is empty", 'exact: "*" allows every origin')
        elif origin.regex is not None:
            yield from regex(origin.regex, (*there, "regex"))
    for index, method in enumerate(policy.allow_methods or ()):
        if method not in _CORS_METHODS:
            yield refused(
                "bad-method",
                (*loc, "allowMethods", index),
                f"{method!r} is not a method for allowMethods",
                f"one of {', '.join(_CORS_METHODS)}",
            )
    for field, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for index, name in enumerate(names or ()):
            yield from cors_name(name, (*loc, field, index))
    if policy.max_age is not None and policy.max_age != int(policy.max_age):
        yield refused("duration-precision", (*loc, "maxAge"), "maxAge is a whole number of seconds", "for example 24h")


def _fault(fault: Any, loc: Loc) -> Iterator[Notice]:
    abort, delay = fault.abort, fault.delay
    if abort is None and delay is None:
        yield refused("empty-fault", loc, "a fault needs delay or abort", "leave it out")
    if abort is not None:
        there = (*loc, "abort")
        yield from _fault_share(abort, there)
        if abort.http2_error is not None:
            yield refused(
                "not-supported",
                (*there, "http2Error"),
                "http2Error is not supported by Istio",
                "use httpStatus or grpcStatus",
            )
        elif abort.http_status is not None and abort.grpc_status is None:
            yield from _status(abort.http_status, (*there, "httpStatus"))
        elif abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUSES:
            yield refused(
                "bad-enum",
                (*there, "grpcStatus"),
                f"{abort.grpc_status!r} is not a gRPC status",
                f"one of {', '.join(GRPC_STATUSES)}",
            )
    if delay is not None:
        yield from _fault_share(delay, (*loc, "delay"))
        if delay.exponential_delay is not None:
            yield refused(
                "not-supported",
                (*loc, "delay", "exponentialDelay"),
                "exponentialDelay is not supported by Istio",
                "use fixedDelay",
            )


def _fault_share(part: Any, loc: Loc) -> Iterator[Notice]:
    if part.percentage is not None:
        yield from _share(part.percentage.value, (*loc, "percentage"), 0.0001)


def _share(value: float | None, loc: Loc, smallest: float) -> Iterator[Notice]:
    if value is not None and value != 0 and not smallest <= value <= 100:
        yield refused(
            "bad-percent",
            (*loc, "value"),
            f"{value} is outside 0..100",
            f"the smallest share is {smallest:g}" if 0 < value < 1 else "a number 0..100; decimals count",
        )


def _status(status: int, loc: Loc) -> Iterator[Notice]:
    if not 200 <= status <= 600:
        yield refused("bad-status", loc, f"{status} is not an HTTP status 200..600", "for example 503")


def _redirect(rule: HttpRoute, loc: Loc) -> Iterator[Notice]:
    redirect: Any = rule.redirect
    if redirect.uri and redirect.prefix_rewrite:
        yield refused(
            "several-rewrites",
            (*loc, "prefixRewrite"),
            "a redirect has either uri or prefixRewrite",
            "keep one of them",
        )
    if redirect.prefix_rewrite:
        for index, match in enumerate(rule.match or ()):
            if match.uri is not None and match.uri.prefix is None:
                yield refused(
                    "prefix-rewrite-without-prefix",
                    (*loc, "prefixRewrite"),
                    f"prefixRewrite replaces a prefix, and match[{index}] has a uri without one",
                    "match the uri by prefix",
                )
    port_given = redirect.port is not None or redirect.derive_port is not None
    if not (redirect.uri or redirect.prefix_rewrite or redirect.authority or redirect.scheme or port_given):
        yield refused(
            "empty-redirect", loc, "the redirect changes nothing", "give uri, prefixRewrite, authority, scheme or port"
        )
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield refused(
            "bad-status",
            (*loc, "redirectCode"),
            f"{redirect.redirect_code} is not the code of a redirect",
            "one of 301, 302, 303, 307, 308",
        )
    if redirect.scheme and redirect.scheme not in ("http", "https"):
        yield refused(
            "bad-enum",
            (*loc, "scheme"),
            f"a redirect's scheme is http or https, not {redirect.scheme!r}",
            "scheme: https",
        )
    if redirect.port and redirect.derive_port is None:
        yield from port_number(redirect.port, (*loc, "port"))


def _direct_response(response: Any, loc: Loc) -> Iterator[Notice]:
    yield from _status(response.status, (*loc, "status"))
    body = response.body
    if body is None:
        return
    text = "" if body.string is None else body.string
    size = len(text.encode("utf-8", "surrogatepass")) if body.bytes_ is None else body.size_of_bytes
    if size > MAX_BODY:
        yield refused("body-too-large", (*loc, "body"), f"the body has {size} bytes, Istio takes 1 MB", "serve it")


def _retries(retries: Any, loc: Loc) -> Iterator[Notice]:
    settings = (
        ("perTryTimeout", retries.per_try_timeout is not None),
        ("retryOn", bool(retries.retry_on)),
        ("retryRemoteLocalities", retries.retry_remote_localities is not None),
    )
    for name, given in settings if not retries.attempts else ():
        if given:
            yield refused(
                "retries-off-and-on",
                (*loc, name),
                f"attempts: 0 turns retries off, yet {name} is given",
                "leave it out, or set attempts to 1 or more",
            )
    for condition in retries.retry_on.split(",") if retries.retry_on else ():
        number = _number(condition)
        if condition not in CONDITIONS and not (number and number[1] in _STATUSES and not condition.startswith("-")):
            known = condition.strip() in CONDITIONS
            yield refused(
                "bad-retry-on",
                (*loc, "retryOn"),
                f"{condition!r} is not a condition for a retry" + (": it has a space around it" if known else ""),
                "conditions and HTTP statuses, separated by commas without spaces" if known else
                f"one of {', '.join(CONDITIONS)} or an HTTP status",
            )  # fmt: skip


def _rewrite(rewrite: Any, loc: Loc) -> Iterator[Notice]:
    by_regex = rewrite.uri_regex_rewrite
    if rewrite.uri and by_regex is not None:
        yield refused(
            "several-rewrites",
            (*loc, "uriRegexRewrite"),
            "a rewrite has either uri or uriRegexRewrite",
            "keep one of them",
        )
    if not rewrite.uri and by_regex is None and not rewrite.authority:
        yield refused("empty-rewrite", loc, "a rewrite needs uri, uriRegexRewrite or authority", "leave it out")
    if by_regex is not None:
        there = (*loc, "uriRegexRewrite")
        if not by_regex.match or not by_regex.rewrite:
            yield refused(
                "missing-field",
                there,
                "uriRegexRewrite needs match and rewrite",
                "match: ^/old/(.*), rewrite: /new/\\1",
            )
        else:
            yield from regex(by_regex.match, (*there, "match"))


# -- destinations, tls and tcp rules ----------------------------------------------------------------------------------


def _destinations(targets: Sequence[Any], loc: Loc, *, http: bool = True) -> Iterator[Notice]:
    if len(targets) > 1 and sum(target.weight or 0 for target in targets) == 0:
        yield refused(
            "weights-sum-zero",
            loc,
            f"the weights of {len(targets)} destinations add up to 0",
            "give each a weight, e.g. 90 and 10",
        )
    if http:
        for index, target in enumerate(targets):
            if target.headers is not None:
                yield from header_operations(target.headers, (*loc, index, "headers"))


def _tls(rule: Any, loc: Loc, spec: VirtualServiceSpec, at_gateway: bool) -> Iterator[Notice]:
    if not rule.match:
        yield refused("missing-match", loc, "a tls rule needs a match", "match: [{sniHosts: [api.example.com]}]")
    for index, match in enumerate(rule.match or ()):
        there = (*loc, "match", index)
        if not match.sni_hosts:
            yield refused("missing-host", there, "sniHosts names no host", "sniHosts: [api.example.com]")
        for position, host in enumerate(match.sni_hosts or ()):
            yield from _sni(host, (*there, "sniHosts", position), spec.hosts or (), at_gateway)
        yield from _connection(match, there)
    yield from _l4_route(rule, loc)


def _sni(sni: str, loc: Loc, hosts: Sequence[str], at_gateway: bool) -> Iterator[Notice]:
    problem = gateway_domain_problem(sni, sni=True) if at_gateway else wildcard_domain_problem(sni)
    if problem:
        if not is_ip(sni):
            yield refused("bad-host", loc, f"{sni!r} is not a server name: {problem}", "for example api.example.com")
    elif not any(covers(host, sni) for host in hosts):
        yield refused(
            "sni-of-other-host",
            loc,
            f"the server name {sni} is none of the hosts ({', '.join(hosts)})",
            "name it among hosts, or a wildcard that covers it",
        )


def _tcp(rule: Any, loc: Loc) -> Iterator[Notice]:
    for index, match in enumerate(rule.match or ()):
        yield from _connection(match, (*loc, "match", index))
    yield from _l4_route(rule, loc)


def _connection(match: Any, loc: Loc) -> Iterator[Notice]:
    for index, network in enumerate(match.destination_subnets or ()):
        yield from subnet(network, (*loc, "destinationSubnets", index))
    yield from labels(match.source_labels, (*loc, "sourceLabels"))
    yield from gateway_names(match.gateways, (*loc, "gateways"))


def _l4_route(rule: Any, loc: Loc) -> Iterator[Notice]:
    if not rule.route:
        yield refused("no-action", loc, "the rule has no route", "add route: [{destination: ...}]")
    else:
        yield from _destinations(rule.route, (*loc, "route"), http=False)


def warnings(resource: VirtualService) -> Iterator[Notice]:
    """Old names of gateways, addresses as server names, bodies that make every proxy's configuration large."""
    spec = resource.spec
    for index, name in enumerate(spec.gateways or ()):
        if "/" not in name and "." in name:
            gateway, _, rest = name.partition(".")
            yield warned(
                "old-gateway-name",
                (*_SPEC, "gateways", index),
                f"{name} is an old way to name a gateway",
                f"write {rest.partition('.')[0]}/{gateway}",
            )
    for index, rule in enumerate(spec.http or ()):
        body = rule.direct_response.body if rule.direct_response is not None else None
        if body is not None and max(len(body.string or ""), body.size_of_bytes) > _LARGE_BODY:
            yield warned(
                "large-body",
                (*_SPEC, "http", index, "directResponse", "body"),
                "the body has more than 100 kB, and every proxy keeps it",
                "serve it",
            )
    for index, tls in enumerate(spec.tls or ()):
        for position, match in enumerate(tls.match):
            for place, host in enumerate(match.sni_hosts):
                if is_ip(host):
                    yield warned(
                        "address-as-server-name",
                        (*_SPEC, "tls", index, "match", position, "sniHosts", place),
                        f"clients send no addresses as server names: {host} matches nothing",
                        "match destinationSubnets in a tcp rule",
                    )
