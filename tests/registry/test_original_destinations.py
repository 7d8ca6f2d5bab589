"""The names of headless services and of their pods, and the addresses that the registry gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from meshlib.registry.build import build_registry
from meshlib.registry.original_destinations import original_destinations
from meshlib.resources.loader import load_objects
from tests.support.resources import pod, service


def known(*resources: dict[str, Any], client: str = "default") -> Mapping[str, tuple[str, ...]]:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return original_destinations(build_registry(result.resources).all(), client)


HEADLESS = service("db", clusterIP="None")
FORMS = ("db", "db.default", "db.default.svc", "db.default.svc.cluster.local")


def test_a_pod_has_a_name_before_each_name_of_its_service():
    found = known(HEADLESS, pod("db", "v1", 1, "10.0.0.1", "db-0"), pod("db", "v1", 1, "10.0.0.2", "db-1"))
    for form in FORMS:
        assert found[form] == ("10.0.0.1", "10.0.0.2")
        assert (found[f"db-0.{form}"], found[f"db-1.{form}"]) == (("10.0.0.1",), ("10.0.0.2",))


def test_the_short_name_is_for_clients_of_the_services_namespace():
    found = known(HEADLESS, pod("db", "v1", 1, "10.0.0.1", "db-0"), client="other")
    assert "db-0.db" not in found
    assert "db-0.db.default" in found


def test_a_service_that_balances_has_no_such_names():
    assert known(service("db"), pod("db", "v1", 1, "10.0.0.1", "db-0")) == {}


def test_a_service_that_is_not_exported_to_the_client_has_none_either():
    hidden = {**HEADLESS, "metadata": {**HEADLESS["metadata"], "annotations": {"networking.istio.io/exportTo": "."}}}
    assert known(hidden, pod("db", "v1", 1, "10.0.0.1", "db-0"), client="other") == {}


def test_a_pod_that_is_not_ready_has_no_name_unless_the_service_publishes_it():
    waiting = pod("db", "v1", 1, "10.0.0.1", "db-0")
    waiting["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert known(HEADLESS, waiting) == {}
    assert known(service("db", clusterIP="None", publishNotReadyAddresses=True), waiting)["db-0.db"] == ("10.0.0.1",)


def test_the_hostname_of_the_pod_counts_before_its_own_name():
    made = pod("db", "v1", 1, "10.0.0.1", "db-abc")
    made["spec"]["hostname"] = "first"
    assert set(known(HEADLESS, made)) == {*FORMS, *(f"first.{form}" for form in FORMS)}


@pytest.mark.parametrize("named", [{"hostname": "db-0"}, {"targetRef": {"kind": "Pod", "name": "db-0"}}])
@pytest.mark.parametrize("kind", ["EndpointSlice", "Endpoints"])
def test_endpoints_name_their_pods(kind, named):
    metadata = {"name": "db", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}}
    ports = [{"name": "http", "port": 1}]
    made: dict[str, Any] = {"kind": kind, "metadata": metadata}
    if kind == "EndpointSlice":
        made |= {"apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "ports": ports}
        made["endpoints"] = [{"addresses": ["10.0.0.1"], **named}, {"addresses": ["10.0.0.2"]}]
    else:
        made |= {"apiVersion": "v1"}
        made["subsets"] = [{"ports": ports, "addresses": [{"ip": "10.0.0.1", **named}, {"ip": "10.0.0.2"}]}]
    found = known(HEADLESS, made)
    assert (found["db-0.db"], found["db"]) == (("10.0.0.1",), ("10.0.0.1", "10.0.0.2"))
