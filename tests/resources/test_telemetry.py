"""A Telemetry that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.verdicts import refusals, warnings

OVERRIDE = "spec.metrics[0].overrides[0]"
TRACING = "spec.tracing[0]"


def override(**fields: Any) -> dict[str, Any]:
    return {"metrics": [{"overrides": [fields]}]}


def tag(**fields: Any) -> dict[str, Any]:
    return override(tagOverrides={"a": fields})


def custom(**fields: Any) -> dict[str, Any]:
    return {"tracing": [{"customTags": {"a": fields}}]}


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        ({"metrics": [{"providers": [{"name": ""}]}]}, "missing-name", "spec.metrics[0].providers[0].name"),
        ({"tracing": [{"providers": [{"name": ""}]}]}, "missing-name", f"{TRACING}.providers[0].name"),
        ({"accessLogging": [{"providers": [{}]}]}, "missing-field", "spec.accessLogging[0].providers[0].name"),
        (tag(), "missing-value", f"{OVERRIDE}.tagOverrides.a"),
        (tag(operation="UPSERT", value=""), "missing-value", f"{OVERRIDE}.tagOverrides.a"),
        (tag(operation="REMOVE", value="b"), "value-of-removed", f"{OVERRIDE}.tagOverrides.a.value"),
        (override(match={"customMetric": ""}), "missing-name", f"{OVERRIDE}.match.customMetric"),
        ({"tracing": [{"randomSamplingPercentage": -0.1}]}, "bad-percent", f"{TRACING}.randomSamplingPercentage"),
        ({"tracing": [{"randomSamplingPercentage": 101}]}, "bad-percent", f"{TRACING}.randomSamplingPercentage"),
        (custom(literal={"value": ""}), "missing-value", f"{TRACING}.customTags.a.literal.value"),
        (custom(header={"name": ""}), "missing-value", f"{TRACING}.customTags.a.header.name"),
        (custom(environment={"name": ""}), "missing-value", f"{TRACING}.customTags.a.environment.name"),
        (
            {"tracing": [{"customTags": {"": {"literal": {"value": "a"}}}}]},
            "missing-name",
            f'{TRACING}.customTags[""]',
        ),
        ({"accessLogging": [{"filter": {}}]}, "bad-expression", "spec.accessLogging[0].filter.expression"),
        (
            {"accessLogging": [{}, {"filter": {"expression": "code => 400"}}]},
            "bad-expression",
            "spec.accessLogging[1].filter.expression",
        ),
        ({"targetRefs": [{"kind": "Pod", "name": "a"}]}, "bad-target", "spec.targetRefs[0].kind"),
        ({"selector": {"matchLabels": {"a": "*"}}}, "wildcard-label", "spec.selector.matchLabels.a"),
    ],
)
def test_refused(spec, code, path):
    assert refusals("Telemetry", spec) == [(code, path)]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"metrics": [{"providers": [{"name": "prometheus"}]}]},
        tag(value="request.host"),
        tag(operation="REMOVE"),
        override(match={"metric": "ALL_METRICS"}, disabled=True),
        {"tracing": [{"randomSamplingPercentage": 100}, {"randomSamplingPercentage": 0.01}]},
        custom(literal={"value": "b"}),
        {"accessLogging": [{"filter": {"expression": "response.code >= 400"}}]},
    ],
)
def test_accepted(spec):
    assert refusals("Telemetry", spec) == []


def test_what_istio_reads_but_does_not_do_is_warned_of():
    several = {"tracing": [{"providers": [{"name": "a"}, {"name": "b"}]}, {}]}
    assert warnings("Telemetry", several) == [
        ("several-tracings", "spec.tracing[1]"),
        ("several-providers", "spec.tracing[0].providers"),
    ]
    assert warnings("Telemetry", {"selector": {}}) == [("empty-selector", "spec.selector")]
