"""Which results are tried again, and when: Envoy's conditions, Istio's defaults."""

from __future__ import annotations

import random

import pytest

from meshlib.policy.retry import NO_RETRY, RetryPolicy, backoff, merge_request_headers, parse_retry_on, should_retry

CASES = [
    ("5xx", None, 503, True),
    ("5xx", None, 499, False),
    ("5xx", "TIMEOUT", 0, True),
    ("5xx", "CONNECT_FAILED", 0, True),
    ("gateway-error", None, 500, False),
    ("gateway-error", None, 502, True),
    ("gateway-error", "RESET", 0, True),
    ("reset", None, 503, False),
    ("reset", "RESET", 0, True),
    ("reset", "TIMEOUT", 0, True),
    ("connect-failure", "RESET", 0, False),
    ("connect-failure", "CONNECT_FAILED", 0, True),
    ("connect-failure", "CONNECT_TIMEOUT", 0, True),
    ("connect-failure", "TIMEOUT", 0, False),
    ("reset-before-request", "CONNECT_FAILED", 0, True),
    ("reset-before-request", "RESET", 0, False),
    ("retriable-4xx", None, 409, True),
    ("retriable-4xx", None, 404, False),
    ("503,418", None, 418, True),
    ("503,418", None, 500, False),
    ("5xx,reset", "OVERFLOW", 0, False),
    ("5xx,reset", "POOL_TIMEOUT", 0, False),
    ("5xx,reset", "REQUEST_BODY_FAILED", 0, False),
]


@pytest.mark.parametrize(("on", "failure", "status", "again"), CASES)
def test_each_condition_asks_for_a_retry_of_just_what_envoy_says(on, failure, status, again):
    policy = RetryPolicy(retry_on=parse_retry_on(on))
    assert should_retry(policy, failure=failure, status=status) is again


def test_the_global_timeout_is_never_retried():
    policy = RetryPolicy(retry_on=parse_retry_on("5xx,reset"))
    assert not should_retry(policy, failure="TIMEOUT", status=0, global_timeout=True)


def test_a_rate_limited_answer_is_retried_only_when_asked_for():
    headers = [(b"X-Envoy-RateLimited", b"true")]
    assert not should_retry(RetryPolicy(retry_on=parse_retry_on("5xx")), failure=None, status=503, headers=headers)
    both = RetryPolicy(retry_on=parse_retry_on("5xx,envoy-ratelimited"))
    assert should_retry(both, failure=None, status=503, headers=headers)


@pytest.mark.parametrize(
    ("on", "status", "again"),
    [("unavailable", b"14", True), ("unavailable", b"13", False), ("internal", b"13", True), ("cancelled", b"1", True)],
)
def test_grpc_conditions_look_at_a_trailers_only_status(on, status, again):
    policy = RetryPolicy(retry_on=parse_retry_on(on))
    assert should_retry(policy, failure=None, status=200, headers=[(b"grpc-status", status)]) is again
    assert not should_retry(policy, failure=None, status=200, headers=[])


def test_an_unknown_condition_is_refused_by_name():
    with pytest.raises(ValueError, match="'fxx'"):
        parse_retry_on("5xx,fxx")


def test_without_x_envoy_headers_the_policy_is_the_very_same_object():
    policy = RetryPolicy()
    assert merge_request_headers(policy, {}.get) is policy


def test_x_envoy_headers_are_merged():
    policy = RetryPolicy(attempts=1, retry_on=parse_retry_on("connect-failure"))
    headers = {"x-envoy-retry-on": "gateway-error,nonsense", "x-envoy-retriable-status-codes": "418"}
    merged = merge_request_headers(policy, headers.get)
    assert should_retry(merged, failure=None, status=502)
    assert should_retry(merged, failure="CONNECT_FAILED", status=0)
    assert merged.attempts == 1


def test_backoff_replays_from_the_seed():
    policy = RetryPolicy()
    one = [backoff(policy, n, random.Random(1), None) for n in (1, 2, 3)]
    assert one == [backoff(policy, n, random.Random(1), None) for n in (1, 2, 3)]


def test_where_retries_are_off_only_what_the_caller_asks_for_is_tried_again():
    asked = merge_request_headers(NO_RETRY, {"x-envoy-retry-on": "reset"}.get)
    assert (asked.attempts, asked.retry_on.text) == (1, "reset")
