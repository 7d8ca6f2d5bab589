"""``mesh.explain_inbound``: what would become of a request that this workload serves, and which policy says so."""

from __future__ import annotations

from typing import Any

import pytest

import meshlib
from meshlib.mesh.explaining_inbound import request_of
from meshlib.problems import MeshError
from tests.differential.authorization import doors

WORKLOAD = meshlib.Workload(name="httpbin", namespace="foo", labels={"app": "httpbin"})
A = "cluster.local/ns/a/sa/one"


def policy(name: str, *rules: dict[str, Any], namespace: str = "foo", **spec: Any) -> dict[str, Any]:
    if rules:
        spec["rules"] = list(rules)
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


DENY = policy(
    "no-admin",
    {"to": [{"operation": {"methods": ["DELETE"]}}]},
    {"to": [{"operation": {"paths": ["/admin*"]}}]},
    action="DENY",
)
ALLOW = policy("callers", {"from": [{"source": {"principals": [A]}}]})


def explain(*policies: dict[str, Any], **request: Any) -> Any:
    with meshlib.Mesh.from_resources(policies, workload=WORKLOAD) as mesh:
        return mesh.explain_inbound(**request)


def test_the_deny_rule_that_refuses_is_named():
    found = explain(DENY, ALLOW, path="/admin/x?y=1", principal=A).to_dict()
    assert (found["allowed"], found["status"], found["policy"], found["rule"]) == (False, 403, "foo/no-admin", 1)
    assert found["resource"] == "AuthorizationPolicy/foo/no-admin"
    assert [(p["policy"], p["matched"], p["rule"]) for p in found["policies"]] == [
        ("foo/no-admin", True, 1),
        ("foo/callers", True, 0),
    ]


def test_the_allow_rule_that_lets_in_is_named():
    found = explain(DENY, ALLOW, principal=A).to_dict()
    assert (found["allowed"], found["status"], found["policy"], found["rule"]) == (True, 200, "foo/callers", 0)


def test_of_each_policy_that_did_not_match_the_reason_is_told():
    found = explain(DENY, ALLOW)
    assert (found.allowed, found.policy, found.rule) == (False, "", None)
    assert "no rule of theirs matches" in found.reason
    assert "principals" in str(found)
    assert "the peer has no identity" in str(found)


def test_without_policies_everybody_comes_in_and_it_says_so():
    found = explain()
    assert (found.allowed, found.status, found.policy, found.policies) == (True, 200, "", ())
    assert "no AuthorizationPolicy" in str(found)


def test_policies_that_are_not_for_this_workload_say_why():
    """The first question of who wonders that a policy does nothing."""
    other = policy("v2", action="DENY", rules=[{}], selector={"matchLabels": {"app": "httpbin", "version": "v2"}})
    waypoint = policy("way", targetRefs=[{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "w"}])
    foreign = policy("far", namespace="far")
    found = explain(other, waypoint, foreign, ALLOW, principal=A)
    assert found.allowed
    assert {p.policy: p.reason for p in found.policies if not p.matched} == {
        "foo/v2": "DENY: not for this workload: its selector wants version=v2",
        "foo/way": "ALLOW: not for this workload: its targetRefs are waypoints and gateways, and this workload has no "
        "label gateway.networking.k8s.io/gateway-name",
    }
    assert found.notes == ("1 AuthorizationPolicy of another namespace is not for this workload",)


def test_a_principal_may_have_its_scheme_or_not():
    assert explain(ALLOW, principal=A).allowed
    assert explain(ALLOW, principal=f"spiffe://{A}").allowed
    assert not explain(ALLOW, principal="cluster.local/ns/a/sa/two").allowed


def test_what_is_no_spiffe_id_identifies_nobody_and_a_note_says_so():
    found = explain(ALLOW, principal=f"{A}/../x")
    assert not found.allowed
    assert "a server takes such a peer for one without identity" in found.notes[0]


def test_a_grpc_call_gets_its_status():
    assert explain(DENY, ALLOW, path="/a.S/Get", protocol="grpc").grpc_status == 7
    assert explain(DENY, path="/a.S/Get", protocol="grpc").grpc_status == 0
    assert explain(DENY).grpc_status is None


