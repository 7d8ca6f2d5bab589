"""RateLimit, read: which service counts, and for whom."""

from __future__ import annotations

import pytest

from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.compiler.inbound_ratelimit import added_cluster, global_rate_limit, place_of
from meshlib.policy.rate_limit_actions import GenericKey, RateLimitActions

ACTIONS = (RateLimitActions((GenericKey("g"),)),)
CLUSTER = "outbound|8081||ratelimit.default.svc.cluster.local"


def made(of_route=ACTIONS, **more):
    said: list[str] = []
    service = {"grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}}, "transport_api_version": "V3"}
    config = {"domain": "d", "rate_limit_service": service, **more}
    return global_rate_limit(Message(config, ""), False, of_route, (), {}, said.append), said


def test_the_defaults_are_envoys():
    found, said = made()
    assert said == []
    assert (found.place, found.domain) == (("ratelimit.default.svc.cluster.local", 8081), "d")
    assert (found.timeout, found.deny, found.status, found.error_status, found.tells) == (0.02, False, 429, 500, True)


def test_every_field_is_read():
    found, said = made(
        timeout="0.25s",
        failure_mode_deny=True,
        rate_limited_status={"code": 503},
        status_on_error={"code": 502},
        rate_limited_as_resource_exhausted=True,
        disable_x_envoy_ratelimited_header=True,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        stage=0,
        request_type="both",
    )
    assert said == []
    assert (found.timeout, found.deny, found.status, found.error_status) == (0.25, True, 503, 502)
    assert (found.resource_exhausted, found.tells, found.x_headers) == (True, False, True)


@pytest.mark.parametrize(
    ("more", "words"),
    [({"domain": ""}, "domain"), ({"request_type": "internal"}, "internal"), ({"rate_limit_service": {}}, "cluster")],
)
def test_what_cannot_be_asked(more, words):
    with pytest.raises(NotActedOn, match=words):
        made(**more)


def test_where_nothing_is_counted_nobody_is_asked():
    assert made(of_route=())[0] is None
    assert made(of_route=(RateLimitActions((GenericKey("g"),), stage=3),))[0] is None


def test_a_cluster_is_istios_or_one_that_a_patch_adds():
    address = {"socket_address": {"address": "10.0.0.9", "port_value": 8081}}
    added = {"name": "rls", "load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}
    assert added_cluster(Message(added, "")) == ("rls", ("10.0.0.9", 8081))
    assert place_of("rls", {"rls": ("10.0.0.9", 8081)}) == ("10.0.0.9", 8081)
    with pytest.raises(NotActedOn, match="rls"):
        place_of("rls", {})
    with pytest.raises(NotActedOn, match="endpoint"):
        added_cluster(Message({"name": "x"}, ""))
