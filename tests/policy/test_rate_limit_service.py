"""What Envoy's rate-limit service is asked, and what it says, byte for byte as protobuf's own library has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.rate_limit_service import Status, Verdict, request, verdict
from meshlib.policy.token_bucket import Rate
from tests.support.ads_server import message
from tests.support.rate_limit_server import response

DESCRIPTORS = [((("PATH", "/"), ("remote_address", "10.0.0.1")), 1), ((("generic_key", "g"),), 3)]


def test_the_question_is_a_rate_limit_request():
    asked = message("envoy.service.ratelimit.v3.RateLimitRequest")().FromString(request("d", DESCRIPTORS))
    assert asked.domain == "d"
    assert [[(e.key, e.value) for e in d.entries] for d in asked.descriptors] == [
        [("PATH", "/"), ("remote_address", "10.0.0.1")],
        [("generic_key", "g")],
    ]
    assert [d.hits_addend.value for d in asked.descriptors] == [0, 3]
    assert not any(d.HasField("limit") for d in asked.descriptors)


@pytest.mark.parametrize(("per", "unit"), [(1.0, 1), (60.0, 2), (3600.0, 3), (86400.0, 4), (7.0, None)])
def test_the_rate_is_told_where_its_unit_can_say_it(per, unit):
    raw = request("d", DESCRIPTORS, Rate(5, per, 5))
    asked = message("envoy.service.ratelimit.v3.RateLimitRequest")().FromString(raw)
    for descriptor in asked.descriptors:
        assert descriptor.HasField("limit") is (unit is not None)
        if unit is not None:
            assert (descriptor.limit.requests_per_unit, descriptor.limit.unit) == (5, unit)


def test_the_verdict_is_read_with_all_that_it_says():
    raw = response(
        overallCode="OVER_LIMIT",
        statuses=[
            {"code": "OK", "currentLimit": {"requestsPerUnit": 10, "unit": "HOUR", "name": "n"}, "limitRemaining": 4},
            {
                "code": "OVER_LIMIT",
                "currentLimit": {"requestsPerUnit": 5, "unit": "MINUTE"},
                "durationUntilReset": "12.500s",
            },
            {"code": "OK"},
        ],
        responseHeadersToAdd=[{"key": "X-Why", "value": "limit"}, {"key": "content-length", "value": "0"}],
        requestHeadersToAdd=[{"key": "x-tier", "value": "free"}, {"key": "host", "value": "evil"}],
        rawBody="bm8=",
    ).SerializeToString()
    found = verdict(raw)
    nearest = Status(5, 60, 0, 12.5, True)
    assert found == Verdict(
        True,
        (Status(10, 3600, 4, 0.0, False, "n"), nearest),
        ((b"x-why", b"limit"),),
        (("x-tier", b"free"),),
        b"no",
    )
    assert found.nearest == nearest


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "neither"),
        (b"\x08\x07", "but 7"),
        (b"\xff\xff", "not a valid RateLimitResponse"),
    ],
)
def test_what_means_nothing_says_why(raw, words):
    found = verdict(raw)
    assert isinstance(found, str)
    assert words in found


def test_a_header_that_is_none_is_left_out_and_the_verdict_counts():
    bad = [{"key": "a b", "value": "x"}, {"key": "a", "value": "x\r\ny: z"}, {"key": "b", "value": "c"}]
    found = verdict(response(overallCode="OVER_LIMIT", responseHeadersToAdd=bad).SerializeToString())
    assert isinstance(found, Verdict)
    assert (found.over, found.for_caller) == (True, ((b"b", b"c"),))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_verdict_or_a_reason(raw):
    assert isinstance(verdict(raw), Verdict | str)
