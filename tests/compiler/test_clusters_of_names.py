"""ServiceEntries whose endpoints are names (resolution DNS): istiod writes the endpoints into the cluster, and without any
there is no cluster: 503, flag NC, not UH."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.routes import Destination
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.compiler.test_compile import snapshot
from tests.support.resources import destination_rule, to, virtual_service

HOST = "api.example.com"


def entry(*endpoints: dict[str, Any], resolution: str = "DNS", **spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "api", "namespace": "default"},
        "spec": {
            "hosts": [HOST],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": resolution,
        },
    }
    made["spec"] |= {**({"endpoints": list(endpoints)} if endpoints else {}), **spec}
    return made


def destination(*resources: dict[str, Any], subset: str = "v1") -> Destination:
    route = virtual_service(HOST, {"route": [to(HOST, subset)]})
    return snapshot(*resources, route).virtual_host(HOST, "http").rules[0].destinations[0]


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
def test_a_subset_without_an_endpoint_of_its_labels_has_no_cluster(resolution):
    found = destination(entry(resolution=resolution), destination_rule(HOST, "v1"))
    assert (found.cluster, "no endpoint with the labels of subset v1" in found.missing) == ("", True)


def test_a_subset_with_an_endpoint_of_its_labels_has_one():
    one = {"address": "one.example.net", "labels": {"version": "v1"}}
    assert destination(entry(one), destination_rule(HOST, "v1")).cluster == f"outbound|80|v1|{HOST}"
    assert destination(entry(one), destination_rule(HOST, "v1", "v2"), subset="v2").cluster == ""


def test_a_subset_that_passes_through_needs_no_endpoint():
    made = destination_rule(HOST, "v1")
    made["spec"]["subsets"][0]["trafficPolicy"] = {"loadBalancer": {"simple": "PASSTHROUGH"}}
    assert destination(entry(), made).cluster == f"outbound|80|v1|{HOST}"


def test_addresses_that_istiod_tells_of_later_make_a_cluster_from_the_start():
    static = entry({"address": "10.0.0.1"}, resolution="STATIC")
    assert destination(static, destination_rule(HOST, "v1")).cluster == f"outbound|80|v1|{HOST}"


def test_a_selector_that_selects_nobody_leaves_no_cluster_at_all():
    nobody = entry(workloadSelector={"labels": {"app": "nobody"}})
    assert destination(nobody, destination_rule(HOST, "v1")).cluster == ""
    assert destination(nobody, subset="").cluster == ""


def test_a_cluster_appears_with_its_first_endpoint():
    """A reload that brings nothing but a WorkloadEntry."""
    selecting = entry(workloadSelector={"labels": {"app": "api"}})
    workload = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"address": "one.example.net", "labels": {"app": "api"}},
    }
    route = virtual_service(HOST, {"route": [to(HOST)]})
    before = load_objects([selecting, route]).resources
    after = [*before, *load_objects([workload]).resources]
    compiler = Compiler(Workload())
    for resources, cluster in ((before, ""), (after, f"outbound|80||{HOST}"), (before, "")):
        snap = compiler.compile(resources)
        assert snap.virtual_host(HOST, "http").rules[0].destinations[0].cluster == cluster
