"""One size of one axis: the resources are as many as asked for, each call finds its own rule, and a change is applied."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import meshlib
from meshlib.bench import scale_probe
from meshlib.bench.scale_probe import ENDPOINTS, HASHED, KINDS, SERVICES, Asked, decisions, measure, scene
from meshlib.resources.loader import load_objects

NAMES = [SERVICES, ENDPOINTS, HASHED, *KINDS]


def addresses(size: int, name: str) -> list[str]:
    slices = [each for each in scene(name, size).objects if each["kind"] == "EndpointSlice"]
    return [address for each in slices for end in each["endpoints"] for address in end["addresses"]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 250])
def test_resources_load_without_a_problem(name: str, size: int) -> None:
    loaded = load_objects(scene(name, size).objects)
    assert not loaded.errors


@pytest.mark.parametrize(("name", "size", "wanted"), [(SERVICES, 3_000, 6_000), (ENDPOINTS, 100_000, 100_000)])
def test_every_endpoint_has_an_address_of_its_own(name: str, size: int, wanted: int) -> None:
    found = addresses(size, name)
    assert len(set(found)) == len(found) == wanted
    assert all(0 <= int(part) <= 255 for address in found for part in address.split("."))


@pytest.mark.parametrize("name", NAMES)
def test_each_call_finds_what_it_asks_for(name: str) -> None:
    made = scene(name, 120)
    with meshlib.Mesh.from_resources(made.objects, seed=1) as mesh:
        decisions(mesh, made.asked)()
        if name in KINDS:
            asked = made.asked[0]
            found = mesh.explain(method="GET", url=f"http://{asked.authority}{asked.path}", headers=asked.headers)
            assert f"-{found.rule}/" in asked.path


def test_a_call_that_no_rule_is_for_is_an_error() -> None:
    with meshlib.Mesh.from_resources(scene("exact paths", 3).objects, seed=1) as mesh:
        with pytest.raises(RuntimeError, match="no rule is for reviews:9080 /elsewhere"):
            decisions(mesh, [Asked("reviews:9080", "/elsewhere")])()


def test_all_figures_are_there_one_for_each_round() -> None:
    found = measure(ENDPOINTS, 5, 2)
    assert {name: len(values) for name, values in found.items()} == {
        "load": 2, "compile": 2, "memory": 1, "look-up": 2, "stall": 2,
    }  # fmt: skip
    assert all(value > 0 for values in found.values() for value in values)


def test_the_longest_gap_has_the_change_in_it() -> None:
    def busy() -> None:
        total = 0
        for n in range(300_000):
            total += n

    assert scale_probe._longest_gap(lambda: None, busy) > 0


def test_a_call_that_fails_meanwhile_fails_the_measurement() -> None:
    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(RuntimeError, match="a call failed while a change was applied"):
        scale_probe._longest_gap(broken, lambda: None)


def test_as_a_program_it_prints_one_line_of_json() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "meshlib.bench.scale_probe", "prefixes", "3", "1"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.endswith("\n")
    assert len(json.loads(said)["compile"]) == 1
