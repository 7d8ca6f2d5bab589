"""``meshlib analyze``, as a person and as a pipeline use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshlib.analysis.codes import CODES
from meshlib.cli.main import main

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{name: http, port: 80}]}
---
"""
ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: cart
spec:
  hosts: [cart]
  http:
  - route:
    - destination:
        host: crat
"""
WARNING = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart}
spec: {host: crat}
"""


def run(*args: object, **kwargs: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args], **kwargs)  # type: ignore[arg-type]


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    file = tmp_path / "mesh.yaml"
    file.write_text(SERVICE + ROUTE)
    return file


def test_each_message_has_its_code_name_line_and_hint(mesh: Path) -> None:
    result = run("analyze", mesh)
    assert f"{mesh}:15:9: error: VirtualService default/cart spec.http[0].route[0].destination.host: " in result.output
    assert "[IST0101 ReferencedResourceNotFound]" in result.output
    assert "hint: did you mean cart?" in result.output


def test_exit_codes_are_those_of_istioctl(mesh: Path, tmp_path: Path) -> None:
    assert run("analyze", mesh).exit_code == 79
    assert run("analyze", mesh, "--output", "json").exit_code == 0
    assert run("analyze", mesh, "--output", "sarif").exit_code == 79
    warned = tmp_path / "warned.yaml"
    warned.write_text(SERVICE + WARNING)
    assert run("analyze", warned).exit_code == 0
    assert run("analyze", warned, "--failure-threshold", "Warning").exit_code == 79
    good = tmp_path / "good.yaml"
    good.write_text(SERVICE)
    assert run("analyze", good).exit_code == 0
    torn = tmp_path / "torn.yaml"
    torn.write_text("a: [\n")
    assert run("analyze", good, torn).exit_code == 65
    assert run("analyze", good, torn, "--ignore-unknown").exit_code == 0
    assert run("analyze", mesh, torn).exit_code == 79
    assert run("analyze", tmp_path / "nowhere").exit_code == 1
    assert run("analyze", mesh, "--colour").exit_code == 64


def test_a_resource_with_an_error_takes_part(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(SERVICE + ROUTE.replace("  hosts: [cart]", "  hosts: [cart]\n  exportsTo: [x]"))
    result = run("analyze", file)
    assert "IST0106 SchemaValidationError" in result.output
    assert "(unknown-field)" in result.output
    assert "IST0101" in result.output


def test_json_has_the_fields_of_istioctl(mesh: Path) -> None:
    (found,) = json.loads(run("analyze", mesh, "-o", "json").stdout)
    assert found["code"] == "IST0101"
    assert found["level"] == "Error"
    assert found["origin"] == "VirtualService default/cart"
    assert found["reference"] == f"{mesh}:15"
    assert found["documentationUrl"].endswith("/ist0101/")
    assert (found["name"], found["line"], found["column"]) == ("ReferencedResourceNotFound", 15, 9)


def test_sarif_has_what_its_schema_requires(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mesh.parent)
    log = json.loads(run("analyze", mesh.name, "-o", "sarif").stdout)
    assert log["version"] == "2.1.0"
    (only,) = log["runs"]
    driver = only["tool"]["driver"]
    assert driver["name"] == "meshlib"
    assert [rule["id"] for rule in driver["rules"]] == ["IST0101"]
    (result,) = only["results"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert result["level"] == "error"
    assert "did you mean cart?" in result["message"]["text"]
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "mesh.yaml"}, "region": {"startLine": 15, "startColumn": 9}}


def test_github_gets_annotations(mesh: Path) -> None:
    assert run("analyze", mesh, "-o", "github").stdout.startswith(f"::error file={mesh},line=15,col=9,title=IST0101 ")


@pytest.mark.parametrize(
    "name", ["VirtualService default/cart", "VirtualService cart.default", "VirtualService *", "*/cart", "*"]
)
def test_a_code_is_suppressed_for_a_resource(mesh: Path, name: str) -> None:
    result = run("analyze", mesh, "-S", f"IST0101={name}")
    assert result.exit_code == 0
    assert "IST0101" not in result.output


@pytest.mark.parametrize(
    "name", ["VirtualService default/car", "virtualservice default/cart", "VirtualService ?efault/cart"]
)
def test_other_resources_are_not_suppressed(mesh: Path, name: str) -> None:
    assert run("analyze", mesh, "-S", f"IST0101={name}").exit_code == 79
    assert run("analyze", mesh, "-S", f"IST0112={name}").exit_code == 79


