"""Which results are tried again, and when: Envoy's conditions, Istio's defaults."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed, wait_incrementing

from meshlib.policy.retry import (
    ASKED,
    CONDITIONS,
    GRPC_CONDITIONS,
    NO_RETRY,
    RetryOn,
    RetryPolicy,
    asked_timeouts,
    backoff,
    merge_request_headers,
    parse_retry_on,
    should_retry,
)

ANY_RESET = {"5xx", "gateway-error", "reset"}
FAILURES = {
    "CONNECT_FAILED": {"connect-failure", "reset-before-request", *ANY_RESET},
    "CONNECT_TIMEOUT": {"connect-failure", "reset-before-request", *ANY_RESET},
    "RESET": ANY_RESET,
    "PROTOCOL_ERROR": ANY_RESET,
    "REFUSED": {"refused-stream", *ANY_RESET},
    "TIMEOUT": ANY_RESET,
    "OVERFLOW": set(),
    "POOL_TIMEOUT": set(),
    "REQUEST_BODY_FAILED": set(),
}
"""The engine's names of failures and the conditions of Envoy that each meets."""

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


# -- the parsed conditions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_is_known_by_envoys_name_and_written_as_read(name):
    on = parse_retry_on(f" {name} ,, ")
    assert on.bits == CONDITIONS[name]
    assert on.text == ("" if name == "retriable-status-codes" else name)


def test_statuses_among_the_conditions_are_codes():
    on = parse_retry_on("503, +418,5xx")
    assert (on.codes, on.text) == ({418, 503}, "5xx,418,503")
    assert parse_retry_on("") == RetryOn(0)


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_tried_again_exactly_for_the_conditions_it_meets(name, failure):
    policy = RetryPolicy(retry_on=parse_retry_on(name))
    assert should_retry(policy, failure=failure, status=0) is (name in FAILURES[failure])


def test_the_defaults_are_istios():
    policy = RetryPolicy()
    assert (policy.attempts, policy.per_try_timeout) == (2, None)
    assert policy.retry_on.text == "connect-failure,refused-stream,cancelled,unavailable"
    assert (policy.backoff_base, policy.backoff_max) == (0.025, 0.25)
    assert policy.ignore_previous_hosts
    assert not policy.remote_localities


@pytest.mark.parametrize("status", [b"0", b"2", b"99", b"", b"1 4"])
def test_other_statuses_of_grpc_meet_no_condition(status):
    every = RetryPolicy(retry_on=parse_retry_on(",".join(GRPC_CONDITIONS)))
    assert not should_retry(every, failure=None, status=200, headers=[(b"grpc-status", status)])


def test_the_first_grpc_status_counts_whatever_its_case_and_spaces():
    policy = RetryPolicy(retry_on=parse_retry_on("unavailable"))
    assert should_retry(policy, failure=None, status=200, headers=[(b"a", b"1"), (b"Grpc-Status", b" 14 ")])
    twice = [(b"grpc-status", b"0"), (b"grpc-status", b"14")]
    assert not should_retry(policy, failure=None, status=200, headers=twice)


@pytest.mark.parametrize("status", [500, 501, 505])
def test_a_gateways_errors_are_three(status):
    assert not should_retry(RetryPolicy(retry_on=parse_retry_on("gateway-error")), failure=None, status=status)
    assert should_retry(RetryPolicy(retry_on=parse_retry_on("5xx")), failure=None, status=status)


def test_a_rate_limited_answer_may_still_be_one_of_the_codes():
    policy = RetryPolicy(retry_on=parse_retry_on("5xx,503"))
    assert should_retry(policy, failure=None, status=503, headers=[(b"x-envoy-ratelimited", b"")])


