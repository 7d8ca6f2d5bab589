"""The indexed look-up finds what a plain walk over the rules finds, whatever the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.policy.http_match import CompiledMatch, HttpMatch
from meshlib.policy.rule_index import LINEAR, RuleIndex
from meshlib.policy.string_match import StringMatcher
from tests.support.match_blocks import View, blocks, views


def walk(rules, view):
    for number, matches in enumerate(rules):
        if not matches or any(match(view) for match in matches):
            return number
    return -1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(blocks, min_size=1, max_size=8),
    st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=LINEAR, max_size=40),
    st.lists(views, min_size=1, max_size=6),
)
def test_the_index_equals_a_plain_walk(pool, blocks_of_rules, requests):
    made = [block.compile() for block in pool]
    rules = [[made[number % len(made)] for number in numbers] for numbers in blocks_of_rules]
    index = RuleIndex(rules)
    for view in requests:
        found = index.find(view)
        assert found == walk(rules, view)
        rule, position = index.find_match(view)
        assert rule == found
        if found >= 0 and rules[found]:
            assert rules[found][position](view)


ONE, OTHER = (HttpMatch(uri=StringMatcher("prefix", path)).compile() for path in ("/1", "/2"))
BOTH = HttpMatch(uri=StringMatcher("prefix", "/1"), method=StringMatcher("exact", "POST")).compile()


@pytest.mark.parametrize(
    "rules",
    [
        *([[ONE]], [[ONE], []], [[ONE], [OTHER]], [[ONE, OTHER], []], [[ONE, OTHER]]),
        *([[]], [[], [ONE]], [[BOTH], []], [[BOTH], [ONE]], [[ONE], [OTHER], []], [[ONE], [], [OTHER]]),
    ],
)
def test_so_it_does_where_there_are_few(rules):
    index = RuleIndex(rules)
    for path in ("/1", "/2", "/3"):
        view = View(path=path, method="GET")
        assert index.find(view) == walk(rules, view) == index.find_match(view)[0]


@pytest.mark.parametrize("kind", ["exact", "prefix", "regex", "header", "method"])
def test_ten_thousand_rules_are_found_like_ten(kind):
    def block(n: int) -> HttpMatch:
        if kind == "header":
            return HttpMatch(headers=(("tenant", StringMatcher("exact", f"t{n}")),))
        if kind == "method":
            return HttpMatch(method=StringMatcher("exact", f"M{n}"))
        return HttpMatch(uri=StringMatcher(kind, f"/r{n}/x"))

    rules = [[block(n).compile()] for n in range(10_000)]
    index = RuleIndex(rules)
    for n in (0, 1, 5000, 9999):
        assert index.find(View(path=f"/r{n}/x", method=f"M{n}", headers={"tenant": f"t{n}"})) == n
        candidates = list(index._candidates(View(path=f"/r{n}/x", method=f"M{n}", headers={"tenant": f"t{n}"})))
        assert candidates == [n]  # nothing else is even tried
    assert index.find(View(path="/none", method="NONE")) == -1


@pytest.mark.parametrize("shared", ["path", "prefix", "header", "authority"])
def test_a_condition_that_all_rules_share_does_not_make_look_up_linear(shared):
    def block(n: int) -> HttpMatch:
        own = ("tenant", StringMatcher("exact", f"t{n}"))
        if shared == "header":
            return HttpMatch(headers=(("env", StringMatcher("exact", "prod")), own))
        if shared == "authority":
            return HttpMatch(headers=(own,), authority=StringMatcher("exact", "a"))
        return HttpMatch(uri=StringMatcher("exact" if shared == "path" else "prefix", "/api"), headers=(own,))

    rules = [[block(n).compile()] for n in range(1000)]
    index = RuleIndex(rules)
    view = View(path="/api", authority="a", headers={"env": "prod", "tenant": "t700"})
    assert list(index._candidates(view)) == [700]
    assert index.find(view) == 700


def test_nothing_after_a_catch_all_is_reached():
    rules = [[HttpMatch(uri=StringMatcher("exact", "/x")).compile()], [], [HttpMatch().compile()]]
    assert RuleIndex(rules).find(View(path="/y")) == 1


@pytest.mark.parametrize("rules", [1, LINEAR + 1])
def test_it_knows_which_headers_any_rule_looks_at(rules):
    exact = StringMatcher("exact", "1")
    looks = [HttpMatch(headers=(("x", exact),)).compile()]
    looks_away = [HttpMatch(without_headers=(("y", exact),)).compile()]
    index = RuleIndex([looks, looks_away, *[looks] * rules, []])
    assert [index.reads(name) for name in ("x", "y", "z")] == [True, True, False]
    assert not RuleIndex([()]).reads("x")


def a_regex(pattern: str, **more: Any) -> list[CompiledMatch]:
    return [HttpMatch(uri=StringMatcher("regex", pattern), **more).compile()]


def test_regexes_that_a_segment_tells_apart_need_no_set(monkeypatch):
    """RE2 makes one in a single call, in which no other thread runs."""
    monkeypatch.setattr("meshlib.policy.rule_index.compile_set", lambda *_: pytest.fail("a set is made"))
    index = RuleIndex([a_regex(f"/api/v[0-9]/tenant-{n}/[a-z]+") for n in range(1000)])
    view = View(path="/api/v2/tenant-700/x")
    assert list(index._candidates(view)) == [700]
    assert index.find(view) == 700
    assert index.find(View(path="/api/v2/tenant-1000/x")) == -1


@pytest.mark.parametrize("header", [(), (("env", StringMatcher("exact", "prod")),)])
def test_regexes_that_no_segment_tells_apart_are_found_by_a_set(header):
    index = RuleIndex([a_regex(f"/api/[a-z]+-{n}", headers=header) for n in range(1000)])
    view = View(path="/api/x-700", headers={"env": "prod"})
    assert list(index._candidates(view)) == [700]
    assert index.find(view) == 700


def test_a_segment_that_a_path_has_often_is_looked_up_once():
    index = RuleIndex([a_regex(f"/.*/s{n}/.*") for n in range(100)])
    assert list(index._candidates(View(path="/x" + "/s7" * 1000 + "/x"))) == [7]


def test_turns_are_taken_while_a_set_is_made():
    turns = []
    patterns = 2 * LINEAR
    RuleIndex([a_regex(f"[a-z]+-{n}") for n in range(patterns)], lambda: turns.append(1))
    exact = [[HttpMatch(uri=StringMatcher("exact", f"/{n}")).compile()] for n in range(patterns)]
    without = []
    RuleIndex(exact, lambda: without.append(1))
    assert len(turns) >= len(without) + patterns
