"""VirtualService (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from meshlib.policy.grpc_status import NUMBERS as GRPC_STATUSES
from meshlib.policy.l4_match import networks
from meshlib.policy.regex import BadRegex, rewriter
from meshlib.policy.retry import parse_retry_on
from meshlib.resources import virtual_service_notices
from meshlib.resources.base import Model, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.types import (
    Count32,
    DestinationHost,
    DnsLabel,
    Duration,
    Host,
    Percent,
    PercentInt,
    Port,
    PortSelector,
    StringMatch,
    check_regex,
    names,
    refuse,
)


def _http_status(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 600:
        raise refuse("bad-status", "{value} is not an HTTP status 200..600", "", value=repr(value))
    return value


def _redirect_code(value: Any) -> int:
    if isinstance(value, bool) or value not in (301, 302, 303, 307, 308):
        raise refuse(
            "bad-status",
            "{value} is not a redirect that Envoy makes",
            "one of 301, 302, 303, 307, 308",
            value=repr(value),
        )
    return int(value)


RedirectCode = Annotated[int, BeforeValidator(_redirect_code)]
HttpStatus = Annotated[int, BeforeValidator(_http_status)]


class CorsPolicy(Model):
    """``spec.http.corsPolicy`` of VirtualService."""

    allow_credentials: bool | None = None
    allow_headers: list[str] | None = None
    allow_methods: list[str] | None = None
    allow_origin: list[str] | None = None
    allow_origins: list[StringMatch] | None = None
    expose_headers: list[str] | None = None
    max_age: Duration | None = None
    unmatched_preflights: (
        Annotated[Literal["UNSPECIFIED", "FORWARD", "IGNORE"], names("UNSPECIFIED", "FORWARD", "IGNORE")] | None
    ) = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for method in self.allow_methods or ():
            if method not in _CORS_METHODS:
                raise refuse(
                    "bad-method",
                    "{method} is not a method for allowMethods",
                    "one of {known}",
                    method=repr(method),
                    known=", ".join(_CORS_METHODS),
                )
        for field in ("allow_headers", "expose_headers"):
            for name in getattr(self, field) or ():
                if name != "*" and not _TOKEN.fullmatch(name):
                    raise refuse("bad-header-name", "{name} is not a header name", "", name=repr(name))
        if self.max_age is not None and self.max_age != int(self.max_age):
            raise refuse("duration-precision", "maxAge is a whole number of seconds", "")
        for origin in self.allow_origins or ():
            if not (origin.exact or origin.prefix or origin.regex):
                raise refuse("empty-origin", "an entry of allowOrigins is empty", 'exact: "*" allows every origin')
        return self


_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Delegate(Model):
    """``spec.http.delegate`` of VirtualService."""

    name: str | None = None
    namespace: str | None = None


class DirectResponseBody(Model):
    """``spec.http.directResponse.body`` of VirtualService."""

    bytes_: str | None = Field(default=None, alias="bytes")
    string: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bytes_ is not None and self.string is not None:
            raise refuse("several-bodies", "a body has either string or bytes", "")
        if self.bytes_ is not None:
            try:
                base64.b64decode(self.bytes_, validate=True)
            except ValueError as error:
                raise refuse("bad-base64", "bytes is not base64", "use string for text") from error
        size = len(self.string.encode()) if self.string is not None else len(self.bytes_ or "") * 3 // 4
        if size > MAX_BODY:
            raise refuse("body-too-large", "the body has {size} bytes, Istio takes 1 MB", "serve it", size=size)
        return self


MAX_BODY = 1 << 20


class DirectResponse(Model):
    """``spec.http.directResponse`` of VirtualService."""

    status: HttpStatus
    body: DirectResponseBody | None = None


def _percent_as_percentage(value: Any) -> Any:
    """``percent: 10`` as ``percentage: {value: 10}``, which it became; both kept, so that a notice can be given."""
    if isinstance(value, dict) and isinstance(value.get("percent"), int) and "percentage" not in value:
        return {**value, "percentage": {"value": float(value["percent"])}}
    return value


class FaultAbort(Model):
    """``spec.http.fault.abort`` of VirtualService."""

    grpc_status: str | None = None
    http2_error: str | None = None
    http_status: HttpStatus | None = None
    percent: PercentInt | None = None  # removed from Istio; read as percentage, with a notice
    percentage: Percent | None = None

    _old_percent = model_validator(mode="before")(_percent_as_percentage)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.http2_error is not None:
            raise refuse("not-supported", "http2Error is not supported by Istio", "use httpStatus or grpcStatus")
        if self.grpc_status is not None and self.grpc_status.upper() not in GRPC_STATUSES:
            raise refuse(
                "bad-enum",
                "{value} is not a gRPC status",
                "one of {known}",
                value=repr(self.grpc_status),
                known=", ".join(GRPC_STATUSES),
            )
        if self.http_status is not None and self.grpc_status is not None:
            raise refuse("several-aborts", "an abort has either httpStatus or grpcStatus", "")
        return self


class FaultDelay(Model):
    """``spec.http.fault.delay`` of VirtualService."""

    exponential_delay: Duration | None = None
    fixed_delay: Duration | None = None
    percent: PercentInt | None = None  # deprecated
    percentage: Percent | None = None

    _old_percent = model_validator(mode="before")(_percent_as_percentage)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.exponential_delay is not None:
            raise refuse("not-supported", "exponentialDelay is not supported by Istio", "use fixedDelay")
        if self.fixed_delay is None:
            raise refuse("missing-field", "a delay needs fixedDelay", "for example fixedDelay: 5s")
        return self


class HttpFaultInjection(Model):
    """``spec.http.fault`` of VirtualService."""

    abort: FaultAbort | None = None
    delay: FaultDelay | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.abort is None and self.delay is None:
            raise refuse("empty-fault", "a fault needs delay or abort", "")
        return self


class HeaderOperations(Model):
    """``spec.http.headers.request`` of VirtualService."""

    add: dict[str, str] | None = None
    remove: list[str] | None = None
    set: dict[str, str] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (*(self.add or {}), *(self.set or {}), *(self.remove or [])):
            if not _HEADER_NAME.fullmatch(name):
                raise refuse("bad-header-name", "{name} is not a header name", "", name=repr(name))
        for name, value in (*(self.add or {}).items(), *(self.set or {}).items()):
            if _BAD_VALUE.search(value):
                raise refuse("bad-header-value", "the value of {name} holds a control character", "", name=repr(name))
        for name in self.remove or []:
            if name.startswith(":") or name.lower() == "host":
                raise refuse("protected-header", "{name} cannot be removed", "", name=repr(name))
        return self


class Headers(Model):
    """``spec.http.headers`` of VirtualService."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


