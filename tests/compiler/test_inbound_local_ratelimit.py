"""LocalRateLimit, read."""

from __future__ import annotations

import pytest

from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.compiler.inbound_local_ratelimit import local_rate_limit, rate_of
from meshlib.policy.token_bucket import Rate
from tests.support.rate_limits import bucket, local


def made(config):
    said: list[str] = []
    return local_rate_limit(Message(config, ""), True, (), (), said.append), said


def test_every_field_is_read():
    found, said = made(
        local(
            bucket(3),
            status={"code": 503},
            rate_limited_as_resource_exhausted=True,
            enable_x_ratelimit_headers=1,
            local_rate_limit_per_downstream_connection=True,
            always_consume_default_token_bucket=False,
            max_dynamic_descriptors=7,
            stage=0,
            response_headers_to_add=[{"header": {"key": "x-a", "value": "b"}}],
            request_headers_to_add_when_not_enforced=[{"header": {"key": "x-c", "value": "d"}}],
            descriptors=[{"entries": [{"key": "k"}], "token_bucket": bucket(1), "shadow_mode": True}],
        )
    )
    assert said == []
    assert (found.status, found.resource_exhausted, found.x_headers, found.per_connection) == (503, True, True, True)
    assert (found.limits.always_default, found.limits.max_dynamic) == (False, 7)
    assert (found.response_headers, found.request_headers) == (((b"x-a", b"b"),), ((b"x-c", b"d"),))
    assert found.limits.descriptors[0].shadow


def test_a_status_below_400_is_429_as_in_envoy():
    assert made(local(bucket(3), status={"code": 200}))[0].status == 429


@pytest.mark.parametrize("config", [{}, {"token_bucket": bucket(1)}, local(bucket(1)) | {"token_bucket": None}])
def test_what_limits_nothing_is_none(config):
    assert made(config)[0] is None


def test_the_same_descriptor_twice_is_refused_as_by_envoy():
    same = {"entries": [{"key": "k", "value": "v"}], "token_bucket": bucket(1)}
    with pytest.raises(NotActedOn, match="the same"):
        made(local(bucket(1), descriptors=[same, same]))


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ({"max_tokens": 5, "fill_interval": "1s"}, Rate(1, 1.0, 5)),
        ({"max_tokens": "5", "tokens_per_fill": 2, "fill_interval": "0.5s"}, Rate(2, 0.5, 5)),
        ({"fill_interval": "1s"}, Rate(1, 1.0, 0)),
        ({"max_tokens": 5}, None),
        ({"max_tokens": 5, "fill_interval": "0.049s"}, None),
        ({"max_tokens": -5, "fill_interval": "1s"}, None),
    ],
)
def test_a_bucket(written, rate):
    if rate is None:
        with pytest.raises(NotActedOn):
            rate_of(Message(written, "b"))
    else:
        assert rate_of(Message(written, "b")) == rate
