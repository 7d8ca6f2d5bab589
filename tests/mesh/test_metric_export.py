"""Metrics leave through OpenTelemetry's SDK when they are asked to, and nothing of it is loaded otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import meshlib
from meshlib.errors import MeshError
from meshlib.mesh.metric_export import check_exporter, metric_export_of, metric_exporter_from_env
from meshlib.workload import Workload


def endpoint(value, **more):
    exporter = metric_exporter_from_env({"MESHLIB_OTLP_METRICS": value, **more})
    return exporter._endpoint


def test_the_variable_names_the_collector():
    assert metric_exporter_from_env({}) is None
    assert endpoint("http://localhost:4318") == "http://localhost:4318/v1/metrics"
    assert endpoint("http://localhost:4318/") == "http://localhost:4318/v1/metrics"
    assert endpoint("https://collector.example/otlp/metrics") == "https://collector.example/otlp/metrics"


def test_1_leaves_it_to_opentelemetrys_own_variables(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere:4318")
    assert endpoint("1") == "http://elsewhere:4318/v1/metrics"


@pytest.mark.parametrize("value", ["yes", "localhost:4318", "http://", "unix:/tmp/x"])
def test_what_is_not_a_url_says_what_to_give(value):
    with pytest.raises(MeshError, match=r"MESHLIB_OTLP_METRICS is not valid: give the URL of a collector"):
        metric_exporter_from_env({"MESHLIB_OTLP_METRICS": value})


def test_what_is_not_an_exporter_is_refused():
    with pytest.raises(MeshError, match="must be a MetricExporter"):
        meshlib.Mesh.from_resources([], metric_exporter="http://localhost:4318")  # type: ignore[arg-type]
    assert metric_export_of(None, None, Workload()) is None


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_without_the_extra_the_error_names_it(monkeypatch, missing):
    for name in [name for name in sys.modules if name.startswith((missing, "meshlib.telemetry.otlp"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    asks = {
        "opentelemetry.exporter": lambda: metric_exporter_from_env({"MESHLIB_OTLP_METRICS": "1"}),
        "opentelemetry.sdk": lambda: check_exporter(object()),
    }
    with pytest.raises(MeshError, match=r"sidecarless\[otel\]"):
        asks[missing]()


def test_a_mesh_that_is_not_asked_loads_no_sdk():
    code = "import sys, meshlib; meshlib.Mesh.from_resources([]); print('opentelemetry.sdk' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "False\n", ran.stderr
