"""VirtualService (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import (
    Count,
    DestinationHost,
    DestinationPort,
    Duration,
    Int32,
    OptionalDnsLabel,
    OptionalPort,
    Percent,
    PercentInt,
    StringMatch,
    UInt32,
    names,
    refuse,
)


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


class Delegate(Model):
    """``spec.http.delegate`` of VirtualService."""

    name: str | None = None
    namespace: str | None = None


class DirectResponseBody(Model):
    """``spec.http.directResponse.body`` of VirtualService."""

    bytes_: str | None = Field(default=None, alias="bytes")
    string: str | None = None

    @field_validator("bytes_")
    @classmethod
    def _base64(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True)
            except ValueError as error:
                raise refuse("bad-base64", "bytes is not base64", "use string for text") from error
        return value

    @property
    def size_of_bytes(self) -> int:
        """Of ``bytes``, decoded."""
        return len(base64.b64decode(self.bytes_ or ""))


class DirectResponse(Model):
    """``spec.http.directResponse`` of VirtualService."""

    status: UInt32
    body: DirectResponseBody | None = None


def _percent_as_percentage(value: object) -> object:
    """``percent: 10`` as ``percentage: {value: 10}``, which it became; both kept, so that a notice can be given."""
    if isinstance(value, dict) and isinstance(value.get("percent"), int) and "percentage" not in value:
        if not 0 <= value["percent"] <= 100:
            return value
        return {**value, "percentage": {"value": float(value["percent"])}}
    return value


class FaultAbort(Model):
    """``spec.http.fault.abort`` of VirtualService."""

    grpc_status: str | None = None
    http2_error: str | None = None
    http_status: Int32 | None = None
    percent: PercentInt | None = None  # removed from Istio; read as percentage, with a notice
    percentage: Percent | None = None

    _old_percent = model_validator(mode="before")(_percent_as_percentage)


class FaultDelay(Model):
    """``spec.http.fault.delay`` of VirtualService."""

    exponential_delay: Duration | None = None
    fixed_delay: Duration | None = None
    percent: Int32 | None = None  # deprecated
    percentage: Percent | None = None

    _old_percent = model_validator(mode="before")(_percent_as_percentage)


class HttpFaultInjection(Model):
    """``spec.http.fault`` of VirtualService."""

    abort: FaultAbort | None = None
    delay: FaultDelay | None = None


class HeaderOperations(Model):
    """``spec.http.headers.request`` of VirtualService."""

    add: dict[str, str] | None = None
    remove: list[str] | None = None
    set: dict[str, str] | None = None


class Headers(Model):
    """``spec.http.headers`` of VirtualService."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HttpMatchRequest(Model):
    """``spec.http.match`` of VirtualService."""

    authority: StringMatch | None = None
    gateways: list[str] | None = None
    headers: dict[str, StringMatch] | None = None
    ignore_uri_case: bool | None = None
    method: StringMatch | None = None
    name: str | None = None
    port: OptionalPort = None
    query_params: dict[str, StringMatch] | None = None
    scheme: StringMatch | None = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None
    stat_prefix: str | None = None
    uri: StringMatch | None = None
    without_headers: dict[str, StringMatch] | None = None

    def is_path_only(self) -> bool:
        """Whether it says nothing but ``uri``, as most do."""
        return self.model_fields_set == _PATH


_PATH = frozenset(("uri",))


class Destination(Model):
    """Where to: ``spec.http[].route[].destination``, ``mirror``, ``mirrors[].destination`` and their L4 kin."""

    host: DestinationHost
    port: DestinationPort | None = None
    subset: OptionalDnsLabel | None = None


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
    port: UInt32 | None = None
    prefix_rewrite: str | None = None
    redirect_code: UInt32 | None = None
    scheme: str | None = None
    uri: str | None = None


class HttpRetry(Model):
    """``spec.http.retries`` of VirtualService."""

    attempts: Count | None = None
    backoff: Duration | None = None
    per_try_timeout: Duration | None = None
    retry_ignore_previous_hosts: bool | None = None
    retry_on: str | None = None
    retry_remote_localities: bool | None = None


class RegexRewrite(Model):
    """``spec.http.rewrite.uriRegexRewrite`` of VirtualService."""

    match: str | None = None
    rewrite: str | None = None


class HttpRewrite(Model):
    """``spec.http.rewrite`` of VirtualService."""

    authority: str | None = None
    uri: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRouteDestination(Model):
    """``spec.http.route`` of VirtualService."""

    destination: Destination
    headers: Headers | None = None
    weight: Count | None = None
    append_request_headers: dict[str, str] | None = None
    append_response_headers: dict[str, str] | None = None
    remove_request_headers: list[str] | None = None
    remove_response_headers: list[str] | None = None


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

    def only_sends(self) -> bool:
        """Whether it does nothing but send requests to one place or several, as most do."""
        return _SENDING.issuperset(self.model_fields_set)

    def destinations(self) -> list[Destination]:
        """Of its routes and of its mirrors."""
        found = [target.destination for target in self.route or ()]
        if not self.model_fields_set.isdisjoint(_MIRRORS):
            found += [mirror.destination for mirror in self.mirrors or ()]
            found += [self.mirror] if self.mirror is not None else []
        return found


_MIRRORS = frozenset(("mirror", "mirrors"))
_SENDING = frozenset(("name", "match", "route"))


class L4MatchAttributes(Model):
    """``spec.tcp.match`` of VirtualService."""

    destination_subnets: list[str] | None = None
    gateways: list[str] | None = None
    port: OptionalPort = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None
    source_subnet: str | None = None


class RouteDestination(Model):
    """``spec.tcp.route`` of VirtualService."""

    destination: Destination
    weight: Count | None = None


class TcpRoute(Model):
    """``spec.tcp`` of VirtualService."""

    match: list[L4MatchAttributes] | None = None
    route: list[RouteDestination] | None = None


class TlsMatchAttributes(Model):
    """``spec.tls.match`` of VirtualService."""

    sni_hosts: list[str]
    destination_subnets: list[str] | None = None
    gateways: list[str] | None = None
    port: OptionalPort = None
    source_labels: dict[str, str] | None = None
    source_namespace: str | None = None


class TlsRoute(Model):
    """``spec.tls`` of VirtualService."""

    match: list[TlsMatchAttributes]
    route: list[RouteDestination] | None = None


class VirtualServiceSpec(Model):
    """``spec`` of VirtualService."""

    export_to: list[str] | None = None
    gateways: list[str] | None = None
    hosts: list[str] | None = None
    http: list[HttpRoute] | None = None
    tcp: list[TcpRoute] | None = None
    tls: list[TlsRoute] | None = None


class VirtualService(Resource):
    """Istio's VirtualService."""

    kind: Literal["VirtualService"]
    spec: VirtualServiceSpec
    status: object = None
