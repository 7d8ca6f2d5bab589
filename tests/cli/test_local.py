"""``meshlib local``: writes where a person serves hosts of the mesh, and overwrites nothing else."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main
from meshlib.resources.loader import load
from tests.support.resources import destination_rule, service, to, virtual_service


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "mesh").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mesh"


def run(*args: str):
    return CliRunner().invoke(main, ["local", *args])


def test_it_writes_the_file_and_says_so(folder):
    result = run("reviews=v1@:9081,v2@[::1]:9082", "ratings:9080=10.0.0.1")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "wrote mesh/local-endpoints.yaml: LocalEndpoints/default/local-endpoints",
        "  reviews subset v1: localhost:9081",
        "  reviews subset v2: [::1]:9082",
        "  ratings:9080: 10.0.0.1",
    ]
    loaded = load(folder)
    assert not loaded.problems
    assert [(h.host, h.subset, h.port, h.addresses) for h in loaded.resources[0].spec.hosts] == [
        ("reviews", "v1", None, ["localhost:9081"]),
        ("reviews", "v2", None, ["[::1]:9082"]),
        ("ratings", None, 9080, ["10.0.0.1"]),
    ]
    assert os.listdir(folder) == ["local-endpoints.yaml"]


def test_a_mesh_of_that_folder_has_the_endpoints(folder):
    rules = [virtual_service("reviews", {"route": [to("reviews", "v1")]}), destination_rule("reviews", "v1")]
    (folder / "rules.yaml").write_text("\n---\n".join(map(json.dumps, rules)))
    run("reviews=v1@10.0.0.1:9081")
    with meshlib.Mesh.from_path(folder, watch=False) as mesh:
        assert mesh.problems == []
        found = mesh.explain(url="http://reviews/").to_dict()["destinations"][0]
        assert [(e["address"], e["labels"]) for e in found["endpoints"]] == [("10.0.0.1:9081", {"version": "v1"})]
    result = CliRunner().invoke(main, ["validate", str(folder)])
    assert (result.exit_code, result.output) == (0, "no problems; 3 resources loaded\n")


def test_its_own_file_is_replaced_and_what_has_gone_is_named(folder):
    run("reviews=:1", "ratings=:2")
    result = run("ratings=:3")
    assert "no longer in it: reviews" in result.output
    assert [h.host for h in load(folder).resources[0].spec.hosts] == ["ratings"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps(service("reviews")), "holds Service/default/reviews"),
        ("apiVersion: example.com/v1\nkind: Other\nmetadata: {name: x}\n", "holds Other/default/x"),
        ("kind: [Local", "not valid YAML"),
        ("# notes of mine\n", "it holds no resource"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: 1}\n",
            "VirtualService",
        ),
    ],
)
def test_a_file_that_holds_anything_else_is_left_as_it_is(folder, text, why):
    file = folder / "local-endpoints.yaml"
    file.write_text(text)
    result = run("reviews=:1")
    assert result.exit_code == 1
    assert why in result.output
    assert "give another file with -o" in result.output
    assert file.read_text() == text


def test_an_empty_file_and_one_with_a_broken_local_endpoints_may_be_written(folder):
    file = folder / "local-endpoints.yaml"
    for text in ("", "apiVersion: meshlib.dev/v1\nkind: LocalEndpoints\nmetadata: {name: x}\nspec: {hosts: []}\n"):
        file.write_text(text)
        assert run("reviews=:1").exit_code == 0
        assert len(load(folder).resources) == 1


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["reviews=:1", "-o", "nowhere/local.yaml"], 1, "the folder nowhere does not exist"),
        (["reviews=:1", "-o", "mesh"], 2, "mesh does not end in .yaml"),
        (["reviews=:1", "-o", "mesh/local.txt"], 2, "does not end in .yaml"),
        (["reviews"], 2, "reviews: is not HOST=ADDRESS; for example reviews=:9080"),
        (["a=:1,b=:2", "c=:x"], 2, "c=:x: the port of ':x' is not a number"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_written_is_said(folder, args, code, why):
    result = run(*args)
    assert (result.exit_code, why in result.output) == (code, True), result.output
    assert os.listdir(folder) == []


def test_a_folder_that_ends_in_yaml_and_one_that_nobody_may_write_to(folder):
    (folder / "x.yaml").mkdir()
    assert "is not a regular file" in run("reviews=:1", "-o", "mesh/x.yaml").output
    if os.geteuid():
        folder.chmod(0o500)
        assert "cannot be written" in run("reviews=:1").output


def test_a_dash_prints_it(folder):
    result = run("reviews=v1@:1", "-n", "prod", "-o", "-")
    assert 'metadata: {name: "local-endpoints", namespace: "prod"}' in result.output
    assert os.listdir(folder) == []


def test_no_word_ends_the_comment_that_tells_of_it(folder):
    run("reviews=v1\nkind@:1")
    (resource,) = load(folder).resources
    assert resource.spec.hosts[0].subset == "v1\nkind"


def test_a_link_is_followed(folder):
    elsewhere = folder.parent / "elsewhere.yaml"
    elsewhere.write_text("")
    (folder / "local-endpoints.yaml").symlink_to(elsewhere)
    assert run("reviews=:1").exit_code == 0
    assert "reviews" in elsewhere.read_text()
    assert (folder / "local-endpoints.yaml").is_symlink()
