"""What all that is measured obeys."""

from __future__ import annotations

import meshlib
from meshlib.bench import resources


def test_requests_take_the_last_of_however_many_rules() -> None:
    with meshlib.Mesh.from_resources(resources.measured(1, more_rules=99)) as mesh:
        told = str(mesh.explain(url="http://reviews:9080/size/1024"))
    assert "http[100]" in told


def test_with_one_endpoint_all_calls_take_the_same_rules_to_it() -> None:
    all_of_them = resources.measured(1, "grpc")
    made = resources.with_one_endpoint(all_of_them)
    assert [each["status"]["podIP"] for each in made if each["kind"] == "Pod"] == [resources.ADDRESSES["v1"][0]]
    routes, before = made[-1]["spec"]["http"][-1]["route"], all_of_them[-1]["spec"]["http"][-1]["route"]
    assert [each["weight"] for each in routes] == [each["weight"] for each in before]
    assert {each["destination"]["subset"] for each in routes} == {"v1"}
    assert {each["destination"]["subset"] for each in before} == {"v1", "v2"}


def test_everything_is_armed_and_nothing_is_without_effect() -> None:
    for protocol in ("http", "grpc"):
        *_, rule, service = resources.measured(1, protocol)
        assert rule["spec"]["trafficPolicy"]["outlierDetection"]
        route = service["spec"]["http"][-1]
        assert (route["timeout"], route["retries"]["attempts"]) == ("5s", 2)


def test_a_server_lets_in_what_is_asked_for_by_the_last_of_its_rules() -> None:
    (policy,) = resources.admitting(100)
    *others, last = [rule["to"][0]["operation"]["paths"] for rule in policy["spec"]["rules"]]
    assert (len(others), last) == (99, ["/size/*"])


def test_ten_thousand_rules_of_a_server_are_policies_that_a_mesh_takes() -> None:
    """One AuthorizationPolicy may have 512: rows of 10,000 were left out of every report."""
    made = resources.admitting(10_000)
    assert sum(len(policy["spec"]["rules"]) for policy in made) == 10_000
    assert made[-1]["spec"]["rules"][-1]["to"][0]["operation"]["paths"] == ["/size/*"]
    with meshlib.Mesh.from_resources(made):
        pass


def test_with_a_principal_callers_speak_mtls_to_it() -> None:
    made = resources.measured(1, principal="server")
    assert made[-2]["spec"]["trafficPolicy"]["tls"] == {"mode": "ISTIO_MUTUAL"}
    assert {each["spec"].get("serviceAccountName") for each in made if each["kind"] == "Pod"} == {"server"}
