"""Tables find the rules that a naive reading finds, whatever the rules and the request."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.policy.authorization.fields import BadCondition
from meshlib.policy.authorization.rules import Condition, Policy, Rule
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.authorization.tokens import VerifiedClaims
from meshlib.policy.authorization.why import why
from meshlib.policy.path_spellings import NORMALIZATIONS, Normalization
from tests.policy.authorization.reference import matches
from tests.policy.authorization.requests import one, policy, request, when

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MESHLIB_TABLE_EXAMPLES", "60"))
"""More of them, to look for more."""

PRINCIPALS = [
    "spiffe://cluster.local/ns/default/sa/sleep",
    "spiffe://td.test/ns/prod/sa/web",
    "spiffe://td.test/x/ns/prod/y/sa/web/z",
    "spiffe://a/ns/ns/sa/sa/sa",
    "spiffe://td.test/other",
]
ISSUERS = ["https://issuer.test/a", "me", "x*", "", "two\nlines"]
TEXTS = ["a", "admin", "admins", "b", "*", "a*", "*n", "a,b", "adm*", "**", "A", "*,b"]
SUBJECTS = ["sub", "*", "", "subject", "*ub"]
VALUES: dict[str, list[str]] = {
    "methods": ["GET", "POST", "P*", "*T", "*"],
    "hosts": ["app.test", "*.test", "app.*", "*", "APP.test:80", "x"],
    "destination.port": ["80", "8080", "0443"],
    "destination.ip": ["10.0.0.0/8", "::1", "192.168.1.1"],
    "connection.sni": ["app.test", "*.test", "*", "App.*"],
    "source.ip": ["10.0.0.0/8", "10.0.0.1", "::/0", "::1", "0.0.0.0/0", "::ffff:0:0/96"],
    "remote.ip": ["10.0.0.0/8", "1.2.3.4"],
    "source.principal": ["cluster.local/ns/default/sa/sleep", "*", "td.test/*", "*/sa/web", "x"],
    "source.namespace": ["default", "prod", "*", "pr*", "*d", "ns", "p*d"],
    "source.serviceAccount": ["default/sleep", "prod/web", "ns/sa", "prod/w"],
    "source.trustDomain": ["td.test", "*", "td*", "*.test", "td", "t*t"],
    "request.auth.principal": [f"{i}/{s}" for i in (*ISSUERS, "*", "*x", "ht*") for s in SUBJECTS if i or s]
    + ["*", "me", "m*", "*ub"],
    "request.auth.audiences": TEXTS,
    "request.auth.presenter": TEXTS,
    "request.auth.claims[groups]": TEXTS,
    "request.auth.claims[a][b]": TEXTS,
    "request.headers[X-Team]": TEXTS,
    "experimental.envoy.filters.a[b]": ["x"],
    "paths": [
        *("/", "/a", "/a/b", "/a/*", "*/b", "*", "/admin", "/admin*", "/a/%41", "/a/A", "/a b", "/a%20b", "*.txt"),
        *("/a/{*}", "/a/{**}", "/{*}/b", "/a/{*}/c/{**}", "/{**}", "/x/{*}", "/y/{*}/{**}", "/b/{*}"),
    ],
}
SOURCES = [k for k in VALUES if k.startswith(("source.", "remote.", "request.auth.principal"))]
OPERATIONS = ["methods", "hosts", "paths", "destination.port"]
WHENS = [k for k in VALUES if k not in ("methods", "hosts", "paths")]


def conditions(keys: list[str]) -> st.SearchStrategy[Condition]:
    def of(key: str) -> st.SearchStrategy[Condition]:
        some = st.lists(st.sampled_from(VALUES[key]), max_size=3, unique=True).map(tuple)
        return st.builds(Condition, st.just(key), some, st.one_of(st.just(()), some))

    return st.sampled_from(keys).flatmap(of)


def clauses(keys: list[str]) -> st.SearchStrategy[tuple[Condition, ...]]:
    return st.lists(conditions(keys), max_size=3, unique_by=lambda c: c.key).map(tuple)


RULES = st.builds(
    Rule,
    st.lists(clauses(SOURCES), max_size=2).map(tuple),
    st.lists(clauses(OPERATIONS), max_size=2).map(tuple),
    st.lists(conditions(WHENS), max_size=2).map(tuple),
)
POLICIES = st.lists(
    st.builds(
        Policy,
        st.sampled_from(["a", "b"]),
        st.uuids().map(str),
        st.just("DENY"),
        st.lists(RULES, max_size=4).map(tuple),
    ),
    max_size=3,
)
CLAIMS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "iss": st.sampled_from([*ISSUERS, 1]),
            "sub": st.sampled_from([*SUBJECTS, None]),
            "aud": st.one_of(st.sampled_from(TEXTS), st.lists(st.sampled_from([*TEXTS, 7]), max_size=3)),
            "azp": st.sampled_from(TEXTS),
            "groups": st.lists(st.sampled_from([*TEXTS, "a\nb"]), max_size=3),
            "a": st.one_of(st.just("b"), st.fixed_dictionaries({"b": st.sampled_from([*TEXTS, True])})),
        },
    ),
)
PATHS = [
    *(
        "/",
        "/a",
        "/a/b",
        "/a/../admin",
        "/a%2fb",
        "/%61",
        "/a/%41",
        "//a//b",
        "/a/b/",
        "/a\\b",
        "/a%20b",
        "/x/|",
        "/b/%22",
    ),
    *(
        "/admin",
        "/admin/..",
        "/a/x/c/d",
        "/a/x.txt#f",
        "/a/..;/admin",
        "/a/%7c",
        "/x/caf%C3%A9",
        "/%00",
        "/x/y/",
        "/y/1/",
    ),
]
REQUESTS = st.builds(
    request,
    st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    headers=st.lists(
        st.tuples(st.just("x-team"), st.sampled_from(["a", "b", "a, b", "admin", " admin ,a", "", "A", "a,b"])),
        max_size=2,
    ),
    host=st.sampled_from([None, "", "app.test", "APP.test:80", "app.test.", "x.app.test.:443", "[::1]:80"]),
    principal=st.sampled_from(["", *PRINCIPALS]),
    source_ip=st.sampled_from(["", "10.0.0.1", "11.0.0.1", "::1", "::ffff:10.0.0.1"]),
    claims=CLAIMS,
    routed=st.sampled_from([None, None, "/a", "/admin", "/a/b"]),
    port=st.sampled_from([0, 80, 443, 8080]),
    local_ip=st.sampled_from(["", "10.1.2.3", "::1"]),
    sni=st.sampled_from(["", "app.test", "App.Test"]),
)


def found(table: RuleTable, asked: Any) -> set[str]:
    return {f"{rule.policy.id} {rule.index}" for rule in table.all(asked)}


@settings(max_examples=EXAMPLES, deadline=None)
@given(POLICIES, st.lists(REQUESTS, min_size=1, max_size=4), st.booleans(), st.sampled_from(NORMALIZATIONS))
def test_a_table_finds_what_a_naive_reading_finds(
    policies: list[Policy], requests: list[Any], permits: bool, normalization: Normalization
) -> None:
    table = RuleTable(policies, permits=permits, normalization=normalization)
    for asked in [*requests, *requests]:  # the second time from memory
        assert found(table, asked) == matches(policies, asked, permits, normalization)


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(POLICIES, POLICIES, st.lists(REQUESTS, min_size=1, max_size=3), st.lists(CLAIMS, max_size=2), st.booleans())
def test_what_is_kept_with_a_token_is_of_that_token_and_one_table(
    some: list[Policy], others: list[Policy], requests: list[Any], tokens: list[Any], permits: bool
) -> None:
    """Requests with the same token, and with others, asked of tables in turn."""
    tables = [(RuleTable(policies, permits=permits), policies) for policies in (some, others)]
    for claims in [*(VerifiedClaims(claims) for claims in tokens if claims is not None), None]:
        for table, policies in [*tables, *tables]:
            for asked in requests:
                asked.claims = claims
                assert found(table, asked) == matches(policies, asked, permits, "BASE")


def test_a_token_is_looked_at_once() -> None:
    group = one("request.auth.claims[groups]", "staff")
    table = RuleTable([policy("ALLOW", when(group))], permits=True)
    claims = VerifiedClaims({"groups": ["staff"]})
    assert found(table, request(claims=claims))
    claims["groups"] = []  # nobody does; what was decided of the token stays
    assert found(table, request(claims=claims))
    assert not found(table, request(claims={"groups": []}))
    assert not found(table, request(claims=VerifiedClaims(claims)))


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(POLICIES, REQUESTS, st.booleans())
def test_and_so_does_why(policies: list[Policy], asked: Any, permits: bool) -> None:
    action = "ALLOW" if permits else "DENY"
    policies = [Policy(p.namespace, p.name, action, p.rules) for p in policies]
    said = {f"{w.policy.id} {rule.index}" for w in why(policies, asked) for rule in w.rules if rule.matched}
    assert said == matches(policies, asked, permits, "BASE")


def test_the_first_rule_is_the_one_that_envoy_names() -> None:
    everything = Rule()
    table = RuleTable(
        [policy("DENY", *[everything] * 12, name="b"), policy("DENY", everything, name="a", namespace="z")],
        permits=False,
    )
    first = table.first(request())
    assert first is not None
    assert (first.policy.id, first.index, first.id) == ("ns/b", 0, "ns[ns]-policy[b]-rule[0]")
    assert [rule.index for rule in table.all(request())][:3] == [0, 10, 11]


def test_a_rule_without_conditions_matches_everything_and_no_rule_nothing() -> None:
    assert RuleTable([policy("DENY", Rule())], permits=False).first(request()) is not None
    assert RuleTable([policy("ALLOW")], permits=True).first(request()) is None
    assert len(RuleTable([policy("ALLOW")], permits=True)) == 0


def test_from_and_to_are_alternatives_and_when_holds_for_all() -> None:
    rule = Rule(
        ((one("source.ip", "10.0.0.0/8"),), (one("source.ip", "11.0.0.0/8"),)),
        ((one("methods", "GET"),), (one("paths", "/open"),)),
        (one("request.headers[x]", "1"),),
    )
    table = RuleTable([policy("ALLOW", rule)], permits=True)
    yes = {"headers": [("x", "1")]}
    assert table.first(request("/", source_ip="11.2.3.4", **yes)) is not None
    assert table.first(request("/open", method="PUT", **yes)) is not None
    assert table.first(request("/", method="PUT", **yes)) is None
    assert table.first(request("/", source_ip="12.0.0.1", **yes)) is None
    assert table.first(request("/")) is None


def test_two_conditions_on_one_fact_must_both_hold() -> None:
    both = when(one("request.headers[x]", "a*"), one("request.headers[X]", "*b"))
    table = RuleTable([policy("ALLOW", both)], permits=True)
    assert table.first(request(headers=[("x", "ab")])) is not None
    assert table.first(request(headers=[("x", "ac")])) is None


def test_what_is_no_condition_is_an_error() -> None:
    with pytest.raises(BadCondition, match=r"'source\.colour' is not a valid condition"):
        RuleTable([policy("DENY", when(one("source.colour", "red")))], permits=False)
