"""``meshlib coverage``: of every field that is set, what becomes of it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main

GOOD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination:
        host: reviews
    timeout: 1s
"""
MIXED = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    outlierDetection:
      consecutiveErrors: 3
    proxyProtocol:
      version: V1
    retryBudget:
      percent: 10
      budgetInterval: 1s
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: quiet}
spec: {url: "oci://example.com/w:1"}
"""


def run(tmp_path, text: str, *options: str):
    file = tmp_path / "mesh.yaml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["coverage", str(file), *options])
    return result.exit_code, result.output.replace(f"{tmp_path}/", "").replace(str(tmp_path), "")


def test_honoured_fields_are_counted_and_named_only_when_asked(tmp_path):
    code, output = run(tmp_path, GOOD)
    assert (code, output) == (0, "3 fields set: 3 honoured, 0 approximated, 0 ignored, 0 not for this protocol\n")
    _, output = run(tmp_path, GOOD, "--all")
    assert "mesh.yaml:10: VirtualService/default/reviews http.timeout: honoured: for the whole call" in output


def test_each_other_field_is_named_with_its_line_and_reason(tmp_path):
    code, output = run(tmp_path, MIXED)
    assert code == 0
    lines = output.splitlines()
    assert [line.partition(": ")[0] for line in lines[:-1]] == [f"mesh.yaml:{n}" for n in (8, 9, 13, 15)]
    assert "trafficPolicy.proxyProtocol: not for this protocol: " in lines[1]
    assert "trafficPolicy.outlierDetection.consecutiveErrors: approximated: read as" in lines[0]
    assert "budgetInterval: ignored: loads, no effect (Envoy's budget is of the moment" in lines[2]
    assert "WasmPlugin/default/quiet spec: ignored: " in lines[3]
    assert lines[-1] == "7 fields set: 3 honoured, 1 approximated, 2 ignored, 1 not for this protocol"


@pytest.mark.parametrize(("text", "code"), [(GOOD, 0), (MIXED, 1)])
def test_strict_fails_unless_everything_is_honoured(tmp_path, text, code):
    assert run(tmp_path, text, "--strict")[0] == code


def test_programs_get_json(tmp_path):
    _, output = run(tmp_path, MIXED, "--json")
    found = json.loads(output)
    assert found["counts"]["ignored"] == 2
    assert {f["field"] for f in found["fields"]} >= {"trafficPolicy.outlierDetection.consecutiveErrors", "spec"}


def test_resources_with_errors_are_not_judged(tmp_path):
    code, output = run(tmp_path, GOOD.replace("timeout: 1s", "timeout: 1"))
    assert code == 1
    assert "durations need a unit" in output
    assert "meshlib validate" in output
