"""What is told of calls: plain data that compares by value."""

import pytest

from meshlib.policy.telemetry_settings import (
    AS_ISTIO,
    DEFAULT_SETTINGS,
    DEFAULT_TELEMETRY,
    METRICS,
    AccessLog,
    MetricOverride,
    MetricSettings,
    TagOverride,
)


def test_where_nothing_is_said_every_metric_is_recorded_and_nothing_is_logged() -> None:
    assert all(DEFAULT_SETTINGS.metrics.records(metric) for metric in METRICS.values())
    assert DEFAULT_SETTINGS.access_logs == ()
    assert not DEFAULT_SETTINGS.tracing.disabled
    assert DEFAULT_SETTINGS.tracing.sampling is None
    assert DEFAULT_TELEMETRY.client is DEFAULT_TELEMETRY.server is DEFAULT_SETTINGS


def test_a_metric_is_recorded_unless_it_or_all_are_disabled() -> None:
    settings = MetricSettings(overrides={"request_bytes": MetricOverride(disabled=True)})
    assert not settings.records("request_bytes")
    assert settings.records("response_bytes")
    assert not MetricSettings(disabled=True).records("requests_total")


def test_of_a_metric_of_which_nothing_is_said_all_is_as_in_istio() -> None:
    removed = MetricOverride(tags=(TagOverride("source_app", ""),))
    settings = MetricSettings(overrides={"requests_total": removed})
    assert settings.of("requests_total") is removed
    assert settings.of("request_bytes") is AS_ISTIO


@pytest.mark.parametrize("changed", [{"path": "/var/log/b"}, {"text": "%DURATION%"}, {"expression": "false"}])
def test_logs_that_are_said_alike_are_equal_so_that_their_files_survive_a_reload(changed: dict[str, str]) -> None:
    assert AccessLog("envoy", path="/var/log/a") == AccessLog("envoy", path="/var/log/a")
    assert AccessLog("envoy", path="/var/log/a") != AccessLog("envoy", **{"path": "/var/log/a", **changed})  # type: ignore[arg-type]
