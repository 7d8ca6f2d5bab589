"""corsPolicy's two decisions: the answer to a preflight, the headers of an actual answer."""

from __future__ import annotations

import pytest

from meshlib.policy.cors import CorsPolicy
from meshlib.policy.string_match import StringMatcher

ONE = StringMatcher("exact", "https://a.test")
PREFLIGHT = {"origin": "https://a.test", "access-control-request-method": "PUT"}


def answered(policy: CorsPolicy, method: str = "OPTIONS", **headers: str) -> dict[str, str] | None:
    made = policy.preflight(method, {k.replace("_", "-"): v for k, v in headers.items()}.get)
    return None if made is None else {k.decode().removeprefix("access-control-"): v.decode() for k, v in made}


def preflight(policy: CorsPolicy, **headers: str) -> dict[str, str] | None:
    return answered(policy, **{**PREFLIGHT, **headers})


@pytest.mark.parametrize(
    ("matcher", "origin", "allowed"),
    [
        (ONE, "https://a.test", True),
        (ONE, "https://a.test:8443", False),
        (StringMatcher("prefix", "https://a."), "https://a.test", True),
        (StringMatcher("regex", r"https://.*\.b\.test"), "https://x.b.test", True),
        (StringMatcher("regex", r"https://.*\.b\.test"), "https://b.test", False),
        (StringMatcher("exact", "*"), "https://anything.test", True),
        (StringMatcher("regex", ".*"), "https://anything.test", True),
    ],
)
def test_an_origin_is_allowed_by_any_matcher_and_a_literal_star_takes_all(matcher, origin, allowed):
    assert CorsPolicy((matcher,)).allows(origin) is allowed
    assert CorsPolicy((StringMatcher("exact", "https://other.test"), matcher)).allows(origin) is allowed


def test_without_origins_nobody_is_allowed():
    assert not CorsPolicy().allows("https://a.test")


def test_a_preflight_is_told_just_what_the_policy_says():
    assert preflight(CorsPolicy((ONE,))) == {"allow-origin": "https://a.test"}
    full = CorsPolicy((ONE,), "GET,PUT", "x-one", "x-back", "90", allow_credentials=True)
    assert preflight(full) == {
        "allow-origin": "https://a.test",
        "allow-credentials": "true",
        "allow-methods": "GET,PUT",
        "allow-headers": "x-one",
        "max-age": "90",
        "expose-headers": "x-back",
    }


def test_a_star_echoes_what_was_asked_for():
    policy = CorsPolicy((ONE,), "*", "*")
    assert preflight(policy, access_control_request_headers="a,b")["allow-headers"] == "a,b"
    assert preflight(policy)["allow-methods"] == "PUT"
    assert preflight(policy)["allow-headers"] == ""


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", PREFLIGHT),
        ("OPTIONS", {"origin": "https://a.test"}),
        ("OPTIONS", {"access-control-request-method": "PUT"}),
        ("OPTIONS", {**PREFLIGHT, "origin": ""}),
    ],
)
def test_what_is_no_preflight_is_not_answered(method, headers):
    assert answered(CorsPolicy((ONE,)), method, **headers) is None


def test_a_preflight_of_another_origin_is_forwarded_or_answered_without_the_permission():
    policy = {"allow_methods": "GET", "expose_headers": "x-back"}
    assert preflight(CorsPolicy((ONE,), **policy), origin="https://evil.test") is None
    answer = preflight(CorsPolicy((ONE,), **policy, forward_unmatched=False), origin="https://evil.test")
    assert answer == {"allow-methods": "GET"}


def test_an_actual_answer_says_ours_in_place_of_the_services_and_keeps_the_rest():
    policy = CorsPolicy((ONE,), expose_headers="x-back", allow_credentials=True)
    theirs = [(b"Access-Control-Allow-Origin", b"*"), (b"x-back", b"1"), (b"access-control-max-age", b"1")]
    assert policy.response_headers(theirs, {"origin": "https://a.test"}.get) == [
        (b"x-back", b"1"),
        (b"access-control-max-age", b"1"),
        (b"access-control-allow-origin", b"https://a.test"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-back"),
    ]


@pytest.mark.parametrize("headers", [{}, {"origin": ""}, {"origin": "https://evil.test"}])
def test_an_answer_to_anybody_else_is_the_very_same(headers):
    theirs = [(b"access-control-allow-origin", b"upstream")]
    assert CorsPolicy((ONE,), expose_headers="x").response_headers(theirs, headers.get) is theirs