def test_a_grpc_call_is_a_post_unless_it_is_said_otherwise():
    posts = policy("posts", {"to": [{"operation": {"methods": ["POST"]}}]})
    assert explain(posts, path="/a.S/Get", protocol="GRPC").allowed
    assert not explain(posts, path="/a.S/Get", protocol="grpc", method="GET").allowed
    assert not explain(posts).allowed


def test_a_path_that_no_policy_can_judge_is_no_request():
    found = explain(ALLOW, path="/%00", principal=A)
    assert (found.allowed, found.status, found.policy) == (False, 400, "")


def test_no_token_is_another_thing_than_an_empty_one():
    rule = policy("tokens", {"from": [{"source": {"requestPrincipals": ["*"]}}]})
    assert not explain(rule).allowed
    assert not explain(rule, claims={}).allowed
    assert explain(rule, claims={"iss": "https://idp.test", "sub": "ann"}).allowed


def test_scope_is_a_list_of_words_as_it_is_to_istio():
    rule = policy("scopes", {"when": [{"key": "request.auth.claims[scope]", "values": ["write"]}]})
    assert explain(rule, claims={"scope": "read write"}).allowed
    assert not explain(rule, claims={"scope": "readwrite"}).allowed


def test_what_is_not_said_of_the_connection_counts_against_the_caller():
    denied = policy("port", {"to": [{"operation": {"ports": ["8080"]}}]}, action="DENY")
    assert not explain(denied).allowed
    assert explain(denied, port=9090).allowed
    hosts = policy("host", {"to": [{"operation": {"hosts": ["a.test"]}}]})
    assert not explain(hosts).allowed
    assert explain(hosts, host="a.test").allowed
    assert explain(hosts, headers={"Host": "a.test"}).allowed


def test_headers_are_pairs_or_a_mapping():
    rule = policy("key", {"when": [{"key": "request.headers[x-key]", "values": ["1"]}]})
    assert explain(rule, headers={"X-Key": "1"}).allowed
    assert explain(rule, headers=[("x-key", "1")]).allowed
    assert not explain(rule, headers=[("x-key", "1"), ("x-key", "2")]).allowed


def test_values_of_headers_claims_and_query_are_not_repeated():
    rule = policy("key", {"when": [{"key": "request.headers[x-key]", "values": ["other"]}]})
    told = explain(
        rule, path="/?token=s3cr3t", headers={"x-key": "s3cr3t"}, claims={"iss": "i", "sub": "s", "k": "s3cr3t"}
    )
    assert "s3cr3t" not in str(told) + str(told.to_dict()) + repr(told)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"path": "admin"}, "path"),
        ({"source_ip": "localhost"}, "source_ip"),
        ({"destination_ip": "1.2.3"}, "destination_ip"),
        ({"protocol": "tcp"}, "protocol must be one of http"),
    ],
)
def test_what_no_request_could_be_is_an_error_that_says_what_is_right(wrong, word):
    with pytest.raises(MeshError, match=word):
        explain(**wrong)


def test_a_closed_mesh_explains_nothing():
    mesh = meshlib.Mesh.from_resources([])
    mesh.close()
    with pytest.raises(MeshError, match="closed"):
        mesh.explain_inbound()


def test_the_request_is_the_one_that_a_server_would_hand_in():
    request, notes = request_of(
        method="POST",
        path="/a%2Fb?q=1#f",
        headers=[("x", "1"), (":authority", "a.test")],
        host=None,
        principal=A,
        source_ip="::ffff:10.0.0.1",
        port=80,
        sni="",
        destination_ip="2001:db8::1",
        protocol="http",
        claims={"iss": "i", "sub": "s"},
    )
    assert (request.path, request.query, request.authority, request.source_ip) == (
        "/a%2Fb",
        "q=1",
        "a.test",
        "10.0.0.1",
    )
    assert (request.principal, request.secure, request.mutual) == (f"spiffe://{A}", True, True)
    assert (request.local_ip, request.claims, notes) == ("2001:db8::1", {"iss": "i", "sub": "s"}, [])


def test_it_says_of_random_requests_what_the_engine_and_a_server_do():
    """Every field of policies, paths of many spellings, callers of all kinds: the referee's."""
    cases = doors.cases(2, 12, 25)
    explained = list(doors.explained(cases))
    assert list(doors.decided(cases)) == explained
    served = [decision.status for decision in doors.through_wsgi(cases)]
    assert [decision.status for decision in explained] == served
    assert {200, 400, 403} == set(served)
