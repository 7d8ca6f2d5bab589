"""Charts, overlays and templates: one sentence each, and what is no resource of them is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.errors import Severity
from meshlib.resources.loader import load

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{name: http, port: 80}]}\n"
TEMPLATE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> None:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_chart(folder: str) -> None:
    write(f"{folder}/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    write(f"{folder}/values.yaml", "replicas: 1\n")
    write(f"{folder}/values-prod.yaml", "replicas: 3\n")
    for name in ("a", "b", "c"):
        write(f"{folder}/templates/{name}.yaml", TEMPLATE)


@pytest.mark.parametrize("path", [".", "chart", "chart/templates"])
def test_a_chart_is_one_sentence(path: str) -> None:
    write_chart("chart")
    (problem,) = load(path).problems
    assert (problem.code, problem.severity) == ("helm-chart", Severity.ERROR)
    assert problem.file.endswith("chart/Chart.yaml")
    assert "helm template" in problem.hint


def test_resources_beside_a_chart_are_read() -> None:
    write_chart("chart")
    write("mesh.yaml", SERVICE)
    write("chart/mesh/more.yaml", SERVICE.replace("cart", "stock"))
    result = load(".")
    assert sorted(r.name for r in result.resources) == ["cart", "stock"]
    assert [p.code for p in result.problems] == ["helm-chart"]


def test_a_template_alone_is_one_sentence() -> None:
    write("mesh.yaml", TEMPLATE + "  labels: {{- toYaml .Values.labels | nindent 4 }}\n---\n" + TEMPLATE)
    (problem,) = load("mesh.yaml").problems
    assert (problem.code, problem.line, problem.column) == ("helm-template", 4, 9)


def test_many_templates_are_one_sentence() -> None:
    for name in ("a", "b", "c"):
        write(f"templates/{name}.yaml", TEMPLATE)
    (problem,) = load(".").problems
    assert problem.message.endswith("as 2 other files are")
    assert problem.file.endswith("a.yaml")


def test_two_braces_alone_are_no_template() -> None:
    write("mesh.yaml", SERVICE + "x: '{{ .y }}'\n")
    assert [p.code for p in load("mesh.yaml").problems] == []
    write("mesh.yaml", "a: {{1: 2}: 3}\n")
    assert "helm-template" not in [p.code for p in load("mesh.yaml").problems]


def test_an_overlay_is_one_sentence_and_its_patches_are_not_read() -> None:
    write("base/kustomization.yaml", "resources: [cart.yaml]\n")
    write("base/cart.yaml", SERVICE)
    patches = "patches:\n- path: cart-patch.yaml\npatchesStrategicMerge: [other.yaml]\n"
    write("overlays/prod/kustomization.yaml", "resources: [../../base]\n" + patches)
    write("overlays/prod/cart-patch.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {prts: 1}\n")
    write("overlays/prod/other.yaml", "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\n")
    result = load(".")
    assert [r.name for r in result.resources] == ["cart"]
    (problem,) = result.problems
    assert (problem.code, problem.severity, problem.line) == ("kustomize-overlay", Severity.ERROR, 2)
    assert "kubectl kustomize ./overlays/prod" in problem.hint


def test_the_file_of_an_overlay_may_have_no_suffix() -> None:
    write("Kustomization", "patches: [{path: cart-patch.yaml}]\n")
    write("cart-patch.yaml", "kind: Service\n")
    assert [(p.code, p.file) for p in load(".").problems] == [("kustomize-overlay", "./Kustomization")]


def test_a_file_that_is_named_is_read_whatever_is_beside_it() -> None:
    write("kustomization.yaml", "patches: [{path: cart.yaml}]\n")
    write("cart.yaml", SERVICE)
    result = load("cart.yaml")
    assert [r.name for r in result.resources] == ["cart"]
    assert result.problems == []


def test_an_overlay_without_patches_is_a_warning() -> None:
    write("kustomization.yaml", "kind: Kustomization\nresources: [cart.yaml]\nnamespace: prod\n")
    write("cart.yaml", SERVICE)
    result = load(".")
    assert [r.name for r in result.resources] == ["cart"]
    assert [(p.code, p.severity) for p in result.problems] == [("kustomize-overlay", Severity.WARNING)]


def test_a_list_of_files_needs_no_sentence() -> None:
    write(
        "kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [cart.yaml]\n",
    )
    write("cart.yaml", SERVICE)
    assert load(".").problems == []


@pytest.mark.parametrize("text", ["", "[]", "a: [", "resources: 5\npatches: x\n", "patches: [1, {path: 2}]\n"])
def test_whatever_an_overlay_holds(text: str) -> None:
    write("kustomization.yaml", text)
    load(".")