_HEADER_NAME = re.compile(r":(?:path|method|authority|scheme)|[!#$%&'*+\-.^_`|~0-9A-Za-z]+|@request\.auth\.claims.+")


_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _no_empty_prefix(field: str, match: StringMatch | None) -> None:
    if match is not None and match.prefix == "":
        raise refuse("empty-prefix", "{field} has an empty prefix", "leave the condition out", field=field)


class HttpMatchRequest(Model):
    """``spec.http.match`` of VirtualService."""

    authority: StringMatch | None = None
    gateways: list[str] | None = None
    headers: dict[str, StringMatch] | None = None
    ignore_uri_case: bool | None = None
    method: StringMatch | None = None
    name: str | None = None
    port: Port | None = None
    query_params: dict[str, StringMatch] | None = None
    scheme: StringMatch | None = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None
    stat_prefix: str | None = None
    uri: StringMatch | None = None
    without_headers: dict[str, StringMatch] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, match in (("scheme", self.scheme), ("method", self.method), ("authority", self.authority)):
            if match is not None:
                _no_empty_prefix(field, match)
        if not (self.headers or self.query_params or self.without_headers):
            return self
        for field, matches in (("headers", self.headers), ("queryParams", self.query_params)):
            for name, match in (matches or {}).items():
                _no_empty_prefix(f"{field}.{name}", match)
                if match.regex == "*":
                    raise refuse(
                        "bad-regex",
                        '{field}: "*" is not a regular expression',
                        'write {} for "is present"',
                        field=f"{field}.{name}",
                    )
        for name in (*(self.headers or {}), *(self.without_headers or {})):
            if not _HEADER_NAME.fullmatch(name):
                raise refuse("bad-header-name", "{name} is not a header name", "", name=repr(name))
        return self


class Destination(Model):
    """Where to: ``spec.http[].route[].destination``, ``mirror``, ``mirrors[].destination`` and their L4 kin."""

    host: DestinationHost
    port: PortSelector | None = None
    subset: DnsLabel | None = None


class MirrorPolicy(Model):
    """``spec.http.mirrors`` of VirtualService."""

    destination: Destination
    percentage: Percent | None = None


