"""Faults at servers: which configPatches of EnvoyFilters act, for whom, in which order, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.policy.fault import FaultPolicy
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.inbound import FAULT, HTTP_FAULT, envoy_filter, fault_patch

RATINGS = Workload("ratings-v1", labels={"app": "ratings", "version": "v1"})
ABORT = {"abort": {"http_status": 503, "percentage": {"numerator": 100}}}
ABORT_ALL = FaultPolicy(abort_status=503, abort_share=1_000_000)


def compiled(*resources: dict[str, Any], workload: Workload = RATINGS) -> Snapshot:
    return compile_snapshot(load_objects(resources).resources, workload)


def faults(*resources: dict[str, Any], workload: Workload = RATINGS) -> tuple[FaultPolicy, ...]:
    return compiled(*resources, workload=workload).inbound.default.faults


def notices(snapshot: Snapshot) -> list[str]:
    return [p.message for p in snapshot.problems if p.code == "no-effect"]


def said_of(resource: dict[str, Any]) -> str:
    """Why a patch does not act: what loading refuses it for, else the one notice. No fault is injected either way."""
    refused = load_objects([resource]).errors
    snapshot = compiled(resource)
    assert snapshot.inbound.default.faults == ()
    (message,) = [f"{p.path}: {p.message}" for p in refused] or notices(snapshot)
    return message


def test_without_envoy_filters_nothing_happens_to_requests():
    found = compiled().inbound.default
    assert (found.faults, found.checks, found.resources) == ((), (), ())


@pytest.mark.parametrize("operation", ["MERGE", "ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"])
def test_a_fault_merged_or_inserted_on_the_way_in_is_injected(operation):
    snapshot = compiled(envoy_filter("f", fault_patch(operation, **ABORT)))
    assert snapshot.inbound.default.faults == (ABORT_ALL,)
    assert snapshot.inbound.default.resources == ("EnvoyFilter/default/f",)
    assert notices(snapshot) == []


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("REMOVE", "REMOVE"),
        ("REPLACE", "REPLACE"),
        ("INVALID", "operation is missing"),
        ("MERGE_AND_REPLACE_LIST", "MERGE_AND_REPLACE_LIST"),
    ],
)
def test_other_operations_do_not_act_and_are_told_of(operation, said):
    assert said in said_of(envoy_filter("f", fault_patch(operation, **ABORT)))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (
            {"delay": {"fixed_delay": "2.5s", "percentage": {"numerator": 50, "denominator": "HUNDRED"}}},
            FaultPolicy(delay=2.5, delay_share=500_000),
        ),
        (
            {"delay": {"fixedDelay": "1s", "percentage": {"numerator": 7, "denominator": "TEN_THOUSAND"}}},
            FaultPolicy(delay=1.0, delay_share=700),
        ),
        (
            {"abort": {"grpcStatus": 14, "percentage": {"numerator": 3, "denominator": "MILLION"}}},
            FaultPolicy(abort_status=503, abort_grpc=14, abort_share=3),
        ),
        (
            {"abort": {"header_abort": {}, "percentage": {"numerator": 7, "denominator": "TEN_THOUSAND"}}},
            FaultPolicy(abort_share=700, header_abort=True, abort_unit=100),
        ),
        (
            {"delay": {"headerDelay": {}, "percentage": {"numerator": 100}}},
            FaultPolicy(delay_share=1_000_000, header_delay=True),
        ),
    ],
)
def test_every_value_of_the_fault_is_read_in_both_spellings(config, wanted):
    assert faults(envoy_filter("f", fault_patch(**config))) == (wanted,)


def test_a_percentage_that_is_absent_hits_nobody():
    assert faults(envoy_filter("f", fault_patch(abort={"http_status": 503}))) == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"delay": {"fixed_delay": 2}}, "fixed_delay"),
        ({"delay": {"fixed_delay": "soon"}}, "soon"),
        ({"delay": "2s"}, "an object (FaultDelay) is expected"),
        ({"abort": {"http_status": 199, "percentage": {"numerator": 1}}}, "http_status"),
        ({"abort": {"http_status": 600, "percentage": {"numerator": 1}}}, "http_status"),
        ({"abort": {"grpc_status": 17, "percentage": {"numerator": 1}}}, "grpc_status"),
        ({"abort": {"grpc_status": True, "percentage": {"numerator": 1}}}, "grpc_status"),
        ({"abort": {"http_status": 503, "percentage": {"numerator": -1}}}, "numerator"),
        ({"abort": {"http_status": 503, "percentage": {"numerator": 1, "denominator": "THOUSAND"}}}, "denominator"),
        ({"abort": {"http_status": 503, "percentage": {"numerator": 1, "denominator": []}}}, "denominator"),
        ({"abort": {"http_status": 503, "chance": 1}}, "chance"),
        ({**ABORT, "upstream_cluster": "x"}, "upstream_cluster"),
        ({**ABORT, "headers": [{"name": "x"}]}, "headers"),
        ({**ABORT, "max_active_faults": 1}, "max_active_faults"),
    ],
)
def test_a_fault_that_is_wrong_or_should_be_narrower_is_not_injected_at_all(config, said):
    assert said in said_of(envoy_filter("f", fault_patch(**config)))


def without_type() -> dict[str, Any]:
    patch = fault_patch(**ABORT)
    del patch["patch"]["value"]["typed_config"]["@type"]
    return patch


def test_a_value_without_a_type_is_refused():
    assert "@type is missing" in said_of(envoy_filter("f", without_type()))


def cluster_patch() -> dict[str, Any]:
    return {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}}}


def with_listener(**listener: Any) -> dict[str, Any]:
    patch = fault_patch(**ABORT)
    patch["match"]["listener"] = listener
    return patch


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (fault_patch(context="SIDECAR_OUTBOUND", **ABORT), "SIDECAR_OUTBOUND"),
        (fault_patch(context="GATEWAY", **ABORT), "GATEWAY"),
        (fault_patch(name="envoy.filters.http.lua", **ABORT), "of HTTP filters only"),
        (cluster_patch(), "no Envoy here"),
        (fault_patch("MERGE", neighbour="envoy.filters.http.router", **ABORT), "not the filter of its value"),
        (fault_patch("INSERT_BEFORE", neighbour="my.own.filter", **ABORT), "my.own.filter"),
        (with_listener(portNumber=8080), "there are no listeners"),
        (with_listener(filterChain={"sni": "x"}), "no filter chains"),
        (with_listener(filterChain={"filter": {"name": "envoy.filters.network.tcp_proxy"}}), "tcp_proxy"),
        (
            {"applyTo": "HTTP_FILTER", "patch": {"operation": "MERGE", "value": {"name": FAULT}}},
            "typed_config",
        ),
        (
            {**fault_patch(**ABORT), "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": "1.*"}}},
            "match.proxy",
        ),
    ],
)
def test_a_patch_that_is_not_a_fault_on_the_way_in_is_told_of(patch, said):
    snapshot = compiled(envoy_filter("f", patch))
    assert snapshot.inbound.default.faults == ()
    (problem,) = [p for p in snapshot.problems if p.code == "no-effect"]
    assert said in problem.message
    assert problem.path == "EnvoyFilter/default/f spec.configPatches[0]"


@pytest.mark.parametrize("context", [None, "ANY", "SIDECAR_INBOUND"])
def test_the_way_in_is_meant_by_its_name_by_any_and_by_silence(context):
    assert faults(envoy_filter("f", fault_patch(context=context, **ABORT))) == (ABORT_ALL,)


@pytest.mark.parametrize(
    ("namespace", "labels", "hit"),
    [
        ("default", None, True),
        ("default", {"app": "ratings"}, True),
        ("default", {"app": "ratings", "version": "v1"}, True),
        ("default", {"app": "reviews"}, False),
        ("default", {"app": "ratings", "tier": "x"}, False),
        ("other", None, False),
        ("istio-system", None, True),
        ("istio-system", {"app": "ratings"}, True),
        ("istio-system", {"app": "reviews"}, False),
    ],
)
def test_workload_selector_and_namespace_decide_for_whom(namespace, labels, hit):
    resource = envoy_filter("f", fault_patch(**ABORT), namespace=namespace, labels=labels)
    assert bool(faults(resource)) is hit


def test_target_refs_are_gateways_and_not_for_a_workload():
    resource = envoy_filter("f", fault_patch(**ABORT))
    resource["spec"]["targetRefs"] = [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "g"}]
    snapshot = compiled(resource)
    assert snapshot.inbound.default.faults == ()
    assert any("targetRefs" in said for said in notices(snapshot))


def abort(status: int, **more: Any) -> dict[str, Any]:
    return {"abort": {"http_status": status, "percentage": {"numerator": 100}, **more}}


def test_patches_are_applied_by_priority_then_root_namespace_then_age():
    def made(name: str, status: int, namespace: str = "default", priority: int | None = None, year: int = 2024) -> Any:
        resource = envoy_filter(name, fault_patch("ADD", **abort(status)), namespace=namespace)
        resource["metadata"]["creationTimestamp"] = f"{year}-01-01T00:00:00Z"
        if priority is not None:
            resource["spec"]["priority"] = priority
        return resource

    found = faults(
        made("late", 505, priority=10),
        made("young", 504, year=2025),
        made("old", 503, year=2020),
        made("root", 502, "istio-system", year=2025),
        made("first", 501, priority=-5),
    )
    assert [f.abort_status for f in found] == [501, 502, 503, 504, 505]


def test_merges_add_up_and_of_two_aborts_the_last_stays():
    one = fault_patch("MERGE", delay={"fixed_delay": "1s", "percentage": {"numerator": 10}}, **abort(503))
    two = fault_patch("MERGE", abort={"grpc_status": 7}, delay={"percentage": {"numerator": 100}})
    assert faults(envoy_filter("f", one, two)) == (
        FaultPolicy(delay=1.0, delay_share=1_000_000, abort_status=403, abort_grpc=7, abort_share=1_000_000),
    )


def test_a_merge_reaches_filters_that_were_inserted_before_it_and_not_those_after():
    first = fault_patch("ADD", **abort(501))
    merge = fault_patch("MERGE", abort={"http_status": 502, "percentage": {"numerator": 100}})
    last = fault_patch("ADD", **abort(503))
    assert [f.abort_status for f in faults(envoy_filter("f", first, merge, last))] == [502, 502, 503]


def test_the_type_url_is_checked():
    assert HTTP_FAULT.endswith("fault.v3.HTTPFault")
    other = fault_patch(**ABORT)
    other["patch"]["value"]["typed_config"]["@type"] = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    assert faults(envoy_filter("f", other)) == ()
