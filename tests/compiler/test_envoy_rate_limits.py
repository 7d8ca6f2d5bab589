"""Actions, conditions, fractions and headers of Envoy's rate limits."""

from __future__ import annotations

import pytest

from meshlib.compiler.envoy_rate_limits import fraction_of, header_match, headers_of, rate_limits_of
from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.policy.envoy_matchers import HeaderMatch, QueryMatch, TextMatch
from meshlib.policy.rate_limit_actions import GenericKey, QueryParameter, RemoteAddress, RequestHeader, ValueMatch


def limits(*actions, **more):
    said: list[str] = []
    found = rate_limits_of(Message({"rate_limits": [{"actions": list(actions), **more}]}, ""), said.append)
    return found, said


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ({"remote_address": {}}, RemoteAddress()),
        ({"masked_remote_address": {"v4_prefix_mask_len": 24}}, RemoteAddress("masked_remote_address", 24, 128)),
        ({"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}}, GenericKey("v", "k")),
        ({"request_headers": {"header_name": ":path", "descriptor_key": "PATH"}}, RequestHeader(":path", "PATH")),
        (
            {"query_parameters": {"query_parameter_name": "q", "descriptor_key": "k", "skip_if_absent": True}},
            QueryParameter("q", "k", True),
        ),
        (
            {"header_value_match": {"descriptor_value": "v", "headers": [{"name": "x", "exact_match": "y"}]}},
            ValueMatch("v", "header_match", (HeaderMatch("x", TextMatch("exact", "y")),)),
        ),
        (
            {
                "query_parameter_value_match": {
                    "descriptor_value": "v",
                    "expect_match": False,
                    "query_parameters": [{"name": "q"}],
                }
            },
            ValueMatch("v", "query_match", (QueryMatch("q"),), False),
        ),
    ],
)
def test_each_action(written, made):
    ((limit,), said) = limits(written)
    assert (limit.actions, said) == ((made,), [])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"source_cluster": {}}, "source_cluster has no counterpart"),
        ({"generic_key": {}}, "descriptor_value"),
        ({"generic_key": {"descriptor_value": "%REQ(x)%"}}, "without commands"),
        ({"request_headers": {"header_name": "x"}}, "descriptor_key"),
        ({"header_value_match": {"descriptor_value": "v"}}, "no conditions"),
        ({"header_value_match": {"descriptor_value": "v", "headers": [{"exact_match": "y"}]}}, "no name"),
        (
            {
                "header_value_match": {
                    "descriptor_value": "v",
                    "headers": [{"name": "x", "string_match": {"custom": {}}}],
                }
            },
            "not one condition",
        ),
        (
            {
                "header_value_match": {
                    "descriptor_value": "v",
                    "headers": [{"name": "x", "safe_regex_match": {"regex": "("}}],
                }
            },
            "RE2 refuses",
        ),
        ({}, "not one action"),
        ({"remote_address": {}, "generic_key": {}}, "not one action"),
    ],
)
def test_what_cannot_be_counted_by_is_left_out_and_told(written, words):
    found, (said,) = limits(written)
    assert found == ()
    assert words in said


def test_hits_stage_and_what_is_left_to_a_runtime():
    ((limit,), _) = limits({"remote_address": {}}, hits_addend={"number": 3}, stage=2)
    assert (limit.hits, limit.stage) == (3, 2)
    assert limits({"remote_address": {}}, disable_key="x") == ((), [])
    assert "hits_addend: format" in limits({"remote_address": {}}, hits_addend={"format": "%BYTES%"})[1][0]
    assert "apply_on_stream_done" in limits({"remote_address": {}}, apply_on_stream_done=True)[1][0]


def test_a_header_matcher_in_its_newer_spelling():
    written = {"name": "x", "string_match": {"contains": "y", "ignore_case": True}, "invert_match": True}
    assert header_match(Message(written, "h")) == HeaderMatch("x", TextMatch("contains", "y", True), invert=True)
    with pytest.raises(NotActedOn, match="weight"):
        header_match(Message({"name": "x", "weight": 3}, "h"))


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ({}, (100, 100)),
        ({"filter_enabled": {"runtime_key": "x"}}, (0, 100)),
        ({"filter_enabled": {"default_value": {"numerator": 5, "denominator": "TEN_THOUSAND"}}}, (5, 10_000)),
        ({"filter_enabled": {"default_value": {"numerator": 500}}}, (100, 100)),
    ],
)
def test_a_fraction_is_its_default_value_there_is_no_runtime(written, share):
    assert fraction_of(Message(written, ""), "filter_enabled", (100, 100)) == share


def test_headers_to_add_and_those_whose_value_is_a_command():
    said: list[str] = []
    written = [
        {"header": {"key": "X-A", "value": "50%%"}},
        {"header": {"key": "x-b", "value": "%REQ(x)%"}},
        {"header": {"key": "x", "value": "a\nb"}},
    ]
    assert headers_of(Message({"h": written}, ""), "h", said.append) == ((b"x-a", b"50%"),)
    assert len(said) == 2