class HttpRedirect(Model):
    """``spec.http.redirect`` of VirtualService."""

    authority: str | None = None
    derive_port: (
        Annotated[
            Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"], names("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")
        ]
        | None
    ) = None
    port: Port | None = None
    prefix_rewrite: str | None = None
    redirect_code: RedirectCode | None = None
    scheme: str | None = None
    uri: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scheme not in (None, "", "http", "https"):
            raise refuse("bad-enum", "a redirect's scheme is http or https, not {scheme}", "", scheme=repr(self.scheme))
        if self.port is not None and self.derive_port is not None:
            raise refuse("several-ports", "a redirect has either port or derivePort", "")
        if self.uri and self.prefix_rewrite:
            raise refuse("several-rewrites", "a redirect has either uri or prefixRewrite", "")
        return self


class HttpRetry(Model):
    """``spec.http.retries`` of VirtualService."""

    attempts: Count32 | None = None
    backoff: Duration | None = None
    per_try_timeout: Duration | None = None
    retry_ignore_previous_hosts: bool | None = None
    retry_on: str | None = None
    retry_remote_localities: bool | None = None

    @field_validator("retry_on")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value:
            for token in value.split(","):
                if token != token.strip():
                    raise refuse(
                        "bad-retry-on", "{token} has a space around it, which Istio refuses", "", token=repr(token)
                    )
            try:
                parse_retry_on(value)
            except ValueError as error:
                raise refuse("bad-retry-on", "{error}", "", error=str(error)) from error
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attempts == 0 and (self.retry_on or self.per_try_timeout or self.backoff):
            raise refuse(
                "retries-off-and-on",
                "attempts: 0 turns retries off, yet other retry settings are given",
                "leave them out, or set attempts to 1 or more",
            )
        return self


class RegexRewrite(Model):
    """``spec.http.rewrite.uriRegexRewrite`` of VirtualService."""

    match: str | None = None
    rewrite: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.match or not self.rewrite:
            raise refuse("missing-field", "uriRegexRewrite needs match and rewrite", "")
        check_regex(self.match)
        try:
            rewriter(self.match, self.rewrite)
        except BadRegex as error:
            raise refuse(
                "bad-regex", "{problem}", r"\1 stands for the first group, \\ for a backslash", problem=str(error)
            ) from error
        return self


class HttpRewrite(Model):
    """``spec.http.rewrite`` of VirtualService."""

    authority: str | None = None
    uri: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.uri is not None and self.uri_regex_rewrite is not None:
            raise refuse("several-rewrites", "a rewrite has either uri or uriRegexRewrite", "")
        if self.uri is None and self.uri_regex_rewrite is None and self.authority is None:
            raise refuse("empty-rewrite", "a rewrite needs uri, uriRegexRewrite or authority", "")
        return self


class HttpRouteDestination(Model):
    """``spec.http.route`` of VirtualService."""

    destination: Destination
    headers: Headers | None = None
    weight: Count32 | None = None
    append_request_headers: dict[str, str] | None = None
    append_response_headers: dict[str, str] | None = None
    remove_request_headers: list[str] | None = None
    remove_response_headers: list[str] | None = None


def check_weights(route: list[Any]) -> None:
    """Several destinations need weights that add up to something."""
    if len(route) > 1 and sum(d.weight or 0 for d in route) == 0:
        raise refuse(
            "weights-sum-zero",
            "the weights of {count} destinations add up to 0",
            "give each a weight, e.g. 90 and 10",
            count=len(route),
        )


class HttpRoute(Model):
    """``spec.http`` of VirtualService."""

    cors_policy: CorsPolicy | None = None
    delegate: Delegate | None = None
    direct_response: DirectResponse | None = None
    fault: HttpFaultInjection | None = None
    headers: Headers | None = None
    match: list[HttpMatchRequest] | None = None
    mirror: Destination | None = None
    mirror_percent: PercentInt | None = None
    mirror_percentage: Percent | None = None
    mirrors: list[MirrorPolicy] | None = None
    name: str | None = None
    redirect: HttpRedirect | None = None
    retries: HttpRetry | None = None
    rewrite: HttpRewrite | None = None
    route: list[HttpRouteDestination] | None = None
    timeout: Duration | None = None
    # spellings of Istio before 1.0, still found in old files
    append_headers: dict[str, str] | None = None
    append_request_headers: dict[str, str] | None = None
    append_response_headers: dict[str, str] | None = None
    remove_request_headers: list[str] | None = None
    remove_response_headers: list[str] | None = None
    websocket_upgrade: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        actions = [n for n in ("route", "redirect", "direct_response", "delegate") if getattr(self, n)]
        if not actions:
            raise refuse(
                "no-action",
                "the rule has no route, redirect, directResponse or delegate",
                "add route: [{destination: ...}]",
            )
        if len(actions) > 1:
            raise refuse(
                "several-actions",
                "a rule has one of route, redirect, directResponse, delegate; found {found}",
                "split it into several rules",
                found=" and ".join(actions),
            )
        if self.redirect is not None or self.direct_response is not None:
            for other in ("fault", "rewrite"):
                if getattr(self, other) is not None and not (other == "fault" and self.redirect is None):
                    raise refuse(
                        "several-actions",
                        "{other} cannot be combined with {action}",
                        "",
                        other=other,
                        action=actions[0],
                    )
        if self.mirror is not None and self.mirrors:
            raise refuse("several-mirrors", "a rule has either mirror or mirrors", "")
        if self.route is not None and len(self.route) > 1:
            check_weights(self.route)
        return self


