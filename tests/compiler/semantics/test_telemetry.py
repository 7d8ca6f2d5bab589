"""What is said of Telemetry's fields is true of what is compiled: a field that acts changes it, one without effect does not."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.semantics.telemetry import ROWS
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import telemetry, told

CONFIG = mesh_config(extensionProviders=[{"name": "z", "zipkin": {"service": "z", "port": 1}}])
ENVOY = [{"name": "envoy"}]
ACTS: dict[str, dict[str, Any]] = {
    "selector.matchLabels": {"selector": {"matchLabels": {"app": "orders"}}, "tracing": [{"enableIstioTags": False}]},
    "metrics.providers.name": {"metrics": [{"providers": ENVOY}]},
    "metrics.overrides.match.metric": {
        "metrics": [{"overrides": [{"match": {"metric": "REQUEST_COUNT"}, "disabled": True}]}]
    },
    "metrics.overrides.match.customMetric": {
        "metrics": [{"overrides": [{"match": {"customMetric": "requests_total"}, "disabled": True}]}]
    },
    "metrics.overrides.match.mode": {"metrics": [{"overrides": [{"match": {"mode": "SERVER"}, "disabled": True}]}]},
    "metrics.overrides.disabled": {"metrics": [{"overrides": [{"disabled": True}]}]},
    "metrics.overrides.tagOverrides": {
        "metrics": [{"overrides": [{"tagOverrides": {"source_app": {"operation": "REMOVE"}}}]}]
    },
    "tracing.match.mode": {"tracing": [{"match": {"mode": "SERVER"}, "disableSpanReporting": True}]},
    "tracing.providers.name": {"tracing": [{"providers": [{"name": "z"}]}]},
    "tracing.randomSamplingPercentage": {"tracing": [{"randomSamplingPercentage": 5}]},
    "tracing.disableSpanReporting": {"tracing": [{"disableSpanReporting": True}]},
    "tracing.customTags": {"tracing": [{"customTags": {"a": {"literal": {"value": "x"}}}}]},
    "tracing.useRequestIdForTraceSampling": {"tracing": [{"useRequestIdForTraceSampling": False}]},
    "tracing.enableIstioTags": {"tracing": [{"enableIstioTags": False}]},
    "tracing.disableContextPropagation": {"tracing": [{"disableContextPropagation": True}]},
    "accessLogging.match.mode": {"accessLogging": [{"match": {"mode": "SERVER"}, "providers": ENVOY}]},
    "accessLogging.providers.name": {"accessLogging": [{"providers": ENVOY}]},
    "accessLogging.filter.expression": {
        "accessLogging": [{"providers": ENVOY, "filter": {"expression": "response.code > 1"}}]
    },
}
WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "targetRef": {"targetRef": {"kind": "Service", "name": "orders"}, "tracing": [{"enableIstioTags": False}]},
    "targetRefs": {"targetRefs": [{"kind": "Service", "name": "orders"}], "tracing": [{"enableIstioTags": False}]},
    "metrics.reportingInterval": {"metrics": [{"reportingInterval": "10s"}]},
}


def settings(spec: dict[str, Any]) -> object:
    found = told(CONFIG, telemetry(**spec))
    return found.client, found.server


@pytest.mark.parametrize("path", ACTS)
def test_a_field_that_acts_changes_what_is_told(path: str) -> None:
    assert settings(ACTS[path]) != settings({})


@pytest.mark.parametrize("path", WITHOUT_EFFECT)
def test_a_field_without_effect_does_not(path: str) -> None:
    assert settings(WITHOUT_EFFECT[path]) == settings({})


def test_every_row_is_shown() -> None:
    disabled = {"accessLogging.disabled"}  # shown together with a wider Telemetry, in test_logs.py
    inert = {row.path for row in ROWS if row.inert}
    assert {row.path for row in ROWS} == ACTS.keys() | WITHOUT_EFFECT.keys() | disabled
    assert inert == WITHOUT_EFFECT.keys()
