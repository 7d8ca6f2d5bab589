"""What a workload does to the requests it serves, and which service it is."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.inbound import Inbound, InboundPorts
from meshlib.compiler.snapshot import Snapshot
from meshlib.policy.fault import FaultPolicy
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import pod, service

RATINGS = Workload("ratings-v1", labels={"app": "ratings", "version": "v1"})
ABORT = {"abort": {"http_status": 503, "percentage": {"numerator": 100}}}
ABORT_ALL = FaultPolicy(abort_status=503, abort_share=1_000_000)


def compiled(*resources: dict[str, Any]) -> Snapshot:
    return compile_snapshot(load_objects(resources).resources, RATINGS)


def test_what_is_said_of_a_port_counts_there_in_place_of_the_rest():
    rest, special = Inbound(), Inbound()
    ports = InboundPorts(rest, {8080: special})
    assert (ports.of(8080), ports.of(80), ports.of(0)) == (special, rest, rest)
    assert {
        i.service for i in (ports.serving("a.b", ports.declared).of(8080), ports.serving("a.b", ports.declared).of(0))
    } == {"a.b"}


def test_the_service_of_the_workload_is_the_oldest_that_selects_it():
    young, old = service("ratings"), service("rates")
    old["spec"]["selector"] = {"app": "ratings"}
    young["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    old["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    elsewhere = service("ratings", namespace="other")
    assert compiled(young, old, elsewhere, service("reviews")).inbound.service == "rates.default.svc.cluster.local"
    assert compiled(elsewhere, service("reviews")).inbound.service == ""


def test_a_change_of_endpoints_keeps_faults_and_a_change_of_selectors_finds_the_service_anew():
    compiler = Compiler(RATINGS)
    fault, ratings = envoy_filter("f", fault_patch(**ABORT)), service("ratings")
    kept = load_objects([fault]).resources
    ratings["spec"]["selector"] = {"app": "other"}
    first = compiler.compile([*kept, *load_objects([ratings, pod("ratings", "v1", 9080)]).resources])
    ratings["spec"]["selector"] = {"app": "ratings"}
    second = compiler.compile([*kept, *load_objects([ratings, pod("ratings", "v1", 9081)]).resources])
    assert second.ports is first.ports, "the path that compiles endpoints only"
    assert first.inbound.service == ""
    assert second.inbound.service == "ratings.default.svc.cluster.local"
    assert second.inbound.default.faults == (ABORT_ALL,)