# -- what the caller's headers ask for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "on", "headers", "wanted"),
    [
        (2, "5xx", {"max-retries": "7"}, (7, "5xx")),
        (2, "5xx", {"max-retries": "0"}, (0, "5xx")),
        (2, "5xx", {"max-retries": "many"}, (2, "5xx")),
        (0, "", {"max-retries": "7"}, (0, "")),  # a count without a condition is none
        (0, "", {"retry-on": "reset", "max-retries": "7"}, (7, "reset")),
        (0, "", {"retry-grpc-on": "internal"}, (1, "internal")),
        (3, "5xx", {"retry-on": "reset"}, (3, "reset,5xx")),
        (0, "", {"retry-on": " reset , 5xx "}, (1, "reset,5xx")),
        (1, "503", {"retriable-status-codes": "418,x, 429"}, (1, "418,429,503")),
        (0, "", {"retriable-status-codes": "418"}, (0, "418")),
    ],
)
def test_conditions_are_added_and_the_count_is_replaced(attempts, on, headers, wanted):
    policy = RetryPolicy(attempts, parse_retry_on(on))
    merged = merge_request_headers(policy, {f"x-envoy-{k}": v for k, v in headers.items()}.get)
    assert (merged.attempts, merged.retry_on.text) == wanted


def test_the_callers_timeouts_are_milliseconds():
    headers = {"x-envoy-upstream-rq-timeout-ms": "1500", "x-envoy-upstream-rq-per-try-timeout-ms": "20"}
    assert asked_timeouts(headers.get) == (1.5, 0.02)
    assert asked_timeouts({"x-envoy-upstream-rq-timeout-ms": "soon"}.get) == (None, None)
    assert set(headers) < set(ASKED)


# -- backoff ----------------------------------------------------------------------------------------------------------


@given(st.floats(0.001, 1), st.floats(1, 20), st.integers(1, 12), st.integers(0, 1000))
def test_a_backoff_lies_between_nothing_and_its_doubling_ceiling(base, times, retry, seed):
    policy = RetryPolicy(backoff_base=base, backoff_max=base * times)
    ceiling = min(base * 2 ** (retry - 1), base * times)
    drawn = random.Random(seed).random()
    assert backoff(policy, retry, random.Random(seed), None) == pytest.approx(drawn * ceiling)


def test_a_strategy_of_tenacity_replaces_it_and_never_waits_a_negative_time():
    assert backoff(RetryPolicy(), 3, random.Random(1), wait_incrementing(1, 10)) == 21.0
    assert backoff(RetryPolicy(), 1, random.Random(1), wait_fixed(-1)) == 0.0


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (RetryPolicy(1, parse_retry_on("5xx")), "1 retry on 5xx"),
        (RetryPolicy(2, parse_retry_on("5xx"), 0.5), "2 retries on 5xx, 0.5 s per try"),
        (NO_RETRY, "no retries"),
    ],
)
def test_a_policy_has_words(policy, text):
    assert policy.text == text


# -- one condition is not another -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "status"),
    [
        ("cancelled", b"1"),
        ("deadline-exceeded", b"4"),
        ("resource-exhausted", b"8"),
        ("internal", b"13"),
        ("unavailable", b"14"),
    ],
)
def test_each_condition_of_grpc_is_one_status(on, status):
    headers = [(b"x-something", status), (b"grpc-status", status)]
    for other in GRPC_CONDITIONS:
        policy = RetryPolicy(retry_on=parse_retry_on(other))
        assert should_retry(policy, failure=None, status=200, headers=headers) is (other == on)
        assert not should_retry(policy, failure=None, status=200, headers=headers[:1])


@pytest.mark.parametrize(
    ("status", "met"),
    [
        (200, set()),
        (404, set()),
        (409, {"retriable-4xx"}),
        (500, {"5xx"}),
        (502, {"5xx", "gateway-error"}),
        (503, {"5xx", "gateway-error"}),
        (504, {"5xx", "gateway-error"}),
        (505, {"5xx"}),
    ],
)
def test_a_status_is_tried_again_exactly_for_the_conditions_it_meets(status, met):
    found = {on for on in CONDITIONS if should_retry(RetryPolicy(3, parse_retry_on(on)), failure=None, status=status)}
    assert found == met


def test_what_is_for_the_proxy_goes_no_further():
    assert set(ASKED) == {
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-retriable-status-codes",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
    }


def test_an_unknown_condition_is_told_with_those_that_are_known():
    with pytest.raises(ValueError) as told:
        parse_retry_on("5xx,often")
    assert str(told.value).startswith(
        "unknown retry condition 'often'; known: connect-failure, refused-stream, reset, "
    )
    assert str(told.value).endswith(", unavailable or an HTTP status")
