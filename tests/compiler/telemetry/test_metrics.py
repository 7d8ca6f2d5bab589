"""``metrics`` of Telemetry: the situations of istiod's own tests, and their results."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.telemetry.metrics import MODES
from meshlib.policy.telemetry_settings import METRICS, MetricOverride, MetricSettings, TagOverride
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import in_root, providers, telemetry, told

ALL = MetricSettings()
OFF = MetricSettings(disabled=True)


def metric(*overrides: dict[str, Any], by: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"overrides": list(overrides)} if overrides else {}
    return {"metrics": [{**found, **({"providers": providers(*by)} if by is not None else {})}]}


def override(name: str = "", mode: str = "", **rest: Any) -> dict[str, Any]:
    match = {**({"metric": name} if name else {}), **({"mode": mode} if mode else {})}
    return {**({"match": match} if match else {}), **rest}


def tags(**values: str | None) -> dict[str, Any]:
    """None: removed."""
    return {
        "tagOverrides": {
            name: {"operation": "REMOVE"} if value is None else {"operation": "UPSERT", "value": value}
            for name, value in values.items()
        }
    }


def client(*resources: dict[str, Any]) -> MetricSettings:
    return told(*resources).client.metrics


def removed(name: str) -> TagOverride:
    return TagOverride(name, "")


DISABLED = in_root(**metric(override("ALL_METRICS", disabled=True), by=["prometheus"]))
CHANGED = metric(override("REQUEST_COUNT", **tags(source_app=None, add="'bar'")), by=["prometheus"])
AS_CHANGED = MetricSettings(
    overrides={"requests_total": MetricOverride(tags=(TagOverride("add", "'bar'"), removed("source_app")))}
)


def test_all_are_recorded_where_nothing_is_said():
    assert client() == ALL


@pytest.mark.parametrize("all_of_them", [override("ALL_METRICS", disabled=True), override(disabled=True)])
def test_all_can_be_switched_off(all_of_them):
    assert client(in_root(**metric(all_of_them, by=["prometheus"]))) == OFF


def test_what_is_off_stays_off_where_a_nearer_one_only_names_the_provider():
    assert client(DISABLED, telemetry(**metric(by=["prometheus"]))) == OFF


def test_an_override_nearer_by_switches_them_on_again():
    assert client(DISABLED, telemetry(**metric(override("ALL_METRICS"), by=["prometheus"]))) == ALL
    assert client(DISABLED, telemetry(**CHANGED)) == AS_CHANGED


def test_overrides_of_one_metric():
    assert client(in_root(**CHANGED)) == AS_CHANGED
    assert client(telemetry(**metric(override("REQUEST_COUNT", **tags(source_app=None, add="'bar'"))))) == AS_CHANGED


def test_overrides_of_all_metrics():
    found = client(in_root(**metric(override(**tags(source_app=None)))))
    assert found.overrides == {name: MetricOverride(tags=(removed("source_app"),)) for name in METRICS.values()}


def test_later_overrides_win_metric_by_metric_and_tag_by_tag():
    everything, one = override(**tags(source_app=None, add="'bar'")), override("REQUEST_COUNT", **tags(add="'other'"))
    before = client(in_root(**metric(everything, one)))
    assert before.of("requests_total").tags == (TagOverride("add", "'other'"), removed("source_app"))
    assert before.of("request_bytes").tags == (TagOverride("add", "'bar'"), removed("source_app"))
    after = client(in_root(**metric(one, everything)))
    assert after.of("requests_total").tags == (TagOverride("add", "'bar'"), removed("source_app"))


def test_a_nearer_telemetry_adds_to_a_wider_one_and_has_the_last_word():
    wider = in_root(**metric(override("REQUEST_COUNT", disabled=True), override("REQUEST_SIZE", **tags(reporter=None))))
    nearer = telemetry(**metric(override("REQUEST_COUNT", disabled=False)))
    found = client(wider, nearer)
    assert found.records("requests_total")
    assert found.of("request_bytes").tags == (removed("reporter"),)


def test_one_metric_can_be_switched_off():
    found = client(telemetry(**metric(override("REQUEST_COUNT", disabled=True))))
    assert not found.records("requests_total")
    assert found.records("request_duration_milliseconds")


@pytest.mark.parametrize("mode", [*MODES, "CLIENT_AND_SERVER", ""])
def test_an_override_is_for_calls_made_or_for_calls_served(mode):
    found = told(telemetry(**metric(override("REQUEST_COUNT", mode, disabled=True))))
    assert found.client.metrics.records("requests_total") == (mode == "SERVER")
    assert found.server.metrics.records("requests_total") == (mode == "CLIENT")


def test_all_can_be_switched_off_for_one_direction():
    found = told(telemetry(**metric(override("ALL_METRICS", "SERVER", disabled=True))))
    assert (found.client.metrics, found.server.metrics) == (ALL, OFF)


def test_one_of_istios_metrics_may_be_called_by_its_own_name():
    found = client(telemetry(**metric({"match": {"customMetric": "requests_total"}, "disabled": True})))
    assert not found.records("requests_total")
    assert client(telemetry(**metric({"match": {"customMetric": "mine"}, "disabled": True}))) == ALL


# -- providers


def test_the_nearest_providers_count_and_only_prometheus_records():
    other = {"name": "logs", "envoyFileAccessLog": {}}
    config = mesh_config(extensionProviders=[other, {"name": "prom2", "prometheus": {}}])
    assert client(config, in_root(**metric(by=["prometheus"])), telemetry(**metric(by=["logs"]))) == OFF
    assert client(config, in_root(**metric(by=["logs"])), telemetry(**metric(by=["prom2"]))) == ALL


def test_a_provider_that_mesh_config_does_not_have_records_nothing():
    named = telemetry(**metric(by=["nobody"]))
    assert client(mesh_config(), named) == OFF
    assert client(named) == ALL, "without a MeshConfig nobody knows"


def test_overrides_of_a_provider_that_does_not_count_any_more_are_dropped():
    config = mesh_config(extensionProviders=[{"name": "other", "prometheus": {}}])
    assert client(config, in_root(**CHANGED), telemetry(**metric(by=["other"]))) == ALL


def test_overrides_without_providers_are_for_those_of_the_wider_telemetry():
    config = mesh_config(extensionProviders=[{"name": "other", "prometheus": {}}])
    one = metric(override("REQUEST_COUNT", **tags(source_app=None, add="'bar'")))
    assert client(config, in_root(**metric(by=["other"])), telemetry(**one)) == AS_CHANGED


def test_default_providers_count_where_no_telemetry_names_any():
    assert client(mesh_config(defaultProviders={"metrics": []})) == OFF
    assert client(mesh_config(defaultProviders={"accessLogging": ["envoy"]})) == ALL
    off = mesh_config(defaultProviders={"metrics": ["envoy"]})
    assert client(off) == OFF
    assert client(off, telemetry(**metric(by=["Prometheus"]))) == ALL, "in any case"


# -- tags


def test_a_tag_that_is_no_label_of_prometheus_is_written_as_envoy_does():
    found = client(telemetry(**metric(override("REQUEST_COUNT", **tags(**{"my.tag-1": "'x'", "1st": "'y'"})))))
    assert {tag.name for tag in found.of("requests_total").tags} == {"my_tag_1", "_1st"}


def test_what_envoy_cannot_parse_takes_a_tag_of_istios_away_and_adds_no_other():
    found = client(telemetry(**metric(override("REQUEST_COUNT", **tags(source_app="a ||", mine="a ||")))))
    assert found.of("requests_total").tags == (removed("source_app"),)


def test_labels_that_prometheus_uses_itself_are_not_added():
    found = client(telemetry(**metric(override(**tags(le="'x'", __name__="'x'", **{"source.app": "'x'"})))))
    assert found == ALL
