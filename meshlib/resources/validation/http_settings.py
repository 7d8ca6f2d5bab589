"""What an http rule of a VirtualService does to requests: CORS, faults, redirects, direct responses, retries, rewrites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from meshlib.policy.grpc_status import NUMBERS as GRPC_STATUSES
from meshlib.policy.retry import CONDITIONS
from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.headers import cors_name
from meshlib.resources.validation.protocols import port_number
from meshlib.resources.validation.regexes import one_condition, regex

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import (
        CorsPolicy,
        DirectResponse,
        FaultAbort,
        FaultDelay,
        HttpFaultInjection,
        HttpRedirect,
        HttpRetry,
        HttpRewrite,
        HttpRoute,
    )

MAX_BODY = 1 << 20
_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_STATUSES = frozenset(str(status.value) for status in HTTPStatus)
_number = re.compile(r"[+-]?0*([0-9]+)").fullmatch


def cors(policy: CorsPolicy, loc: Loc) -> Iterator[Notice]:
    """``corsPolicy``: origins, methods and headers that there are."""
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


def fault(fault: HttpFaultInjection, loc: Loc) -> Iterator[Notice]:
    """``fault``: a delay or an abort, each with its share."""
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


def _fault_share(part: FaultAbort | FaultDelay, loc: Loc) -> Iterator[Notice]:
    if part.percentage is not None:
        yield from share(part.percentage.value, (*loc, "percentage"), 0.0001)


def share(value: float | None, loc: Loc, smallest: float) -> Iterator[Notice]:
    """A percentage 0..100; ``smallest`` is the least above 0."""
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


def redirect(redirect: HttpRedirect, rule: HttpRoute, loc: Loc) -> Iterator[Notice]:
    """``redirect`` of a rule: to somewhere, by one path, with a code of a redirect."""
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
            f"a redirect's scheme must be http or https, not {redirect.scheme!r}",
            "scheme: https",
        )
    if redirect.port and redirect.derive_port is None:
        yield from port_number(redirect.port, (*loc, "port"))


def direct_response(response: DirectResponse, loc: Loc) -> Iterator[Notice]:
    """``directResponse``: a status, and a body of a size that every proxy can keep."""
    yield from _status(response.status, (*loc, "status"))
    body = response.body
    if body is None:
        return
    text = "" if body.string is None else body.string
    size = len(text.encode("utf-8", "surrogatepass")) if body.bytes_ is None else body.size_of_bytes
    if size > MAX_BODY:
        yield refused("body-too-large", (*loc, "body"), f"the body has {size} bytes, Istio takes 1 MB", "serve it")


def retries(retries: HttpRetry, loc: Loc) -> Iterator[Notice]:
    """``retries``: conditions that Envoy knows, and attempts for them."""
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


def rewrite(rewrite: HttpRewrite, loc: Loc) -> Iterator[Notice]:
    """``rewrite``: of the path in one way, or of the authority."""
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
