"""The check that asks AuthorizationPolicies: what the caller gets, what is counted, and judging again once it is routed."""

from __future__ import annotations

import random

from meshlib.compiler.inbound import NOTHING, Inbound, InboundPorts
from meshlib.engine.authorization_check import AuthorizationCheck, AuthorizationCounts, judge_routed
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.inbound_state import InboundState
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.rules import Policy, Rule
from tests.policy.authorization.requests import one, policy, request, when
from tests.support.fake_clock import FakeClock

NO_ADMIN = policy("DENY", when(one("paths", "/admin*")), name="no-admin")
DETAIL = "rbac_access_denied_matched_policy[ns[ns]-policy[no-admin]-rule[0]]"


def check(*policies: Policy) -> tuple[AuthorizationCheck, AuthorizationCounts]:
    counts = AuthorizationCounts()
    return AuthorizationCheck(Authorization(policies), counts), counts


def call(asked: InboundRequest, *policies: Policy) -> InboundCall:
    return InboundCall(asked, NOTHING, FakeClock(), random.Random(1), checks=(check(*policies)[0],))


def test_the_caller_gets_envoys_words_and_never_the_rule() -> None:
    refusal = check(NO_ADMIN)[0](request("/admin"))
    assert refusal is not None
    assert (refusal.status, refusal.grpc, refusal.text, refusal.headers) == (403, 7, "RBAC: access denied", ())
    assert refusal.detail == DETAIL
    assert check(NO_ADMIN)[0](request("/")) is None


def test_a_path_that_can_be_read_in_several_ways_is_400() -> None:
    refusal = check(policy("ALLOW", Rule()))[0](request("/%00"))
    assert refusal is not None
    assert (refusal.status, refusal.grpc, refusal.detail) == (400, 13, "bad_path{a control character}")


def test_who_can_log_hears_of_refusals_and_audits_with_the_rule() -> None:
    asked, counts = check(NO_ADMIN, policy("AUDIT", when(one("methods", "PUT")), name="watch"))
    heard: list[tuple[str, str, str]] = []
    counts.report = lambda what, request, rule: heard.append((what, request.path, rule))
    for refused in (request("/admin"), request("/", method="PUT"), request("/")):
        asked(refused)
    assert heard == [("denied", "/admin", DETAIL), ("audited", "/", "ns[ns]-policy[watch]-rule[0]")]


def test_what_is_refused_audited_and_tried_out_is_counted() -> None:
    asked, counts = check(
        NO_ADMIN,
        policy("AUDIT", when(one("methods", "PUT")), name="watch"),
        policy("DENY", when(one("methods", "PUT")), name="try", dry_run=True),
    )
    assert asked(request("/admin")) is not None
    assert asked(request("/", method="PUT")) is None
    assert asked(request("/")) is None
    assert {what: dict(counts.of(what)) for what in ("denied", "audited", "dry_run_denied", "dry_run_allowed")} == {
        "denied": {"ns/no-admin": 1},
        "audited": {"ns/watch": 1},
        "dry_run_denied": {"ns/try": 1},
        "dry_run_allowed": {"": 2},
    }
    counts.after_fork()
    assert counts.of("denied") == {"ns/no-admin": 1}


def test_judged_again_at_the_path_that_the_router_has_matched() -> None:
    asked = request("/public")
    served = call(asked, NO_ADMIN)
    assert judge_routed(served, "/public") is None
    refusal = judge_routed(served, "/admin")
    assert refusal is not None
    assert refusal.status == 403
    assert served.refusal is refusal
    assert (served.status, asked.routed) == (403, "/admin")


def test_who_permits_must_hold_at_the_routed_path_too() -> None:
    allow = policy("ALLOW", when(one("paths", "/public")))
    assert judge_routed(call(request("/public"), allow), "/public") is None
    assert judge_routed(call(request("/public"), allow), "/admin") is not None


def test_without_policies_nothing_is_judged() -> None:
    served = InboundCall(request("/"), NOTHING, FakeClock(), random.Random(1), checks=())
    assert judge_routed(served, "/admin") is None


def test_judging_that_fails_refuses() -> None:
    served = call(request("/"), NO_ADMIN)
    served.request.method = ["unhashable"]  # type: ignore[assignment]
    served.checks = (check(policy("DENY", when(one("methods", "GET"))))[0],)
    refusal = judge_routed(served, "/")
    assert refusal is not None
    assert refusal.status == 403
    assert served.failures.count == 1


def test_the_state_of_a_mesh_asks_after_tokens_and_keeps_counts_over_reloads() -> None:
    state = InboundState(FakeClock(), lambda asked, timeout: (_ for _ in ()))  # type: ignore[arg-type, return-value]
    for _ in range(2):
        ports = InboundPorts(Inbound(authorization=Authorization([NO_ADMIN])))
        [bound] = state.take(ports).of(0).checks
        assert bound(request("/admin")) is not None  # type: ignore[arg-type]
    assert state.authorization.of("denied") == {"ns/no-admin": 2}
