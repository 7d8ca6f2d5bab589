"""Paths: who forbids looks at every spelling, who permits must hold at the normalized, the decoded and the routed one."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.policy.authorization.rules import Condition
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.path_spellings import Normalization
from tests.policy.authorization.requests import one, policy, request, when


def matches(condition: Condition, asked: Any, permits: bool, normalization: Normalization = "BASE") -> bool:
    table = RuleTable([policy("DENY", when(condition))], permits=permits, normalization=normalization)
    return table.first(asked) is not None


@pytest.mark.parametrize(
    "path",
    [
        *("/admin", "/%61dmin", "//admin", "/x/../admin", "/x/%2e%2e/admin", "/x%2f..%2fadmin"),
        *("/./admin", "/admin#x", "/\\admin", "/x/..;a=b/admin", "/x/%2e%2e;/admin", "/admin?x"),
    ],
)
def test_no_spelling_gets_past_a_rule_that_forbids(path: str) -> None:
    for normalization in ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        assert matches(one("paths", "/admin"), request(path), False, normalization)  # type: ignore[arg-type]


def test_it_is_judged_as_a_whole_with_what_it_excludes() -> None:
    but_health = one("paths", "/admin*", none_of=["/admin/health"])
    assert not matches(but_health, request("/admin/health"), permits=False)
    assert matches(but_health, request("/admin//health"), permits=False)
    assert matches(but_health, request("/admin/health/../x"), permits=False)
    assert not matches(but_health, request("/public"), permits=False)


@pytest.mark.parametrize(
    ("path", "found"), [("/open/x", True), ("/open/../admin", False), ("/open/%2e%2e/admin", False)]
)
def test_a_rule_that_permits_must_hold_at_the_normalized_path(path: str, found: bool) -> None:
    assert matches(one("paths", "/open/*"), request(path), permits=True) is found


def test_and_at_the_decoded_one() -> None:
    assert not matches(one("paths", "/a%2fb"), request("/a%2fb"), permits=True)
    assert matches(one("paths", "/a%2fb", "/a/b"), request("/a%2fb"), permits=True)
    assert not matches(one("paths", "/*", none_of=["/a/b"]), request("/a%2fb"), permits=True)


def test_and_at_the_routed_one() -> None:
    assert matches(one("paths", "/open"), request("/open", routed="/open"), permits=True)
    assert not matches(one("paths", "/open"), request("/open", routed="/admin"), permits=True)
    assert matches(one("paths", "/admin"), request("/open", routed="/admin"), permits=False)


def test_texts_beyond_ascii_are_those_that_people_write() -> None:
    for permits in (True, False):
        assert matches(one("paths", "/caf\xe9", "/caf%C3%A9"), request("/caf%C3%A9"), permits)


def test_templates_in_paths_that_are_not_decoded_are_envoys() -> None:
    assert not matches(one("paths", "/a/{*}"), request("/a/b|"), True, "NONE")
    assert matches(one("paths", "/a/{*}"), request("/a/b|"), True, "BASE")
    assert matches(one("paths", "/a/{*}"), request("/a/b%20c"), True)


@pytest.mark.parametrize(
    ("value", "found"), [("/a?b=c", True), ("/a", False), ("/a*", True), ("*b=c", True), ("/{*}", False)]
)
def test_the_header_path_has_the_query(value: str, found: bool) -> None:
    assert matches(one("request.headers[:path]", value), request("/a?b=c"), permits=True) is found
    assert matches(one("request.headers[:Path]", "/admin?x"), request("//admin?x"), permits=False)


def test_a_rule_that_forbids_may_name_the_path_as_it_is_sent() -> None:
    for normalization, path in (("BASE", "/x/%2e%2e/y"), ("DECODE_AND_MERGE_SLASHES", "/a%2fb"), ("BASE", "/%41")):
        assert matches(one("paths", path), request(path), False, normalization)  # type: ignore[arg-type]


def test_what_no_policy_can_judge_is_unknown() -> None:
    assert matches(one("paths", "/x"), request("/%00"), permits=False)
    assert not matches(one("paths", "/*"), request("/%00"), permits=True)
