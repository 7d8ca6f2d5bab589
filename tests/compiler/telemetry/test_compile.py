"""Which Telemetries count for a workload, and in which order: what comes last is the nearest."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import Compiler
from meshlib.compiler.telemetry.compile import applicable
from meshlib.policy.telemetry_settings import DEFAULT_TELEMETRY
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import OURS, in_root, telemetry, told


def sampling(percent: float) -> list[dict[str, Any]]:
    return [{"randomSamplingPercentage": percent}]


def sampled(*resources: dict[str, Any], workload: Workload = OURS) -> float | None:
    return told(*resources, workload=workload).client.tracing.sampling


ROOT = in_root(tracing=sampling(1))
WIDE = telemetry("wide", tracing=sampling(2))
MINE = telemetry("mine", selector={"matchLabels": {"app": "orders"}}, tracing=sampling(3))


def test_without_a_telemetry_the_defaults_hold():
    assert told() == DEFAULT_TELEMETRY


def test_the_workload_before_its_namespace_before_the_mesh():
    assert sampled(ROOT) == 1
    assert sampled(WIDE, ROOT) == 2
    assert sampled(MINE, WIDE, ROOT) == 3
    assert told(MINE, WIDE, ROOT).resources == ("istio-system/mesh", "default/wide", "default/mine")


def test_a_selector_must_fit_and_the_namespace_be_the_workloads():
    assert sampled(MINE, workload=Workload("other", labels={"app": "other"})) is None
    assert sampled(MINE, WIDE, ROOT, workload=Workload("orders", "shop", {"app": "orders"})) == 1


def test_of_several_without_a_selector_the_oldest_counts():
    newer = telemetry("a", created="2024-02-02T00:00:00Z", tracing=sampling(5))
    older = telemetry("b", created="2024-01-01T00:00:00Z", tracing=sampling(6))
    assert sampled(newer, older) == 6


def test_of_several_that_select_the_workload_all_count_the_newest_last():
    newer = telemetry(
        "a",
        created="2024-02-02T00:00:00Z",
        selector={"matchLabels": {"app": "orders"}},
        tracing=[{"disableSpanReporting": True}],
    )
    older = telemetry(
        "b",
        created="2024-01-01T00:00:00Z",
        selector={"matchLabels": {"version": "v1"}},
        tracing=[{"randomSamplingPercentage": 7, "disableSpanReporting": False}],
    )
    found = told(newer, older).client.tracing
    assert (found.sampling, found.disabled) == (7, True)


def test_an_empty_selector_selects_nothing_in_particular():
    assert sampled(telemetry("empty", selector={"matchLabels": {}}, tracing=sampling(4))) == 4


def test_one_with_target_refs_is_for_gateways_and_waypoints():
    refs = [{"kind": "Service", "name": "orders"}]
    assert sampled(telemetry("svc", targetRefs=refs, tracing=sampling(9)), ROOT) == 1
    assert sampled(telemetry("svc", targetRef=refs[0], tracing=sampling(9)), ROOT) == 1


def test_the_root_namespace_is_the_one_mesh_config_names():
    ours = telemetry("mesh", "control", tracing=sampling(8))
    assert sampled(ours, mesh_config(rootNamespace="control"), ROOT) == 8


def test_a_workload_of_the_root_namespace_has_each_telemetry_once():
    resources = load_objects([ROOT]).resources
    found = applicable(resources, Workload("gate", "istio-system"), "istio-system")  # type: ignore[arg-type]
    assert [r.name for r in found] == ["mesh"]


def test_a_change_of_telemetry_is_compiled_anew():
    compiler = Compiler(OURS)
    first, second = load_objects([ROOT]).resources, load_objects([in_root(tracing=sampling(50))]).resources
    assert compiler.compile(first).telemetry.client.tracing.sampling == 1
    assert compiler.compile(second).telemetry.client.tracing.sampling == 50
    assert compiler.compile([]).telemetry == DEFAULT_TELEMETRY
