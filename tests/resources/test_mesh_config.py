"""MeshConfig: its fields are Istio's."""

from __future__ import annotations

from typing import Any

from meshlib.problems import Problem, Severity
from meshlib.resources.kinds import all_models
from meshlib.resources.loader import load_objects
from meshlib.resources.mesh_config import MeshConfigSpec
from tests.support.mesh_config import config_map, http_authorizer, mesh_config


def problems(written: Any) -> list[Problem]:
    return load_objects([written]).problems


ISTIOS_FIELDS = [
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "connectTimeout",
    "defaultConfig",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultInboundHttpRetryPolicy",
    "defaultProviders",
    "defaultServiceExportTo",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "h2UpgradePolicy",
    "hboneIdleTimeout",
    "inboundClusterStatName",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "meshMTLS",
    "outboundClusterStatName",
    "outboundTrafficPolicy",
    "pathNormalization",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "rootNamespace",
    "serviceEntryVisibility",
    "serviceScopeConfigs",
    "serviceSettings",
    "tcpKeepalive",
    "tlsDefaults",
    "trustDomain",
    "trustDomainAliases",
    "verifyCertificateAtClient",
    "zoneAwareLbSetting",
]


def test_its_fields_are_istios():
    assert sorted(info.alias or name for name, info in MeshConfigSpec.model_fields.items()) == ISTIOS_FIELDS
    assert all_models()["MeshConfig"].model_fields["spec"].annotation is MeshConfigSpec


def test_an_unknown_field_is_an_error_in_the_resource_and_a_warning_in_the_text_that_istiod_reads():
    (found,) = problems(mesh_config(trustDomian="x"))
    assert (found.code, found.severity, found.hint) == ("unknown-field", Severity.ERROR, "did you mean trustDomain?")
    result = load_objects([config_map(trustDomian="x", mixerCheckServer="", trustDomain="td")])
    assert [(p.code, p.severity) for p in result.problems] == [("unknown-field", Severity.WARNING)] * 2
    assert result.resources[0].spec.trust_domain == "td"


def test_numbers_in_quotes_and_snake_case_are_as_good_to_protobuf():
    result = load_objects([config_map(trust_domain="td", extension_providers=[http_authorizer(port="8000")])])
    assert not result.problems
    (found,) = result.resources
    assert (found.spec.trust_domain, found.spec.extension_providers[0].envoy_ext_authz_http.port) == ("td", 8000)


def test_access_tokens_of_providers_are_never_shown():
    providers = [{"name": "a", kind: {"accessToken": "s3cret"}} for kind in ("lightstep", "skywalking")]
    result = load_objects([mesh_config(extensionProviders=providers)])
    assert result.resources
    assert "s3cret" not in repr(result)
