"""What is handed in again, or said again by a file that has changed, is the same resource object as before."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from meshlib.resources.content import content_digest
from meshlib.resources.loader import LoadMemo, load, load_objects
from meshlib.resources.object_memo import ObjectMemo
from tests.support.resources import service, to, virtual_service

A, B, C = service("a"), service("b"), virtual_service("c", {"route": [to("a")]})


def same(one: list[Any], other: list[Any]) -> list[bool]:
    return [x is y for x, y in zip(one, other, strict=True)]


# -- objects


def test_dicts_that_say_the_same_give_the_same_resources():
    memo = ObjectMemo()
    before = load_objects([A, B, C], memo=memo).resources
    other = copy.deepcopy(B)
    other["spec"]["ports"][0]["port"] = 1
    after = load_objects([copy.deepcopy(A), other, copy.deepcopy(C)], memo=memo).resources
    assert same(before, after) == [True, False, True]


def test_a_dict_that_was_changed_in_place_is_another_resource():
    memo = ObjectMemo()
    mine = copy.deepcopy(A)
    before = load_objects([mine], memo=memo).resources
    mine["spec"]["ports"][0]["port"] = 1
    after = load_objects([mine], memo=memo).resources
    assert before[0].spec.ports[0].port == 9080
    assert after[0].spec.ports[0].port == 1


@pytest.mark.parametrize("other", [True, 1.0, "1"])
def test_values_of_another_type_are_not_the_same(other):
    assert content_digest({"spec": {"n": 1}}) != content_digest({"spec": {"n": other}})


def test_long_lists_are_told_apart_from_what_stands_beside_them():
    entries = [{"n": n} for n in range(20)]
    documents = [
        {"spec": {"a": entries}},
        {"spec": {"a": entries[:-1]}},
        {"spec": {"a": [*entries[:-1], {"n": 0}]}},
        {"spec": {"b": entries}},
        {"spec": {"a": entries, "b": []}},
        {"spec": {"a": entries}, "b": []},
        {"a": entries},
        {"spec": entries},
    ]
    assert len({content_digest(document) for document in documents}) == len(documents)


def test_what_is_said_of_a_dict_is_said_each_time():
    memo = ObjectMemo()
    old = {**C, "apiVersion": "networking.istio.io/v1alpha3"}
    said = [[str(p) for p in load_objects([A, old], memo=memo).problems] for _ in range(3)]
    assert said[0]
    assert said == [said[0]] * 3


def test_resources_that_are_known_are_taken_as_they_are():
    memo = ObjectMemo()
    a, b = load_objects([A, B]).resources
    for resources in ([a], [a, b], [b, a], [b], load_objects([B]).resources):
        result = load_objects(resources, memo=memo)
        assert same(result.resources, resources) == [True] * len(resources)
        assert result.problems == []


@pytest.mark.parametrize("first", [[], ["b"], ["a"], ["a", "b"]])
def test_a_resource_that_is_there_twice_is_said_whatever_was_there_before(first):
    memo = ObjectMemo()
    known = {"a": load_objects([A]).resources[0], "b": load_objects([B]).resources[0]}
    load_objects([known[name] for name in first], memo=memo)
    again = load_objects([A]).resources[0]
    for resources in ([known["a"], known["b"], again], [known["a"], known["a"]]):
        assert [p.code for p in load_objects(resources, memo=memo).problems] == ["duplicate-resource"]
    assert [p.code for p in load_objects([A, copy.deepcopy(A)], memo=memo).problems] == ["duplicate-resource"]


# -- files


def write(path: Path, *resources: dict[str, Any]) -> None:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": resources}))


def test_of_a_file_that_changed_what_it_still_says_stays_the_same_objects(tmp_path):
    path = tmp_path / "all.json"
    memo = LoadMemo()
    write(path, A, B, C)
    before = load(path, memo=memo).resources
    other = copy.deepcopy(B)
    other["spec"]["ports"][0]["port"] = 1
    write(path, other, A, C)
    after = load(path, memo=memo, read_all=True).resources
    assert [r.name for r in after] == ["b", "a", "c"]
    assert same(before, [after[1], after[0], after[2]]) == [True, False, True]
    assert [r.origin.document for r in after] == [1, 2, 3]
    write(path, A, C)
    assert same([before[0], before[2]], load(path, memo=memo, read_all=True).resources) == [True, True]


def test_a_problem_of_a_file_that_changed_is_said_again_at_its_new_line(tmp_path):
    path = tmp_path / "all.json"
    memo = LoadMemo()
    old = {**C, "apiVersion": "networking.istio.io/v1alpha3"}
    bad = {**B, "spec": {"ports": [{"port": "x"}]}}
    for resources in ([A, old, bad], [old, A, bad], [bad, old]):
        write(path, *resources)
        fresh = load(path)
        found = load(path, memo=memo, read_all=True)
        assert [str(p) for p in found.problems] == [str(p) for p in fresh.problems]
        assert len(found.problems) == 2


def test_a_typed_list_that_becomes_another_gives_resources_of_the_other_kind(tmp_path):
    path = tmp_path / "all.json"
    memo = LoadMemo()
    item = {"metadata": {"name": "x"}, "spec": {"host": "x"}}
    found = []
    for kind, version in (("DestinationRule", "networking.istio.io/v1"), ("ResiliencePolicy", "meshlib.dev/v1")):
        path.write_text(json.dumps({"apiVersion": version, "kind": f"{kind}List", "items": [item]}))
        found += load(path, memo=memo, read_all=True).resources
    assert [r.kind for r in found] == ["DestinationRule", "ResiliencePolicy"]


def test_the_same_document_twice_in_a_file_that_changed_is_said_with_the_place_of_the_first(tmp_path):
    path = tmp_path / "all.json"
    memo = LoadMemo()
    for resources in ([A, B], [A, B, A]):
        write(path, *resources)
        found = load(path, memo=memo, read_all=True)
    assert [str(p) for p in found.problems] == [str(p) for p in load(path).problems]
    assert [p.code for p in found.problems] == ["duplicate-resource"]


def test_a_file_that_has_not_changed_is_not_read_again_to_say_where_what_is_said_of_it_stands(tmp_path, monkeypatch):
    path = tmp_path / "old.yaml"
    path.write_text(json.dumps({**C, "apiVersion": "networking.istio.io/v1alpha3"}, indent=1))
    memo = LoadMemo()
    before = [str(p) for p in load(path, memo=memo).problems]
    assert before
    monkeypatch.setattr("meshlib.resources.document.Source._both", lambda _: 1 / 0)
    assert [str(p) for p in load(path, memo=memo).problems] == before