def test_a_suppression_that_is_none_is_refused_and_an_unknown_code_is_said(mesh: Path) -> None:
    assert run("analyze", mesh, "-S", "IST0101").exit_code == 1
    assert "IST9999 is not a code" in run("analyze", mesh, "-S", "IST9999=x").stderr


def test_a_resource_may_suppress_codes_itself(mesh: Path) -> None:
    note = "  name: cart\n  annotations: {galley.istio.io/analyze-suppress: 'IST0112,IST0101'}"
    mesh.write_text(SERVICE + ROUTE.replace("  name: cart", note))
    assert run("analyze", mesh).exit_code == 0


def test_a_resource_that_is_defined_twice_is_no_unreadable_file(mesh: Path) -> None:
    mesh.write_text(SERVICE + SERVICE.replace("80", "81"))
    result = run("analyze", mesh)
    assert "duplicate-resource" in result.output
    assert result.exit_code == 79


def test_one_namespace_alone(mesh: Path) -> None:
    assert run("analyze", mesh, "-n", "default").exit_code == 79
    assert run("analyze", mesh, "-n", "backend").exit_code == 0
    assert run("analyze", mesh, "-A").exit_code == 79
    assert run("analyze", mesh, "-A", "-n", "default").exit_code == 64


def test_what_is_below_the_output_threshold_is_not_shown_and_still_counts(mesh: Path) -> None:
    mesh.write_text(SERVICE + WARNING)
    result = run("analyze", mesh, "--output-threshold", "error", "--failure-threshold", "warning")
    assert "IST0174" not in result.output
    assert result.exit_code == 79


def test_standard_input(mesh: Path) -> None:
    result = run("analyze", "-", input=mesh.read_text())
    assert "<stdin>:15:9" in result.output


def test_validate_says_the_same_as_warnings_and_once(mesh: Path) -> None:
    result = run("validate", mesh, "--format", "json")
    assert result.exit_code == 0
    problems = json.loads(result.stdout)["problems"]
    assert [(p["code"], p["severity"]) for p in problems if "crat" in p["message"]] == [("IST0101", "warning")]


def test_validate_says_it_beside_errors_too(mesh: Path) -> None:
    mesh.write_text(SERVICE + ROUTE + "  colour: red\n")
    result = run("validate", mesh)
    assert result.exit_code == 1
    assert "unknown-field" in result.output
    assert "IST0101" in result.output


def test_an_old_spelling_is_said_once(mesh: Path) -> None:
    delay = "    fault: {delay: {percent: 5, fixedDelay: 1s}}\n"
    mesh.write_text(SERVICE + ROUTE.replace("crat", "cart") + delay)
    for command in ("validate", "analyze"):
        assert run(command, mesh).output.count("percent is deprecated") == 1


def test_a_dump_of_a_cluster_is_a_line_a_class(tmp_path: Path) -> None:
    written = {
        "uid": "u",
        "resourceVersion": "1",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    }
    items = []
    for number in range(30):
        meta = {"name": f"s{number}", "namespace": "shop", **written}
        ports = [{"name": "web", "port": 80, "protocol": "TCP"}]
        items.append({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}, "status": {}})
        spec = {"hosts": [f"s{number}"], "http": [{"route": [{"destination": {"host": f"s{number}"}}]}]}
        rule = {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": meta, "spec": spec}
        items.append({**rule, "status": {"observedGeneration": 1}})
    items += [{"apiVersion": "x.example/v1", "kind": f"K{n}", "metadata": {"name": "a", **written}} for n in range(10)]
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    result = run("analyze", file)
    assert result.exit_code == 0
    said = [line for line in result.output.split("\n") if ": notice: " in line]
    assert [line.rpartition("[")[2].rstrip("]") for line in said] == [
        "cluster-dump",
        "IST0118 PortNameIsNotUnderNamingConvention",
        "deprecated",
        "unknown-kind",
    ]
    assert "these are 70 resources as a cluster shows them" in said[0]
    assert "kubectl get pods,namespaces -A" in result.output
    assert "(and 29 more: " in said[2]


def test_the_page_lists_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()
    assert [code for code in CODES if code not in page] == []
