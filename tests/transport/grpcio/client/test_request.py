"""A gRPC call as policy reads it, rules change it and grpcio sends it."""

from __future__ import annotations

import pytest

from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.request import MANY, CallOptions, GrpcRequest
from meshlib.transport.grpcio.client.requests import ReplayIterator

METHOD = Method("unary_unary", "/shop.Ratings/Get", None, None)
STREAMING = Method("unary_stream", "/shop.Ratings/List", None, None)


def request(metadata=(), timeout=None, messages=b"", method=METHOD, options=None):
    return GrpcRequest(method, messages, "http", "ratings:9080", "ratings:9080", metadata, timeout, options)


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def test_policy_sees_an_http2_post():
    made = request()
    assert (made.method, made.path, made.full_path, made.query, made.version) == (
        "POST",
        "/shop.Ratings/Get",
        "/shop.Ratings/Get",
        "",
        "HTTP/2",
    )
    assert (made.scheme, made.authority, made.dialled) == ("http", "ratings:9080", "ratings:9080")


@pytest.mark.parametrize("metadata", [(), (("x", "1"),)])
def test_what_grpcio_sends_by_itself_can_be_matched(metadata):
    made = request(metadata, timeout=1.5)
    assert made.header("content-type") == "application/grpc"
    assert made.header("te") == "trailers"
    assert made.header("grpc-timeout") == "1500m"
    assert made.header("y") is None


def test_repeated_keys_are_joined_and_told_apart():
    made = request((("x", "1"), ("y", b"\xe9"), ("x", "2")))
    assert made.header_values("x") == ["1", "2"]
    assert made.header("x") == "1,2"
    assert made.header("y") == "\xe9"
    assert made.header_values("y") is None
    assert request().header_values("x") is None


@pytest.mark.parametrize("attempt", [1, 2, MANY - 1, MANY, MANY + 7])
@pytest.mark.parametrize("metadata", [(), (("x", "1"),)])
def test_each_attempt_tells_its_number_last(metadata, attempt):
    *before, (name, value) = request(metadata).metadata(attempt)
    assert tuple(before) == metadata
    assert (text(name), text(value)) == ("x-envoy-attempt-count", str(attempt))


def test_a_number_that_stands_before_what_rules_add_is_counted_in_its_place():
    made = request((("x", "1"),))
    made.headers = [*made.count_first(), (b"added", b"2")]
    assert made.metadata(3) == (("x", "1"), ("x-envoy-attempt-count", "3"), ("added", "2"))


def test_headers_that_a_rule_changes_without_counting_are_counted_at_the_end():
    made = request((("x", "1"),))
    made.headers = [(b"added", b"2")]
    assert made.metadata(1) == (("added", "2"), (b"x-envoy-attempt-count", b"1"))


def test_a_host_that_a_rule_sets_is_the_authority_and_one_of_the_callers_metadata_is_not():
    made = request((("host", "mine"),))
    made.headers = [*made.headers, (b"host", b"ruled")]
    assert made.sent_authority == "ruled"
    same = request((("host", "mine"),))
    same.headers = list(same.headers)
    assert same.sent_authority == ""


def test_a_deadline_replaces_the_header_and_grpc_timeout_is_grpcios_own():
    made = request((("x-deadline", "9"), ("x", "1")))
    made.set_deadline("grpc-timeout", 1.0)
    assert made._raw is None
    made.set_deadline("x-deadline", 1.0)
    names = [name for name, _ in made.headers]
    assert names == [b"x", b"x-deadline"]
    assert made.metadata(1)[-1] == (b"x-envoy-attempt-count", b"1")


def test_bytes_are_whole_and_replayable_and_a_stream_of_responses_is_never_whole():
    made = request()
    assert (made.replayable, made.whole, made.sent) == (True, True, True)
    assert not request(method=STREAMING).whole


def test_a_stream_of_requests_is_whole_once_it_has_ended_and_replayable_until_the_commit():
    messages = ReplayIterator(iter([b"a"]), None)
    made = request(messages=messages)
    assert (made.replayable, made.whole) == (True, False)
    assert list(messages.attempt()) == [b"a"]
    assert made.whole
    messages.commit()
    assert not made.replayable


def test_a_shadow_says_so_in_its_authority_and_keeps_what_rules_made():
    made = request((("x", "1"),), options=CallOptions(None, None))
    made.headers = [*made.count_first(), (b"added", b"2")]
    made.target = b"/rewritten/Get"
    copy = made.shadow()
    assert copy.sent_authority == "ratings-shadow:9080"
    assert copy.target == b"/rewritten/Get"
    assert copy.metadata(1) == made.metadata(1)
    assert copy.call_options is None


def test_a_shadow_of_a_call_that_no_rule_changed_sends_the_callers_metadata():
    copy = request((("x", "1"),)).shadow()
    assert copy.metadata(1)[0] == ("x", "1")
    assert copy.header("x") == "1"


@pytest.mark.parametrize(
    ("metadata", "asks"),
    [
        ((), False),
        ((("authorization", "x"), ("x-request-id", "1")), False),
        ((("authorization", "x"), ("x-envoy-max-retries", "1")), True),
        (((b"x-y", "1"),), True),  # which may be anything
        (((1, "1"),), True),
        (("ab", "c"), True),
    ],
)
def test_only_headers_that_ask_something_of_the_proxy_do(metadata, asks):
    assert request(metadata).has_envoy_headers is asks
