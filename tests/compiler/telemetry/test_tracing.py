"""``tracing`` of Telemetry: the situations of istiod's own tests, and their results."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.telemetry.tracing import LONGEST_PATH
from meshlib.policy.telemetry_settings import Provider, TracingSettings
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import in_root, providers, telemetry, told

EXPORTERS = [
    {"name": "zipkin", "zipkin": {"service": "zipkin.tracing.svc", "port": 9411}},
    {"name": "otel", "opentelemetry": {"service": "otel.tracing.svc", "port": 4317, "maxTagLength": 99}},
]
CONFIG = mesh_config(extensionProviders=EXPORTERS)
ZIPKIN, OTEL = Provider("zipkin", "zipkin"), Provider("otel", "opentelemetry")


def tracing(by: str = "", **entry: Any) -> dict[str, Any]:
    return {"tracing": [{**({"providers": providers(by)} if by else {}), **entry}]}


def by_default(name: str) -> dict[str, Any]:
    return mesh_config(extensionProviders=EXPORTERS, defaultProviders={"tracing": [name]})


def client(*resources: dict[str, Any]) -> TracingSettings:
    return told(*resources).client.tracing


def literals(**tags: str) -> dict[str, Any]:
    return {"customTags": {name: {"literal": {"value": value}} for name, value in tags.items()}}


def test_a_default_provider_that_a_telemetry_replaces():
    assert client(by_default("zipkin")).provider == ZIPKIN
    assert client(by_default("otel"), in_root(**tracing("zipkin"))).provider == ZIPKIN


def test_the_nearest_provider_counts():
    assert client(CONFIG, in_root(**tracing("zipkin")), telemetry(**tracing("otel"))).provider == OTEL
    assert client(CONFIG, in_root(**tracing("zipkin")), telemetry(tracing=[{}])).provider == ZIPKIN


def test_of_several_providers_the_first_counts():
    entry = {"providers": providers("otel", "zipkin")}
    assert client(CONFIG, telemetry(tracing=[entry])).provider == OTEL


def test_spans_are_switched_off():
    off = telemetry(**tracing(disableSpanReporting=True))
    found = client(CONFIG, in_root(**tracing("zipkin")), off)
    assert (found.provider, found.disabled) == (ZIPKIN, True)
    assert client(by_default("zipkin"), off).disabled
    assert not client(
        in_root(**tracing(disableSpanReporting=True)), telemetry(**tracing(disableSpanReporting=False))
    ).disabled


def test_a_provider_that_is_not_there_or_makes_no_spans_switches_them_off():
    for name in ("nobody", "prometheus", "stackdriver"):
        found = client(by_default("zipkin"), telemetry(**tracing(name)))
        assert (found.provider, found.disabled) == (None, True)


def test_without_a_mesh_config_nobody_knows_the_providers_and_spans_go_on():
    assert not client(telemetry(**tracing("zipkin"))).disabled
    assert not client(telemetry(**tracing())).disabled


A = tracing(
    randomSamplingPercentage=50.0,
    useRequestIdForTraceSampling=False,
    enableIstioTags=False,
    **literals(foo="1", bar="2"),
)
B = tracing(
    randomSamplingPercentage=80.0,
    useRequestIdForTraceSampling=True,
    enableIstioTags=True,
    **literals(foo="3", baz="4"),
)


def test_every_field_is_inherited_by_itself_and_tags_are_replaced_as_a_whole():
    found = client(by_default("zipkin"), in_root(**A))
    assert (found.sampling, found.use_request_id, found.istio_tags) == (50.0, False, False)
    assert [(tag.name, tag.value) for tag in found.custom_tags] == [("bar", "2"), ("foo", "1")]
    found = client(by_default("zipkin"), in_root(**A), telemetry(**B))
    assert (found.sampling, found.use_request_id, found.istio_tags) == (80.0, True, True)
    assert [(tag.name, tag.value) for tag in found.custom_tags] == [("baz", "4"), ("foo", "3")]
    found = client(by_default("zipkin"), in_root(**A), telemetry(**tracing(disableSpanReporting=True)))
    assert (found.sampling, found.istio_tags, len(found.custom_tags), found.disabled) == (50.0, False, 2, True)


def test_one_direction_alone():
    found = told(
        CONFIG,
        in_root(**tracing("zipkin")),
        telemetry(**tracing("otel", match={"mode": "CLIENT"}, randomSamplingPercentage=99.9)),
    )
    assert (found.client.tracing.provider, found.client.tracing.sampling) == (OTEL, 99.9)
    assert (found.server.tracing.provider, found.server.tracing.sampling) == (ZIPKIN, None)
    off = told(CONFIG, telemetry(**tracing("zipkin", match={"mode": "SERVER"}, disableSpanReporting=True)))
    assert (off.client.tracing.disabled, off.server.tracing.disabled) == (False, True)


def test_context_is_not_propagated_where_that_is_said():
    assert client(telemetry(**tracing())).propagates
    assert not client(telemetry(**tracing(disableContextPropagation=True))).propagates


def test_zero_percent_is_a_percentage():
    assert client(telemetry(**tracing(randomSamplingPercentage=0))).sampling == 0


def test_enable_tracing_counts_where_neither_a_telemetry_nor_a_default_provider_does():
    off = {"enableTracing": False, "extensionProviders": EXPORTERS}
    assert client(mesh_config(**off)).disabled
    assert not client(mesh_config(enableTracing=True)).disabled
    assert not client(mesh_config(**off), telemetry(**tracing("zipkin"))).disabled
    assert not client(mesh_config(**off, defaultProviders={"tracing": ["zipkin"]})).disabled


def test_the_length_of_paths_is_the_providers_else_the_proxies():
    def config(**more):
        return mesh_config(extensionProviders=EXPORTERS, **more)

    proxies = {"defaultConfig": {"tracing": {"maxPathTagLength": 77}}}
    assert client(telemetry(**tracing())).max_tag_length == LONGEST_PATH
    assert client(config(**proxies), telemetry(**tracing("otel"))).max_tag_length == 99  # maxTagLength
    assert client(config(**proxies), telemetry(**tracing("zipkin"))).max_tag_length == 77


def test_a_provider_with_a_sampler_of_its_own_decides_without_a_percentage():
    sampler = {"name": "dt", "opentelemetry": {"service": "x", "port": 1, "dynatraceSampler": {"tenant": "t"}}}
    found = client(mesh_config(extensionProviders=[sampler]), telemetry(**tracing("dt", randomSamplingPercentage=5)))
    assert found.sampling is None
