"""20,000 random route decisions, each the same through meshlib and through a real Envoy; and a referee that would notice if
they were not: known mistakes, put into meshlib on purpose, are all caught.

``make differential N=1000000`` runs as many as you like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshlib.compiler import rules as rules_module
from meshlib.policy import header_ops, http_match, rewrite, weights
from meshlib.policy.cors import CorsPolicy
from meshlib.policy.header_ops import HeaderOps
from meshlib.policy.rule_index import RuleIndex
from meshlib.policy.string_match import StringMatcher
from tests.differential.envoy_process import require_envoy
from tests.differential.referee.answers import Answer
from tests.differential.referee.envoy_side import envoy_for
from tests.differential.referee.generate import Case, cases
from tests.differential.referee.our_side import OurSide
from tests.differential.referee.verdict import judge

pytestmark = pytest.mark.differential

CASES, REQUESTS, SEED = 500, 40, 20261121
OF_MUTANTS = 120
"""Cases that a mutant has to betray itself in."""
AT_A_TIME = 20


@pytest.fixture(scope="module")
def heard() -> tuple[list[Case], list[Answer]]:
    """The cases and Envoy's answers."""
    require_envoy()
    made = cases(SEED, CASES, REQUESTS)
    with envoy_for(made) as envoy:
        return made, envoy.ask([request for case in made for request in case.requests])


def test_20_000_route_decisions_are_envoys(heard):
    made, theirs = heard
    tally = judge(made, OurSide(made), theirs)
    assert not tally.laxer, "\n".join(map(str, tally.laxer[:3]))
    assert tally.equal == CASES * REQUESTS
    # and they were about something: every kind of decision, many times
    for kind, least in {
        "forwarded": 5000,
        "rewritten": 1000,
        "redirect": 1000,
        "local 404": 1000,
        "local 503": 500,
    }.items():
        assert tally.kinds[kind] > least, tally.kinds


# -- the referee is awake ---------------------------------------------------------------------------------------------

real_compile = StringMatcher.compile
real_location = rewrite.Redirect.location
real_path = rewrite.Rewrite.path
real_changed = HeaderOps._changed


def prefix_off_by_one(self: StringMatcher) -> Any:
    if self.kind == "prefix" and len(self.value) > 2:
        return StringMatcher("prefix", self.value[:-1], self.ignore_case).compile()
    return real_compile(self)


def exact_in_any_case(self: StringMatcher) -> Any:
    return real_compile(StringMatcher(self.kind, self.value, True))


def regex_anywhere(self: StringMatcher) -> Any:
    return real_compile(StringMatcher("regex", f".*(?:{self.value}).*") if self.kind == "regex" else self)


def adds_replace(self: HeaderOps, kept: Any, lookup: Any) -> Any:
    return real_changed(HeaderOps(self.remove, (*self.set, *self.add), ()), kept, lookup)


def sets_add(self: HeaderOps, kept: Any, lookup: Any) -> Any:
    return real_changed(HeaderOps(self.remove, (), (*self.set, *self.add)), kept, lookup)


def removes_nothing(self: HeaderOps, headers: Any, pseudo: Any) -> Any:
    return HeaderOps((), self.set, self.add).apply(headers, lambda name: header_ops.first_value(headers, name))


def query_lost_in_redirects(self: Any, scheme: str, authority: str, full_path: str, matched: Any) -> str:
    return real_location(self, scheme, authority, full_path.partition("?")[0], matched)


def whole_path_rewritten(self: Any, path: str, _matched: Any) -> str:
    return real_path(self, path, None)


def slash_lost_in_rewrites(self: Any, path: str, matched: Any) -> str:
    return real_path(self, path, matched).replace("//", "/")


def parameter_decoded(query: str, name: str) -> str | None:
    from urllib.parse import parse_qsl

    return next((value for key, value in parse_qsl(query, keep_blank_values=True) if key == name), None)


def last_parameter(query: str, name: str) -> str | None:
    return http_match_first("&".join(reversed(query.split("&"))), name)


http_match_first = http_match.first_parameter
real_redirect = rules_module.redirect_of
real_without = http_match._on_missing_header


def found_instead_of_moved(redirect: Any, port: int) -> Any:
    from dataclasses import replace

    made = real_redirect(redirect, port)
    return replace(made, code=302) if made is not None and made.code == 301 else made


def absent_headers_never_fit(name: str, matcher: StringMatcher) -> Any:
    made = real_without(name, matcher)
    return http_match.Condition(lambda view: view.header(name) is not None and made.test(view), made.why)


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "a prefix that matches one character less": (StringMatcher, "compile", prefix_off_by_one),
    "exact matches that ignore case": (StringMatcher, "compile", exact_in_any_case),
    "regexes that match anywhere": (StringMatcher, "compile", regex_anywhere),
    "header add that replaces": (HeaderOps, "_changed", adds_replace),
    "header set that adds": (HeaderOps, "_changed", sets_add),
    "header removal that is forgotten": (HeaderOps, "apply_to_request", removes_nothing),
    "redirects that lose the query": (rewrite.Redirect, "location", query_lost_in_redirects),
    "302 where 301 is the default": (rules_module, "redirect_of", found_instead_of_moved),
    "rewrites of the whole path": (rewrite.Rewrite, "path", whole_path_rewritten),
    "rewrites that join slashes": (rewrite.Rewrite, "path", slash_lost_in_rewrites),
    "query parameters that are decoded": (http_match, "first_parameter", parameter_decoded),
    "the last of several query parameters": (http_match, "first_parameter", last_parameter),
    "withoutHeaders that want the header": (http_match, "_on_missing_header", absent_headers_never_fit),
    "cors answers without their headers": (CorsPolicy, "response_headers", lambda self, headers, header: headers),
    "cors that allows every origin": (CorsPolicy, "allows", lambda self, origin: True),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_noticed(mutant, heard, monkeypatch):
    where, name, mistake = MUTANTS[mutant]
    monkeypatch.setattr(where, name, mistake)
    made, theirs = heard
    # a few at a time: to compile all of them takes longer than to find the mistake
    assert any(
        judge(some, OurSide(some), theirs[at * REQUESTS :], draws=50, first=True).laxer
        for at in range(0, OF_MUTANTS, AT_A_TIME)
        for some in [made[at : at + AT_A_TIME]]
    )


def test_the_last_matching_rule_is_noticed(heard, monkeypatch):
    made, theirs = heard
    some = made[:OF_MUTANTS]
    ours = OurSide(some)
    for vhost in ours._live.snapshot.virtual_hosts():
        vhost_rules = vhost.rules
        if len(vhost_rules) > 1:
            backwards = RuleIndex([rule.matches for rule in reversed(vhost_rules)])
            object.__setattr__(vhost, "index", backwards)
            object.__setattr__(vhost, "rules", tuple(reversed(vhost_rules)))
            object.__setattr__(vhost, "single", None)
    assert judge(some, ours, theirs, draws=50, first=True).laxer


def test_a_destination_without_weight_is_noticed(heard, monkeypatch):
    made, theirs = heard
    weighted = [
        c
        for c in made
        if any(any(d.get("weight") == 0 for d in r.get("route", ())[1:]) for r in c.service["spec"]["http"])
    ]
    monkeypatch.setattr(weights.WeightedChoice, "pick", lambda self, rng: 0)
    positions = [n for n, c in enumerate(made) if c in weighted]
    answers = [theirs[n * REQUESTS + i] for n in positions for i in range(REQUESTS)]
    assert judge(weighted, OurSide(weighted), answers, draws=50, first=True).laxer