def _subnet(value: Any) -> str:
    try:
        networks([value])
    except (ValueError, TypeError) as error:
        raise refuse(
            "bad-subnet", "{value} is not an address or CIDR", "for example 10.0.0.0/8", value=repr(value)
        ) from error
    return str(value)


Subnet = Annotated[str, BeforeValidator(_subnet)]


class L4MatchAttributes(Model):
    """``spec.tcp.match`` of VirtualService."""

    destination_subnets: list[Subnet] | None = None
    gateways: list[str] | None = None
    port: Port | None = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None
    source_subnet: Subnet | None = None


class RouteDestination(Model):
    """``spec.tcp.route`` of VirtualService."""

    destination: Destination
    weight: Count32 | None = None


class TcpRoute(Model):
    """``spec.tcp`` of VirtualService."""

    match: list[L4MatchAttributes] | None = None
    route: list[RouteDestination] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.route:
            raise refuse("no-action", "the rule has no route", "add route: [{destination: ...}]")
        check_weights(self.route)
        return self


class TlsMatchAttributes(Model):
    """``spec.tls.match`` of VirtualService."""

    sni_hosts: list[str]
    destination_subnets: list[Subnet] | None = None
    gateways: list[str] | None = None
    port: Port | None = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None


class TlsRoute(Model):
    """``spec.tls`` of VirtualService."""

    match: list[TlsMatchAttributes]
    route: list[RouteDestination] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.route:
            raise refuse("no-action", "the rule has no route", "add route: [{destination: ...}]")
        check_weights(self.route)
        return self


class VirtualServiceSpec(Model):
    """``spec`` of VirtualService."""

    export_to: list[str] | None = None
    gateways: list[str] | None = None
    hosts: list[Host] | None = None
    http: list[HttpRoute] | None = None
    tcp: list[TcpRoute] | None = None
    tls: list[TlsRoute] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.http or self.tcp or self.tls):
            raise refuse("no-rules", "a VirtualService needs http, tls or tcp rules", "")
        if not self.hosts and "hosts" in self.model_fields_set:
            raise refuse(
                "missing-host", "hosts is there and names none", "hosts: [reviews]; leave it out of a delegate"
            )
        mesh = not self.gateways or "mesh" in self.gateways
        if self.hosts:
            if mesh and "*" in self.hosts:
                raise refuse(
                    "wildcard-host", 'the host "*" is only for gateways', "name the hosts, or the gateways it is for"
                )
            doubles = {h.lower() for h in self.hosts if sum(h.lower() == o.lower() for o in self.hosts) > 1}
            if doubles:
                raise refuse("duplicate-host", "hosts names {hosts} twice", "", hosts=", ".join(sorted(doubles)))
        else:
            if self.gateways:
                raise refuse("delegate-with-gateways", "a VirtualService without hosts is a delegate: no gateways", "")
            if self.tcp or self.tls:
                raise refuse("missing-field", "hosts is missing", "hosts: [reviews]")
            if any(rule.delegate is not None for rule in self.http or ()):
                raise refuse(
                    "delegate-of-a-delegate",
                    "a VirtualService without hosts is a delegate, and may not delegate further",
                    "put its rules here, or delegate from the VirtualService that has the hosts",
                )
        return self


class VirtualService(Resource):
    """Istio's VirtualService."""

    kind: Literal["VirtualService"]
    spec: VirtualServiceSpec
    status: Any = None

    def notices(self) -> list[Notice]:
        """Old spellings in use, and combinations that do less than they seem to."""
        return [*super().notices(), *virtual_service_notices.notices(self)]
