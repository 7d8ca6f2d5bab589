"""MeshConfig inside a ConfigMap: problems of the text inside have their place in the file around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.problems import Problem, Severity
from meshlib.resources.loader import LoadMemo, load, load_objects, load_text
from meshlib.resources.mesh_text import has_mesh_config, revision_of
from tests.support.mesh_config import config_map

BLOCK = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: 'networks: {}'
  mesh: |-

    trustDomain: td.example
    rootNamespace: istio_config
    pathNormalization:
      normalization: MERGE
"""


def places(problems: list[Problem]) -> list[tuple[int, int, str]]:
    return [(p.line, p.column, p.path) for p in problems]


def test_problems_of_a_block_have_the_line_and_column_of_the_file():
    assert places(load_text(BLOCK).problems) == [(11, 7, "data.mesh.pathNormalization.normalization")]
    assert places(load_text(BLOCK.replace("MERGE", "NONE")).problems) == [(9, 5, "data.mesh.rootNamespace")]


def test_of_a_text_in_quotes_problems_have_the_place_of_its_key():
    quoted = BLOCK.partition("  mesh:")[0] + '  mesh: "trustDomain: td\\nrootNamespace: a_b\\n"\n'
    assert places(load_text(quoted).problems) == [(6, 3, "data.mesh.rootNamespace")]


def test_in_a_list_of_a_cluster_they_have_their_place_too():
    item = "\n".join(f"  {line}" if line else line for line in BLOCK.splitlines())
    listed = f"apiVersion: v1\nkind: List\nitems:\n-{item[1:]}\n"
    assert places(load_text(listed).problems) == [(14, 9, "items[0].data.mesh.pathNormalization.normalization")]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: [", "bad-yaml", 8),
        ("a: 1\n    a: 2", "duplicate-key", 8),
        ("- a", "wrong-type", 7),
        ("just text", "wrong-type", 7),
        ("trustDomain: a\n    ---\n    trustDomain: b", "wrong-type", 9),
        ("a: &x [1]\n    b: *y", "unknown-anchor", 8),
    ],
)
def test_a_text_that_is_no_mesh_config_is_an_error(text, code, line):
    head = BLOCK.partition("  mesh:")[0]
    result = load_text(f"{head}  mesh: |\n    {text}\n")
    (found,) = [p for p in result.problems if p.severity is Severity.ERROR]
    assert (found.code, found.line, result.resources) == (code, line, [])


def test_an_object_in_the_place_of_the_text_is_an_error():
    result = load_objects([{**config_map(), "data": {"mesh": {"trustDomain": "td"}}}])
    (found,) = result.problems
    assert (found.code, found.severity, found.hint) == ("wrong-type", Severity.ERROR, "write mesh: |")
    assert not result.resources


def test_an_empty_text_says_nothing():
    result = load_text(BLOCK.partition("  mesh:")[0] + '  mesh: ""\n')
    assert not result.problems
    assert len(result.resources) == 1


def test_other_config_maps_mean_nothing():
    others = [
        config_map("another", trustDomain="bad_"),
        config_map("istiod"),
        {**config_map("istio-ca"), "data": {"x": "y"}},
    ]
    result = load_objects(others)
    assert not result.resources
    assert {(p.code, p.severity) for p in result.problems} == {("unknown-kind", Severity.NOTICE)}


def test_the_names_that_istiod_reads():
    assert [revision_of(name) for name in ("istio", "istio-canary", "istiod", "other")] == ["", "canary", None, None]
    assert has_mesh_config("ConfigMap", "v1", config_map("istio-1-20"))
    assert not has_mesh_config("ConfigMap", "v2", config_map())
    assert not has_mesh_config("Secret", "v1", config_map())
    assert not has_mesh_config("ConfigMap", "v1", {**config_map(), "data": None})


def test_a_file_that_has_not_changed_gives_the_same_resource_and_says_the_same(tmp_path: Path):
    file = tmp_path / "mesh.yaml"
    memo = LoadMemo()
    file.write_text(BLOCK.replace("MERGE", "NONE").replace("istio_config", "config").replace("td.", "TD."))
    first, second = load(file, memo=memo), load(file, memo=memo)
    assert first.resources[0] is second.resources[0]
    assert places(first.problems) == places(second.problems) == [(8, 5, "data.mesh.trustDomain")]
    file.write_text("# moved\n" + file.read_text())
    assert places(load(file, memo=memo).problems) == [(9, 5, "data.mesh.trustDomain")]
    file.write_text(BLOCK)
    for _ in range(2):
        broken = load(file, memo=memo)
        assert not broken.resources
        assert places(broken.problems) == [(11, 7, "data.mesh.pathNormalization.normalization")]
    file.write_text(BLOCK.partition("  mesh:")[0] + "  mesh: |\n    a: [\n")
    for _ in range(2):
        torn = load(file, memo=memo)
        assert not torn.resources
        assert [p.code for p in torn.problems] == ["bad-yaml"]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.sampled_from(["trustDomain: ", "{", "[[", "- a: &x [*x]", "? x"])
)
def test_no_text_does_more_than_say_what_is_wrong(text: str):
    result = load_objects([{**config_map(), "data": {"mesh": text}}])
    assert len(result.resources) == (not result.errors)
    assert all(p.path.startswith(("[0] ConfigMap/istio: data.mesh", "ConfigMap/")) for p in result.problems)
