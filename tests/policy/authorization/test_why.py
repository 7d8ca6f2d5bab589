"""Of each policy why or why not, in words that people can act on and that give nothing away."""

from __future__ import annotations

from meshlib.policy.authorization.rules import Condition, Policy, Rule
from meshlib.policy.authorization.why import holds, why
from tests.policy.authorization.requests import SLEEP, one, policy, request, when


def test_a_rule_that_matches_says_by_what() -> None:
    rule = Rule((), ((one("paths", "/admin*"), one("methods", "GET")),))
    found = why([policy("DENY", rule, name="no-admin")], request("/admin/x"))
    assert [w.matched for w in found] == [True]
    assert found[0].text == "DENY: rule 0 matches: paths /admin* (path /admin/x); methods GET (GET)"


def test_a_rule_that_does_not_says_what_is_missing() -> None:
    rule = Rule(((Condition("source.principal", ("cluster.local/ns/a/sa/b",), field="principals"),),))
    plain = why([policy("ALLOW", rule)], request())[0]
    assert not plain.matched
    assert plain.rules[0].reasons == ("not principals cluster.local/ns/a/sa/b (the peer has no identity)",)
    other = why([policy("ALLOW", rule)], request(principal=SLEEP))[0]
    assert SLEEP in other.text


def test_of_alternatives_the_nearest_is_told() -> None:
    rule = Rule((), ((one("methods", "PUT"), one("paths", "/x")), (one("methods", "GET"), one("paths", "/y"))))
    found = why([policy("ALLOW", rule)], request("/z"))[0]
    assert found.rules[0].reasons == ("not paths /y (path /z)",)


def test_every_spelling_of_the_path_is_shown() -> None:
    found = why([policy("DENY", when(one("paths", "/admin")))], request("/x/%2e%2e/admin"))[0]
    assert found.matched
    assert "path /x/%2e%2e/admin or /admin or /x/../admin" in found.text


def test_policies_without_rules_dry_runs_and_broken_ones_are_told_apart() -> None:
    broken = Policy("ns", "b", "DENY", (Rule(),), broken="rules[0]: bad")
    texts = [w.text for w in why([policy("ALLOW"), policy("DENY", Rule(), dry_run=True), broken], request())]
    assert texts == [
        "ALLOW: it has no rules, which match nothing",
        "DENY (dry run): rule 0 matches",
        "DENY: it could not be read, and stands for all that it may have refused: rules[0]: bad",
    ]


def test_values_of_headers_and_claims_are_never_shown() -> None:
    rule = when(one("request.headers[x-key]", "s3cr3t"), one("request.auth.claims[group]", "c0nfidential"))
    asked = request(headers=[("x-key", "s3cr3t")], claims={"iss": "i", "sub": "s", "group": "pr1vate"})
    text = why([policy("DENY", rule)], asked)[0].text
    assert text == (
        "DENY: no rule matches (rule 0: not request.auth.claims[group] one of its values (its token was verified))"
    )
    assert holds(rule.when[0], asked, permits=True)


def test_what_nobody_knows_counts_against_the_caller() -> None:
    host = one("hosts", "app.test")
    grpc = request(host=None)
    assert holds(host, grpc, permits=False)
    assert not holds(host, grpc, permits=True)
    assert "host unknown" in why([policy("ALLOW", when(host))], grpc)[0].text
