"""What of MeshConfig acts, and on what."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.mesh_settings import DEFAULTS, BodyInCheck, ExtAuthzProvider, MeshSettings
from meshlib.compiler.rules import DEFAULT_RETRY
from meshlib.policy.peer_metadata import FOR_THE_MESH
from meshlib.policy.retry import NO_RETRY, parse_retry_on
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_config import config_map, grpc_authorizer, http_authorizer, mesh_config
from tests.support.resources import pod, service, to, virtual_service

REVIEWS = [service("reviews"), pod("reviews", "v1", 1)]
URL = "reviews:9080"


def compiled(*resources: Any, workload: Workload | None = None) -> Any:
    result = load_objects([*REVIEWS, *resources])
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload or Workload())


def settings(*resources: Any, workload: Workload | None = None) -> MeshSettings:
    found = compiled(*resources, workload=workload).inbound.default.mesh
    assert isinstance(found, MeshSettings)
    return found


def rule(*resources: Any, host: str = URL) -> Any:
    return compiled(*resources).virtual_host(host, "http").rules[0]


def test_without_a_mesh_config_istios_defaults_count():
    assert settings() == DEFAULTS
    assert (DEFAULTS.root_namespace, DEFAULTS.trust_domain, DEFAULTS.path_normalization, DEFAULTS.allow_any) == (
        "istio-system",
        "cluster.local",
        "BASE",
        True,
    )


@pytest.mark.parametrize("written", [config_map, mesh_config])
def test_the_config_map_and_the_resource_say_the_same(written):
    found = settings(
        written(rootNamespace="mesh", trustDomain="td.example", trustDomainAliases=["b.example", "a.example"])
    )
    assert (found.root_namespace, found.trust_domain) == ("mesh", "td.example")
    assert found.trust_domain_aliases == ("a.example", "b.example")


# -- rootNamespace: whoever asks for the root namespace asks for this one


def in_root(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    group = "meshlib.dev/v1" if kind == "ResiliencePolicy" else "networking.istio.io/v1"
    version = "networking.istio.io/v1alpha3" if kind == "EnvoyFilter" else group
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "mesh"}, "spec": spec}


def test_sidecars_of_the_root_namespace_are_for_every_workload():
    everywhere = in_root("Sidecar", "default", egress=[{"hosts": ["~/*"]}])
    assert compiled(everywhere).sidecar == ""
    assert compiled(everywhere, config_map(rootNamespace="mesh")).sidecar == "Sidecar/mesh/default"


def test_destination_rules_of_the_root_namespace_are_for_every_client():
    everywhere = in_root(
        "DestinationRule", "all", host="*.local", trafficPolicy={"connectionPool": {"tcp": {"maxConnections": 7}}}
    )

    def limit(*resources: Any) -> int:
        snapshot = compiled(everywhere, *resources)
        (cluster,) = [c for c in snapshot.clusters.values() if c.host.startswith("reviews")]
        return int(cluster.limits.max_connections)

    assert limit() != 7
    assert limit(config_map(rootNamespace="mesh")) == 7


def test_envoy_filters_of_the_root_namespace_are_for_every_server():
    fault = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND"},
        "patch": {
            "operation": "MERGE",
            "value": {
                "name": "envoy.filters.http.fault",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                    "abort": {"http_status": 503, "percentage": {"numerator": 100}},
                },
            },
        },
    }
    everywhere = in_root("EnvoyFilter", "broken", configPatches=[fault])
    assert compiled(everywhere).inbound.default.faults == ()
    (found,) = compiled(everywhere, config_map(rootNamespace="mesh")).inbound.default.faults
    assert found.abort_status == 503


def test_resilience_policies_of_the_root_namespace_come_last():
    def policy(namespace: str, most: int) -> dict[str, Any]:
        host = "reviews.default.svc.cluster.local"
        made = in_root("ResiliencePolicy", "p", host=host, bulkhead={"maxConcurrent": most})
        made["metadata"]["namespace"] = namespace
        return made

    def most(*resources: Any) -> int:
        snapshot = compiled(policy("mesh", 1), policy("other", 2), *resources)
        (found,) = snapshot.resilience.values()
        return int(found.bulkhead[0])

    assert most() == 1, "by age"
    assert most(config_map(rootNamespace="mesh")) == 2


# -- trustDomain


def test_the_trust_domain_that_a_workload_names_counts_before_mesh_configs():
    mesh = config_map(trustDomain="td.example")
    assert compiled(mesh).workload.principal == "spiffe://td.example/ns/default/sa/default"
    named = Workload(trust_domain="mine.example")
    assert (
        settings(mesh, workload=named).trust_domain
        == compiled(mesh, workload=named).workload.trust_domain
        == "mine.example"
    )
    explicit = Workload(trust_domain="cluster.local")
    assert settings(mesh, workload=explicit).trust_domain == "cluster.local"
    assert settings(workload=named).trust_domain == "mine.example"


# -- pathNormalization


@pytest.mark.parametrize(
    ("written", "counts"),
    [
        ({"normalization": "NONE"}, "NONE"),
        ({"normalization": "DEFAULT"}, "BASE"),
        ({"normalization": "BASE"}, "BASE"),
        ({"normalization": "MERGE_SLASHES"}, "MERGE_SLASHES"),
        ({"normalization": "DECODE_AND_MERGE_SLASHES"}, "DECODE_AND_MERGE_SLASHES"),
        ({"normalization": 4}, "DECODE_AND_MERGE_SLASHES"),
        ({}, "BASE"),
        (None, "BASE"),
    ],
)
def test_path_normalization(written, counts):
    assert settings(config_map(pathNormalization=written)).path_normalization == counts


# -- outboundTrafficPolicy


def sidecar(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"egress": [{"hosts": ["*/*"]}], **spec},
    }


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        ({"mode": "REGISTRY_ONLY"}, False),
        ({"mode": "ALLOW_ANY"}, True),
        ({"mode": "ALLOW_ANY_DYNAMIC_DNS"}, True),
        ({}, False),
        (None, True),
    ],
)
def test_outbound_traffic_policy_is_about_hosts_that_nobody_knows(policy, passes):
    mesh = config_map(outboundTrafficPolicy=policy)
    for resources in ([mesh], [mesh, sidecar()]):
        snapshot = compiled(*resources)
        assert snapshot.allow_any is passes
        unknown = snapshot.virtual_host("nowhere.example", "http")
        assert unknown is (snapshot.passthrough if passes else snapshot.blocked)


def test_a_sidecars_own_outbound_traffic_policy_counts_before_the_meshs():
    closed = config_map(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})
    assert compiled(closed, sidecar(outboundTrafficPolicy={"mode": "ALLOW_ANY"})).allow_any
    opened = config_map(outboundTrafficPolicy={"mode": "ALLOW_ANY"})
    assert not compiled(opened, sidecar(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})).allow_any


# -- defaultHttpRetryPolicy


def test_the_default_retry_policy_is_for_routes_that_say_nothing_of_retries():
    mesh = config_map(defaultHttpRetryPolicy={"attempts": 5, "retryOn": "5xx", "perTryTimeout": "2s"})
    silent = virtual_service("reviews", {"route": [to("reviews")]})
    elaborate = virtual_service("reviews", {"route": [to("reviews")], "timeout": "3s"})
    for resources in ([], [silent], [elaborate]):
        found = rule(mesh, *resources).retry
        assert (found.attempts, found.retry_on, found.per_try_timeout) == (5, parse_retry_on("5xx"), 2.0), resources
        assert rule(*resources).retry == DEFAULT_RETRY


def test_what_a_route_says_of_retries_counts_alone():
    mesh = config_map(defaultHttpRetryPolicy={"attempts": 5, "retryOn": "5xx", "perTryTimeout": "2s"})
    own = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 1}})
    found = rule(mesh, own).retry
    assert (found.attempts, found.retry_on, found.per_try_timeout) == (
        1,
        DEFAULT_RETRY.retry_on,
        DEFAULT_RETRY.per_try_timeout,
    )
    off = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}})
    assert rule(mesh, off).retry == NO_RETRY


@pytest.mark.parametrize("policy", [{"attempts": 0}, {}])
def test_a_default_retry_policy_of_no_attempts_turns_retries_off(policy):
    mesh = config_map(defaultHttpRetryPolicy=policy)
    assert rule(mesh).retry == rule(mesh, virtual_service("reviews", {"route": [to("reviews")]})).retry == NO_RETRY


def test_hosts_outside_the_mesh_are_never_retried():
    mesh = config_map(defaultHttpRetryPolicy={"attempts": 5})
    assert rule(mesh, host="nowhere.example").retry == NO_RETRY


def test_with_a_hash_the_default_policy_returns_to_the_same_host():
    hashed = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {
            "host": "reviews",
            "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
        },
    }
    mesh = config_map(defaultHttpRetryPolicy={"attempts": 5})
    for match in ({}, {"timeout": "3s"}):
        found = rule(mesh, hashed, virtual_service("reviews", {"route": [to("reviews")], **match})).retry
        assert (found.attempts, found.ignore_previous_hosts) == (5, False)


# -- extensionProviders


def test_every_field_of_an_authorizer_over_http():
    written = http_authorizer(
        service="infra/authz.example",
        timeout="1.5s",
        failOpen=True,
        clearRouteCache=True,
        statusOnError="503",
        pathPrefix="/check",
        includeRequestHeadersInCheck=["cookie", "x-*"],
        includeAdditionalHeadersInCheck={"x-key": "k", "a": "b"},
        includeRequestBodyInCheck={"maxRequestBytes": 10, "allowPartialMessage": True, "packAsBytes": True},
        headersToUpstreamOnAllow=["x-user"],
        headersToDownstreamOnDeny=["set-cookie"],
        headersToDownstreamOnAllow=["*-id"],
    )
    assert settings(config_map(extensionProviders=[written])).providers == {
        "authz": ExtAuthzProvider(
            name="authz",
            protocol="http",
            service="authz.example",
            namespace="infra",
            port=8000,
            timeout=1.5,
            fail_open=True,
            clear_route_cache=True,
            status_on_error=503,
            path_prefix="/check",
            request_headers=("cookie", "x-*"),
            additional_headers=(("a", "b"), ("x-key", "k")),
            body=BodyInCheck(10, True, True),
            upstream_headers_on_allow=("x-user",),
            downstream_headers_on_deny=("set-cookie",),
            downstream_headers_on_allow=("*-id",),
        )
    }


def test_every_field_of_an_authorizer_over_grpc():
    body = {"maxRequestBytes": 5}
    written = grpc_authorizer(timeout="2s", failOpen=True, statusOnError="401", includeRequestBodyInCheck=body)
    assert settings(config_map(extensionProviders=[written])).providers == {
        "authz": ExtAuthzProvider(
            name="authz",
            protocol="grpc",
            service="authz.infra.svc.cluster.local",
            port=9000,
            timeout=2.0,
            fail_open=True,
            status_on_error=401,
            body=BodyInCheck(5),
        )
    }


def test_an_authorizer_refuses_by_default_when_it_cannot_be_asked():
    (found,) = settings(config_map(extensionProviders=[grpc_authorizer()])).providers.values()
    assert (found.fail_open, found.status_on_error, found.timeout, found.unusable) == (False, 403, 600.0, "")


def test_the_older_field_of_headers_counts_only_without_the_newer_one():
    old = {"includeHeadersInCheck": ["a"]}
    assert settings(config_map(extensionProviders=[http_authorizer(**old)])).providers["authz"].request_headers == (
        "a",
    )
    both = {**old, "includeRequestHeadersInCheck": ["b"]}
    assert settings(config_map(extensionProviders=[http_authorizer(**both)])).providers["authz"].request_headers == (
        "b",
    )


def test_of_two_providers_of_one_name_the_last_counts_as_in_istio():
    found = settings(config_map(extensionProviders=[http_authorizer(), grpc_authorizer()])).providers
    assert found["authz"].protocol == "grpc"


def test_a_provider_that_is_wrong_is_there_and_unusable():
    (found,) = settings(config_map(extensionProviders=[http_authorizer(port=0)])).providers.values()
    assert "port 0" in found.unusable


def test_providers_of_traces_and_logs_authorize_nothing():
    assert (
        settings(
            config_map(extensionProviders=[{"name": "logs", "envoyFileAccessLog": {"path": "/dev/null"}}])
        ).providers
        == {}
    )


def test_headers_that_are_sent_to_an_authorizer_are_not_shown():
    written = http_authorizer(includeAdditionalHeadersInCheck={"x-key": "s3cret"})
    assert "s3cret" not in repr(settings(config_map(extensionProviders=[written])))
    assert "s3cret" not in repr(load_objects([config_map(extensionProviders=[written])]).resources)


# -- what does not act is said


def test_fields_without_effect_are_named_in_a_notice():
    snapshot = compiled(
        config_map(
            enablePrometheusMerge=True,
            accessLogFile="/dev/stdout",
            ca={},
            enableAutoMtls=True,
            trustDomain="td.example",
        )
    )
    (said,) = [p.message for p in snapshot.problems if p.path == "ConfigMap/istio-system/istio"]
    assert "enablePrometheusMerge" in said
    assert "accessLogFile" not in said
    assert "ca" in said
    assert "enableAutoMtls" not in said
    assert "trustDomain" not in said


# -- reloads


def test_a_change_of_mesh_config_compiles_everything_anew():
    compiler = Compiler(Workload())

    def compile_with(*resources: Any) -> Any:
        return compiler.compile(load_objects([*REVIEWS, *resources]).resources)

    assert compile_with().allow_any
    assert not compile_with(config_map(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})).allow_any
    assert (
        compile_with(config_map(outboundTrafficPolicy={"mode": "ALLOW_ANY"}, trustDomain="a.b")).workload.trust_domain
        == "a.b"
    )
    assert compile_with().workload.trust_domain == "cluster.local"
    assert compiler.whole == 4


def test_what_is_compiled_in_part_is_compiled_under_the_same_mesh_config():
    compiler = Compiler(Workload())
    mesh = load_objects([config_map(defaultHttpRetryPolicy={"attempts": 5}, rootNamespace="mesh")]).resources
    base = load_objects(REVIEWS).resources
    compiler.compile([*base, *mesh])
    more = load_objects([service("ratings"), pod("ratings", "v1", 2)]).resources
    snapshot = compiler.compile([*base, *more, *mesh])
    assert compiler.whole == 1
    assert snapshot.virtual_host("ratings:9080", "http").rules[0].retry.attempts == 5
    assert snapshot.inbound.default.mesh.root_namespace == "mesh"


# -- meshMTLS


@pytest.mark.parametrize("written", [config_map, mesh_config])
@pytest.mark.parametrize(
    ("least", "alone"), [("TLSV1_3", True), (2, True), ("TLSV1_2", False), ("TLS_AUTO", False), (None, False)]
)
def test_the_oldest_tls_of_servers(written, least, alone):
    found = settings(written(meshMTLS={} if least is None else {"minProtocolVersion": least}))
    assert found.tls13 is alone
    assert found.facts()["meshMTLS"] == {"minProtocolVersion": "TLSV1_3" if alone else "TLSV1_2"}
    assert not settings(written(tlsDefaults={"minProtocolVersion": "TLSV1_3"})).tls13


@pytest.mark.parametrize("least", ["TLSV1_1", "1.3", 7, True])
def test_a_version_that_istio_does_not_know_is_refused(least):
    assert load_objects([mesh_config(meshMTLS={"minProtocolVersion": least})]).errors


# -- proxyHeaders.metadataExchangeHeaders: who says who he is


def exchange(mode: str | None) -> dict[str, Any]:
    return {"proxyHeaders": {"metadataExchangeHeaders": {} if mode is None else {"mode": mode}}}


def annotated(mode: str | None, name: str = "web", namespace: str = "default") -> dict[str, Any]:
    made = pod("web", "v1", 1, name=name, namespace=namespace)
    made["metadata"]["annotations"] = {"proxy.istio.io/config": yaml.safe_dump(exchange(mode))}
    return made


@pytest.mark.parametrize(
    ("defaults", "own", "wanted"),
    [
        (None, None, False),
        ("IN_MESH", None, True),
        ("UNDEFINED", None, False),
        (None, "IN_MESH", True),
        ("IN_MESH", "UNDEFINED", False),
        ("UNDEFINED", "IN_MESH", True),
    ],
)
def test_metadata_is_exchanged_where_in_mesh_is_said_nearest_to_the_workload(defaults, own, wanted):
    resources = [mesh_config(defaultConfig=exchange(defaults)), *([annotated(own)] if own is not None else [])]
    found = settings(*resources, workload=Workload("web"))
    assert (found.peer_metadata is not None) is wanted
    assert found.facts()["metadataExchangeHeaders"] == ("IN_MESH" if wanted else "UNDEFINED")


def test_another_workloads_annotation_says_nothing():
    others = (annotated("IN_MESH", "other"), annotated("IN_MESH", namespace="elsewhere"))
    assert settings(*others, workload=Workload("web")).peer_metadata is None


def test_a_mode_that_does_not_exist_is_refused():
    result = load_objects([mesh_config(defaultConfig=exchange("ALWAYS"))])
    assert [problem.path.rpartition(" ")[2] for problem in result.errors] == [
        "spec.defaultConfig.proxyHeaders.metadataExchangeHeaders.mode"
    ]


def operations(compiled_one: Any) -> tuple[bool, bool]:
    (destination,) = compiled_one.virtual_host(URL, "http").rules[0].destinations
    return bool(destination.request_ops), destination.response_ops == (FOR_THE_MESH,)


def test_a_change_of_something_else_leaves_the_exchange_as_it_is():
    compiler = Compiler(Workload("web"))
    rule = virtual_service("reviews", {"route": [to("reviews")]})
    loaded = load_objects([*REVIEWS, mesh_config(defaultConfig=exchange("IN_MESH")), rule]).resources
    assert operations(compiler.compile(loaded)) == (True, True)
    after = [
        *loaded[:-1],
        *load_objects([virtual_service("reviews", {"route": [to("reviews")], "timeout": "1s"})]).resources,
    ]
    assert operations(compiler.compile(after)) == (True, True)
    assert compiler.whole == 1
    without = [resource for resource in after if resource.kind != "MeshConfig"]
    assert operations(compiler.compile(without)) == (False, False)
