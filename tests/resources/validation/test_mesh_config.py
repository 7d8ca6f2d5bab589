"""What Istio refuses, or warns of, in a MeshConfig, at its field."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.problems import Problem, Severity
from meshlib.resources.loader import load_objects
from tests.support.mesh_config import config_map, grpc_authorizer, http_authorizer, mesh_config

WRITTEN = {"spec": mesh_config, "data.mesh": config_map}


def problems(written: Any) -> list[Problem]:
    return load_objects([written]).problems


@pytest.mark.parametrize("where", WRITTEN)
@pytest.mark.parametrize(
    ("mesh", "field", "code"),
    [
        ({"trustDomain": ""}, "trustDomain", "bad-trust-domain"),
        ({"trustDomain": "a_b"}, "trustDomain", "bad-trust-domain"),
        ({"trustDomain": "*.example"}, "trustDomain", "bad-trust-domain"),
        ({"trustDomainAliases": ["a.b", "a..b"]}, "trustDomainAliases[1]", "bad-trust-domain"),
        ({"rootNamespace": "a.b"}, "rootNamespace", "bad-name"),
        ({"rootNamespace": ""}, "rootNamespace", "bad-name"),
        ({"rootNamespace": ["a"]}, "rootNamespace", "wrong-type"),
        ({"pathNormalization": {"normalization": "MERGE"}}, "pathNormalization.normalization", "bad-enum"),
        ({"outboundTrafficPolicy": {"mode": "SOME"}}, "outboundTrafficPolicy.mode", "bad-enum"),
        (
            {"defaultHttpRetryPolicy": {"attempts": 2, "retryOn": "6xx"}},
            "defaultHttpRetryPolicy.retryOn",
            "bad-retry-on",
        ),
        (
            {"defaultHttpRetryPolicy": {"attempts": 0, "perTryTimeout": "2s"}},
            "defaultHttpRetryPolicy.perTryTimeout",
            "retries-off-and-on",
        ),
        ({"defaultHttpRetryPolicy": {"attempts": -1}}, "defaultHttpRetryPolicy.attempts", "negative"),
        (
            {"defaultInboundHttpRetryPolicy": {"attempts": 1, "retryOn": "x"}},
            "defaultInboundHttpRetryPolicy.retryOn",
            "bad-retry-on",
        ),
        ({"proxyListenPort": 0}, "proxyListenPort", "bad-port"),
        ({"connectTimeout": "0s"}, "connectTimeout", "out-of-range"),
        ({"connectTimeout": "2h"}, "connectTimeout", "out-of-range"),
        ({"connectTimeout": "1.0005s"}, "connectTimeout", "duration-precision"),
        ({"protocolDetectionTimeout": "10us"}, "protocolDetectionTimeout", "duration-precision"),
        ({"protocolDetectionTimeout": "-5s"}, "protocolDetectionTimeout", "negative"),
        ({"protocolDetectionTimeout": "5"}, "protocolDetectionTimeout", "bad-duration"),
        ({"serviceSettings": [{"hosts": ["a", "a.*"]}]}, "serviceSettings[0].hosts[1]", "bad-host"),
        ({"meshMTLS": {"ecdhCurves": ["P-256"]}}, "meshMTLS.ecdhCurves", "bad-ecdh-curves"),
        (
            {"localityLbSetting": {"distribute": [{"from": "a/*", "to": {"b/*": 50}}]}},
            "localityLbSetting.distribute[0].to",
            "locality-weights",
        ),
        (
            {"extensionProviders": [{**http_authorizer(), **grpc_authorizer()}]},
            "extensionProviders[0]",
            "several-kinds",
        ),
        (
            {"extensionProviders": [http_authorizer(failOpen="yes")]},
            "extensionProviders[0].envoyExtAuthzHttp.failOpen",
            "wrong-type",
        ),
    ],
)
def test_what_keeps_istiod_from_taking_a_mesh_config_is_an_error(where, mesh, field, code):
    (found,) = problems(WRITTEN[where](**mesh))
    assert (found.code, found.severity) == (code, Severity.ERROR)
    assert found.path.endswith(f"{where}.{field}")


def test_what_clusters_have_in_their_config_map():
    """The fields of an installation by Helm, and more that people set."""
    mesh = {
        "defaultConfig": {
            "discoveryAddress": "istiod.istio-system.svc:15012",
            "tracing": {},
            "proxyMetadata": {"A": "b"},
            "connectionSettings": {"connectionBufferLimits": {}},
        },
        "defaultProviders": {"metrics": ["prometheus"]},
        "enablePrometheusMerge": True,
        "rootNamespace": "istio-system",
        "trustDomain": "cluster.local",
        "connectTimeout": "10s",
        "protocolDetectionTimeout": "0s",
        "accessLogFile": "/dev/stdout",
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
        "localityLbSetting": {"enabled": True},
        "serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.local"]}],
        "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
        "caCertificates": [{"pem": "x"}],
        "discoverySelectors": [{"matchLabels": {"istio-discovery": "enabled"}}],
        "extensionProviders": [{"name": "otel", "opentelemetry": {"service": "otel.infra", "port": 4317}}],
    }
    assert problems(config_map(**mesh)) == []
    assert problems(mesh_config(**mesh)) == []


def test_trust_domains_that_istio_takes():
    for domain in ("cluster.local", "cluster.local.", "td", "a-b.c"):
        assert problems(mesh_config(trustDomain=domain, trustDomainAliases=[domain])) == []


HTTP, GRPC = "envoyExtAuthzHttp", "envoyExtAuthzGrpc"


@pytest.mark.parametrize("where", WRITTEN)
@pytest.mark.parametrize(
    ("provider", "field", "said"),
    [
        (http_authorizer(service=""), f"{HTTP}.service", "is not a service"),
        (http_authorizer(service="not/a/service"), f"{HTTP}.service", "is not a service"),
        (grpc_authorizer(service="*.example"), f"{GRPC}.service", "is not a service"),
        (grpc_authorizer(service="*/a.example"), f"{GRPC}.service", "is not a service"),
        (http_authorizer(port=0), f"{HTTP}.port", "outside 1..65535"),
        (grpc_authorizer(port=65536), f"{GRPC}.port", "outside 1..65535"),
        (http_authorizer(statusOnError="999"), f"{HTTP}.statusOnError", "not an HTTP status"),
        (grpc_authorizer(statusOnError="forbidden"), f"{GRPC}.statusOnError", "not an HTTP status"),
        (http_authorizer(timeout="-1s"), f"{HTTP}.timeout", "negative"),
        (http_authorizer(pathPrefix="check"), f"{HTTP}.pathPrefix", "begins with /"),
        (http_authorizer(pathPrefix="/%zz"), f"{HTTP}.pathPrefix", "begins with /"),
        (
            http_authorizer(includeRequestHeadersInCheck=["a", "*"]),
            f"{HTTP}.includeRequestHeadersInCheck[1]",
            "names no",
        ),
        (http_authorizer(includeHeadersInCheck=["*"]), f"{HTTP}.includeHeadersInCheck[0]", "names no"),
        (http_authorizer(headersToUpstreamOnAllow=["*"]), f"{HTTP}.headersToUpstreamOnAllow[0]", "names no"),
        (http_authorizer(headersToDownstreamOnDeny=[""]), f"{HTTP}.headersToDownstreamOnDeny[0]", "names no"),
        (http_authorizer(headersToDownstreamOnAllow=["*"]), f"{HTTP}.headersToDownstreamOnAllow[0]", "names no"),
        (
            grpc_authorizer(includeRequestBodyInCheck={"packAsBytes": True}),
            f"{GRPC}.includeRequestBodyInCheck.maxRequestBytes",
            "missing or 0",
        ),
        (http_authorizer(name="Authz"), "name", "is not the name of a provider"),
        (http_authorizer(name="a" * 64), "name", "is not the name of a provider"),
        ({"name": "nothing"}, "", "of no kind"),
    ],
)
def test_a_provider_that_istiod_would_not_use_is_a_warning(where, provider, field, said):
    (found,) = problems(WRITTEN[where](extensionProviders=[provider]))
    assert found.severity is Severity.WARNING
    assert said in found.message
    assert found.path.endswith(f"{where}.extensionProviders[0]{'.' if field else ''}{field}")


@pytest.mark.parametrize(
    "settings",
    [
        {"service": "authz"},
        {"service": "10.0.0.1"},
        {"service": "2001:db8::1"},
        {"service": "infra/authz.example.com"},
        {"statusOnError": "503"},
        {"pathPrefix": "/a/%20b"},
        {"timeout": "0s"},
        {"includeRequestHeadersInCheck": ["x-*", "*-id", "cookie"]},
        {"includeRequestBodyInCheck": {"maxRequestBytes": 1}},
    ],
)
def test_providers_that_istiod_uses(settings):
    assert problems(mesh_config(extensionProviders=[http_authorizer(**settings)])) == []


def test_a_name_that_is_there_twice_is_a_warning():
    (found,) = problems(mesh_config(extensionProviders=[http_authorizer(), grpc_authorizer()]))
    assert (found.code, found.severity) == ("provider-twice", Severity.WARNING)


def test_a_trust_domain_that_no_certificate_can_have_is_a_warning():
    (found,) = problems(mesh_config(trustDomain="TD.example"))
    assert (found.code, found.hint) == ("upper-case-trust-domain", "write td.example")
