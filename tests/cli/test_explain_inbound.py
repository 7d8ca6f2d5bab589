"""``meshlib explain --inbound``: what happens to a request that a workload serves."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main

POLICIES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: prod}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/prod/sa/web]}}]
    to: [{operation: {hosts: [reviews], ports: ["9080"], methods: [POST]}}]
    when:
    - {key: "request.headers[x-key]", values: ["1"]}
    - {key: "request.auth.claims[team]", values: [a]}
    - {key: connection.sni, values: [reviews.test]}
    - {key: destination.ip, values: [10.0.0.9]}
    - {key: source.ip, values: [10.0.0.1]}
"""
ALL = [
    *["-X", "POST", "-H", "x-key:1", "--principal", "spiffe://cluster.local/ns/prod/sa/web", "--source-ip", "10.0.0.1"],
    *["--destination-ip", "10.0.0.9", "--port", "9080", "--host", "reviews", "--sni", "reviews.test", "--claims"],
    '{"team":"a"}',
    *["-n", "prod", "--labels", "app=reviews"],
]


@pytest.fixture
def mesh(tmp_path):
    (tmp_path / "policies.yaml").write_text(POLICIES)
    return str(tmp_path)


def run(*arguments):
    return CliRunner().invoke(main, ["explain", "--inbound", *arguments])


def test_it_prints_the_decision_and_the_policy(mesh):
    result = run(mesh, "/reviews/1?q", *ALL)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("allowed  200 rule 0 of AuthorizationPolicy/prod/callers lets it in\n")


@pytest.mark.parametrize(
    "left_out", ["-X", "-H", "--principal", "--source-ip", "--destination-ip", "--port", "--host", "--sni", "--claims"]
)
def test_each_option_is_of_the_request(mesh, left_out):
    at = ALL.index(left_out)
    result = run(mesh, "/reviews/1", *ALL[:at], *ALL[at + 2 :], "--format", "json")
    assert json.loads(result.output)["allowed"] is False


def test_it_looks_with_the_eyes_of_the_workload(mesh):
    result = run(mesh, "/reviews/1", "--labels", "app=other", "-n", "prod", "--format", "json")
    assert [p["reason"] for p in json.loads(result.output)["policies"]] == [
        "ALLOW: not for this workload: its selector wants app=reviews"
    ]


def test_a_grpc_call(mesh):
    result = run(mesh, "/a.S/Get", "--protocol", "grpc", "-n", "prod", "--labels", "app=reviews", "--format", "json")
    assert json.loads(result.output)["grpc_status"] == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/x"], "give the resources and then the path"),
        (["{mesh}", "http://reviews/x"], "give the resources and then the path"),
        (["{mesh}", "/x", "--claims", "[1]"], "not an object"),
        (["{mesh}", "/x", "--claims", "{"], "not JSON"),
        (["{mesh}", "/x", "--port", "0"], "--port"),
        (["{mesh}", "/x", "-H", "x"], "not a header"),
        (["{mesh}", "/x", "--source-ip", "nowhere"], "source_ip must be an IP address"),
    ],
)
def test_wrong_usage_says_what_is_right_and_exits_2(mesh, arguments, words):
    result = run(*[argument.format(mesh=mesh) if "{mesh}" in argument else argument for argument in arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_what_is_of_requests_that_come_in_is_refused_without_inbound(mesh):
    result = CliRunner().invoke(main, ["explain", mesh, "http://reviews/", "--principal", "x"])
    assert result.exit_code == 2
    assert "--principal is of requests that come in: give --inbound, too" in result.output


def test_strict_is_told_with_its_policy_for_a_caller_in_plain_text_and_for_one_with_an_identity(tmp_path):
    (tmp_path / "mesh.yaml").write_text(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all, namespace: prod}\n"
        "spec: {mtls: {mode: STRICT}}\n"
    )
    refused = run(str(tmp_path), "/", "-n", "prod", "--port", "9080")
    assert refused.output.splitlines()[0] == (
        "refused  403 PeerAuthentication/prod/all is STRICT: port 9080 takes mTLS alone, and this is plain text"
    )
    let_in = run(str(tmp_path), "/", "-n", "prod", "--port", "9080", "--principal", "cluster.local/ns/prod/sa/web")
    assert let_in.output.startswith("allowed  200")
    assert "mtls     STRICT by PeerAuthentication/prod/all" in let_in.output
