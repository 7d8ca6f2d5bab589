"""What assertions on calls let pass, and what they say when they do not."""

from __future__ import annotations

import httpx
import pytest

from meshlib.testing import assert_attempts, assert_routed_to

ROUTED = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - name: all
        route: [{destination: {host: reviews, subset: v1}}]
        retries: {attempts: 2, retryOn: connect-failure}
    ---
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews}
    spec:
      host: reviews
      subsets: [{name: v1, labels: {version: v1}}]
"""
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def failed(mesh):
    with pytest.raises(httpx.ConnectError) as raised:
        mesh(ROUTED, endpoints={"reviews": {"v1": NOWHERE}}).client().get("http://reviews/")
    return raised


def test_attempts_are_those_of_the_exception_or_of_what_pytest_made_of_it(failed):
    assert_attempts(failed, 3)
    assert_attempts(failed.value, 3)
    assert_attempts(failed.value.exchange, 3)


def test_a_wrong_number_of_attempts_is_told_attempt_by_attempt(failed):
    with pytest.raises(AssertionError) as wrong:
        assert_attempts(failed, 1)
    assert str(wrong.value).startswith("expected 1 attempt, there were 3:\nVirtualService/default/reviews http[0]")
    assert [line for line in str(wrong.value).splitlines() if "attempt" in line][1:] == [
        f"  attempt {n}: {NOWHERE}: connect_failed after 0.0 ms: no connection to {NOWHERE}: Connection refused"
        for n in (1, 2, 3)
    ]


def test_a_call_that_a_policy_responds_to_has_no_attempts(mesh):
    text = ROUTED.replace("name: all", "fault: {abort: {percentage: {value: 100}, httpStatus: 418}}")
    response = mesh(text, endpoints={"reviews": {"v1": NOWHERE}}).client().get("http://reviews/")
    assert_attempts(response, 0)


@pytest.mark.parametrize("name", ["reviews", "reviews.default", "reviews.default.svc.cluster.local"])
def test_a_host_has_all_the_names_that_a_client_may_use(failed, name):
    assert_routed_to(failed, name, "v1", endpoint=NOWHERE, rule=0)
    assert_routed_to(failed, name, rule="all")


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"host": "ratings"}, "expected host ratings, it went to reviews.default.svc.cluster.local:"),
        ({"host": "reviews.shop"}, "expected host reviews.shop, it went to"),
        ({"host": "reviews", "subset": "v2"}, "expected subset v2, it went to v1:"),
        ({"host": "reviews", "subset": ""}, r"expected subset \(none\), it went to v1:"),
        ({"host": "reviews", "endpoint": "127.0.0.1:2"}, "expected endpoint 127.0.0.1:2, it went to 127.0.0.1:1:"),
        ({"host": "reviews", "rule": 1}, "expected rule 1, taken was 0 all:"),
    ],
)
def test_what_is_routed_elsewhere_is_told(failed, expected, said):
    with pytest.raises(AssertionError, match=said) as wrong:
        assert_routed_to(failed, **expected)
    assert "attempt 3" in str(wrong.value)


def test_what_is_no_call_through_the_mesh_is_an_error():
    with pytest.raises(TypeError, match="is not a call through the mesh"):
        assert_attempts(httpx.Response(200), 1)
