"""The providers that may be named: those of Istio and of MeshConfig."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.telemetry.providers import LOGS, METRICS, SPANS, Providers, providers_of, where
from meshlib.resources.loader import load_objects, load_text
from tests.support.mesh_config import config_map, mesh_config


def of(**spec: Any) -> Providers:
    (config,) = load_objects([mesh_config(**spec)]).resources
    return providers_of(config)  # type: ignore[arg-type]


def kind(providers: Providers, name: str) -> str:
    found = providers.find(name)
    return "" if found is None else found.kind


def test_istio_brings_three_along():
    found = providers_of(None)
    assert [kind(found, name) for name in ("prometheus", "stackdriver", "envoy")] == [
        "prometheus",
        "stackdriver",
        "envoyFileAccessLog",
    ]
    assert (found.names(METRICS), found.names(SPANS), found.names(LOGS)) == (["prometheus"], [], ["envoy"])


def test_names_are_found_in_any_case():
    found = of(extensionProviders=[{"name": "Zipkin", "zipkin": {"service": "z", "port": 1}}])
    assert kind(found, "zIPKIN") == "zipkin"
    assert kind(found, "zipkin2") == ""


def test_one_of_mesh_config_replaces_one_that_istio_brings():
    found = of(extensionProviders=[{"name": "envoy", "envoyFileAccessLog": {"path": "/mine"}}])
    envoy = found.find("envoy")
    assert envoy is not None
    assert envoy.file_log is not None
    assert envoy.file_log.path == "/mine"


def test_of_two_with_one_name_the_last_counts():
    twice = [{"name": "a", "prometheus": {}}, {"name": "a", "opentelemetry": {"service": "o", "port": 1}}]
    assert kind(of(extensionProviders=twice), "a") == "opentelemetry"


def test_a_provider_without_a_name_or_a_kind_is_none_that_can_be_used():
    found = of(extensionProviders=[{"prometheus": {}}, {"name": "b"}])
    assert kind(found, "b") == ""
    assert found.find("") is None


def test_defaults_are_prometheus_for_metrics_and_nothing_else():
    assert (of().metrics, of().tracing, of().logs) == (("prometheus",), (), ())
    found = of(defaultProviders={"metrics": ["a"], "tracing": ["b"], "accessLogging": ["c"]})
    assert (found.metrics, found.tracing, found.logs) == (("a",), ("b",), ("c",))


def test_settings_say_where_they_stand():
    text = """
apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {name: m}
spec:
  accessLogFile: /dev/stdout
"""
    (config,) = load_text(text, "mesh.yaml").resources
    assert where(config, ("spec", "accessLogFile")) == "mesh.yaml:6:3"


def test_what_the_config_map_says_of_exporters_is_not_shown():
    secret = {"name": "o", "opentelemetry": {"service": "o", "port": 1, "http": {"headers": [{"value": "s3cret"}]}}}
    result = load_objects([config_map(extensionProviders=[secret])])
    assert not result.errors
    assert "s3cret" not in repr(result.resources)
