"""What Istio refuses, or warns of, in a MeshConfig whose types are right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import is_ip
from meshlib.resources.validation.headers import is_header_name
from meshlib.resources.validation.hosts import domain_problem, is_dns_label, wildcard_domain_problem
from meshlib.resources.validation.http_settings import retries
from meshlib.resources.validation.locality import locality_setting, zone_aware_setting

if TYPE_CHECKING:
    from meshlib.resources.mesh_config import (
        ConfigMap,
        EnvoyExtAuthz,
        EnvoyExtAuthzHttp,
        ExtensionProvider,
        MeshConfig,
        MeshConfigSpec,
    )

_PLACES: dict[str, Loc] = {"MeshConfig": ("spec",), "ConfigMap": ("data", "mesh")}
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PATH = re.compile(r"/(?:[^\x00-\x20\x7f%]|%[0-9A-Fa-f]{2})*")
STATUSES = frozenset(
    (
        *(100, 226, 307, 308, 426, 428, 429, 431, 510, 511),
        *(*range(200, 209), *range(300, 306), *range(400, 418), *range(421, 425), *range(500, 509)),
    )
)
"""HTTP statuses that Envoy sends of itself."""
_HEADER_LISTS = (
    "includeHeadersInCheck",
    "includeRequestHeadersInCheck",
    "headersToUpstreamOnAllow",
    "headersToDownstreamOnDeny",
    "headersToDownstreamOnAllow",
)


def refusals(resource: MeshConfig | ConfigMap) -> Iterator[Notice]:
    """Errors that keep istiod from taking a MeshConfig at all."""
    spec, here = resource.spec, _PLACES[resource.kind]
    if spec.root_namespace is not None and not is_dns_label(spec.root_namespace):
        yield refused(
            "bad-name",
            (*here, "rootNamespace"),
            f"{spec.root_namespace!r} is not the name of a namespace",
            "leave it out for istio-system",
        )
    domains = [(spec.trust_domain, (*here, "trustDomain"))] if spec.trust_domain is not None else []
    domains += [(d, (*here, "trustDomainAliases", i)) for i, d in enumerate(spec.trust_domain_aliases or ())]
    for domain, loc in domains:
        if problem := trust_domain_problem(domain):
            yield refused(
                "bad-trust-domain", loc, f"{domain!r} is not a trust domain: {problem}", "for example cluster.local"
            )
    if spec.default_http_retry_policy is not None:
        yield from retries(spec.default_http_retry_policy, (*here, "defaultHttpRetryPolicy"))
    if spec.default_inbound_http_retry_policy is not None:
        yield from retries(spec.default_inbound_http_retry_policy, (*here, "defaultInboundHttpRetryPolicy"))
    yield from _of_proxies(spec, here)
    for index, provider in enumerate(spec.extension_providers or ()):
        if len(provider.kinds) > 1:
            yield refused(
                "several-kinds",
                (*here, "extensionProviders", index),
                f"a provider is of one kind, found {', '.join(provider.kinds)}",
                "make a provider with a name of its own of each",
            )


def _of_proxies(spec: MeshConfigSpec, here: Loc) -> Iterator[Notice]:
    """Of fields that nothing here acts on: istiod takes no MeshConfig with such a mistake."""
    if spec.proxy_listen_port is not None and not 1 <= spec.proxy_listen_port <= 65535:
        yield refused("bad-port", (*here, "proxyListenPort"), "the port is outside 1..65535", "leave it out for 15001")
    for field, seconds, longest in (
        ("connectTimeout", spec.connect_timeout, 3600.0),
        ("protocolDetectionTimeout", spec.protocol_detection_timeout or None, None),
    ):
        if seconds is None:
            continue
        if round(seconds * 1000, 6) % 1:
            yield refused("duration-precision", (*here, field), f"{seconds}s is not a whole number of milliseconds")
        elif longest is not None and not 0.001 <= seconds <= longest:
            yield refused("out-of-range", (*here, field), f"{seconds:g}s is outside 1ms..1h", "for example 10s")
        elif longest is None and seconds < 0:
            yield refused(
                "negative", (*here, field), f"{seconds:g}s is negative: Envoy refuses it", "0s: wait without end"
            )
    yield from locality_setting(spec.locality_lb_setting, (*here, "localityLbSetting"))
    yield from zone_aware_setting(spec.zone_aware_lb_setting, (*here, "zoneAwareLbSetting"))
    for index, settings in enumerate(spec.service_settings or ()):
        for position, host in enumerate(settings.hosts or ()):
            if problem := wildcard_domain_problem(host):
                loc = (*here, "serviceSettings", index, "hosts", position)
                yield refused("bad-host", loc, f"{host!r} is not a host name: {problem}", "for example *.example.com")
    if spec.mesh_mtls is not None and spec.mesh_mtls.ecdh_curves:
        yield refused(
            "bad-ecdh-curves", (*here, "meshMTLS", "ecdhCurves"), "curves are for tlsDefaults", "leave it out"
        )


def trust_domain_problem(domain: str) -> str:
    """Why a text is not a trust domain to Istio, "" when it is one: DNS labels, of which the last may be empty."""
    labels = domain.split(".")
    if labels[-1] == "" and len(labels) > 1:
        labels.pop()
    wrong = [label for label in labels if not is_dns_label(label)]
    return f"{wrong[0]!r} is not a DNS label" if wrong else ""


def warnings(resource: MeshConfig | ConfigMap) -> Iterator[Notice]:
    """Providers that istiod does not use, and trust domains that no certificate can have."""
    spec, here = resource.spec, _PLACES[resource.kind]
    yield from _upper_case(spec, here)
    named: set[str] = set()
    for index, provider in enumerate(spec.extension_providers or ()):
        loc = (*here, "extensionProviders", index)
        if provider.name and provider.name in named:
            yield warned(
                "provider-twice", (*loc, "name"), f"{provider.name} is there twice: the last one counts", "rename one"
            )
        named.add(provider.name or "")
        for notice in provider_problems(provider):
            yield warned(notice.code, (*loc, *notice.loc), notice.message, notice.hint)


def _upper_case(spec: MeshConfigSpec, here: Loc) -> Iterator[Notice]:
    for field, domains in (
        ("trustDomain", [spec.trust_domain]),
        ("trustDomainAliases", spec.trust_domain_aliases or ()),
    ):
        for domain in domains:
            if domain and domain != domain.lower():
                yield warned(
                    "upper-case-trust-domain",
                    (*here, field),
                    f"no certificate is of {domain}: trust domains of SPIFFE ids are in lower case",
                    f"write {domain.lower()}",
                )


UNUSABLE = "AuthorizationPolicies with action CUSTOM that name it refuse every request that they are for"


def provider_problems(provider: ExtensionProvider) -> Iterator[Notice]:
    """Why a provider cannot be used, each at its field below it. istiod takes the rest of the MeshConfig nevertheless."""
    authorizer = provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
    if authorizer is None:
        if not provider.kinds:
            yield warned("no-kind", (), "the provider is of no kind", "for example envoyExtAuthzGrpc")
        if not provider.name:
            yield warned("missing-name", ("name",), "the provider has no name", "nothing can refer to it")
        return
    if not _NAME.fullmatch(provider.name or ""):
        yield warned(
            "bad-name",
            ("name",),
            f"{provider.name or ''!r} is not the name of a provider: lower-case letters, digits and inner dashes, at most 63",
            UNUSABLE,
        )
    http = provider.envoy_ext_authz_http
    kind = "envoyExtAuthzHttp" if http is not None else "envoyExtAuthzGrpc"
    for notice in (*_authorizer(authorizer), *(_http(http) if http is not None else ())):
        yield warned("bad-provider", (kind, *notice.loc), notice.message, UNUSABLE)


def _authorizer(settings: EnvoyExtAuthz) -> Iterator[Notice]:
    if problem := _service_problem(settings.service or ""):
        yield warned("", ("service",), f"{settings.service or ''!r} is not a service: {problem}")
    if not 1 <= (settings.port or 0) <= 65535:
        yield warned("", ("port",), f"port {settings.port or 0} is outside 1..65535")
    status = settings.status_on_error
    if status and not (status.isascii() and status.isdigit() and len(status) == 3 and int(status) in STATUSES):
        yield warned("", ("statusOnError",), f"{status!r} is not an HTTP status that Envoy sends")
    if settings.timeout is not None and settings.timeout < 0:
        yield warned("", ("timeout",), "the timeout is negative")
    body = settings.include_request_body_in_check
    if body is not None and not body.max_request_bytes:
        loc = ("includeRequestBodyInCheck", "maxRequestBytes")
        yield warned("", loc, "the number of bytes to show is missing or 0")


def _http(settings: EnvoyExtAuthzHttp) -> Iterator[Notice]:
    prefix = settings.path_prefix
    if prefix and not _PATH.fullmatch(prefix):
        yield warned("", ("pathPrefix",), f"{prefix!r} is not a path that begins with /")
    lists: tuple[Sequence[str] | None, ...] = (
        settings.include_headers_in_check,
        settings.include_request_headers_in_check,
        settings.headers_to_upstream_on_allow,
        settings.headers_to_downstream_on_deny,
        settings.headers_to_downstream_on_allow,
    )
    for field, values in zip(_HEADER_LISTS, lists, strict=True):
        for index, value in enumerate(values or ()):
            if value in ("", "*"):
                yield warned("", (field, index), f"{value!r} names no headers: write prefix* or *suffix")
            elif not _is_pattern(value.removeprefix("*").removesuffix("*")):
                yield warned("", (field, index), f"{value!r} is not the name of a header")
    for name in settings.include_additional_headers_in_check or ():
        if not is_header_name(name):
            yield warned("", ("includeAdditionalHeadersInCheck", name), f"{name!r} is not the name of a header")


def _is_pattern(name: str) -> bool:
    """A pseudo header, too, or the colon that all of them begin with, as Istio has it: requests tell them by themselves."""
    return name == ":" or is_header_name(name.removeprefix(":"))


def _service_problem(service: str) -> str:
    """``host``, an address, or ``namespace/host``."""
    namespace, slash, host = service.rpartition("/")
    if slash and not is_dns_label(namespace):
        return f"{namespace!r} is not the name of a namespace"
    if not slash and is_ip(host):
        return ""
    return domain_problem(host)
