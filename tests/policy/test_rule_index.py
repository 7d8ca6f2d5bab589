"""The indexed look-up finds what a plain walk over the rules finds, whatever the rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.policy.http_match import HttpMatch
from meshlib.policy.regex import BadRegex, compile_full_match, compile_set, rewriter, wire
from meshlib.policy.rule_index import LINEAR, RuleIndex
from meshlib.policy.string_match import StringMatcher
from meshlib.policy.weights import WeightedChoice

PARTS = ["/", "/a", "/A", "/a/b", "/a/b/", "/ab", "/b", "/b/a", ""]


class View:
    def __init__(self, method="GET", authority="x", path="/", query="", headers=None):
        self.method, self.scheme, self.authority, self.path, self.query = method, "http", authority, path, query
        self._headers = headers or {}

    def header(self, name):
        return self._headers.get(name)


values = st.sampled_from(["a", "b", "A", ""])
uris = st.builds(
    StringMatcher,
    st.sampled_from(["exact", "prefix"]),
    st.sampled_from(PARTS),
    st.booleans(),
) | st.builds(StringMatcher, st.just("regex"), st.sampled_from(["/a.*", "/[ab]", "/a/b", ".*", "/(a|b)/.*"]))
texts = st.builds(StringMatcher, st.sampled_from(["exact", "prefix", "present"]), values)
blocks = st.builds(
    HttpMatch,
    uri=st.none() | uris,
    method=st.none() | st.builds(StringMatcher, st.just("exact"), st.sampled_from(["GET", "POST"])),
    authority=st.none() | st.builds(StringMatcher, st.just("exact"), st.sampled_from(["x", "y"])),
    headers=st.lists(st.tuples(st.sampled_from(["h", "k"]), texts), max_size=2).map(tuple),
    without_headers=st.lists(st.tuples(st.sampled_from(["h", "k"]), texts), max_size=1).map(tuple),
    query_params=st.lists(st.tuples(st.sampled_from(["q"]), texts), max_size=1).map(tuple),
)
views = st.builds(
    View,
    method=st.sampled_from(["GET", "POST", "PUT"]),
    authority=st.sampled_from(["x", "y", "z"]),
    path=st.sampled_from([*PARTS[:-1], "/c", "/a/b/c"]),
    query=st.sampled_from(["", "q=a", "q=b&q=a", "z=1"]),
    headers=st.dictionaries(st.sampled_from(["h", "k"]), values, max_size=2),
)


def walk(rules, view):
    for number, matches in enumerate(rules):
        if not matches or any(match(view) for match in matches):
            return number
    return -1


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(blocks, max_size=3), min_size=LINEAR, max_size=40), st.lists(views, min_size=1, max_size=10))
def test_the_index_equals_a_plain_walk(settings_of_rules, requests):
    rules = [[block.compile() for block in rule] for rule in settings_of_rules]
    index = RuleIndex(rules)
    for view in requests:
        found = index.find(view)
        assert found == walk(rules, view)
        rule, position = index.find_match(view)
        assert rule == found
        if found >= 0 and rules[found]:
            assert rules[found][position](view)


@settings(max_examples=300, deadline=None)
@given(blocks, views)
def test_a_block_says_why_exactly_when_it_does_not_match(block, view):
    match = block.compile()
    assert (match.why_not(view) is None) == match(view)


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


def test_nothing_after_a_catch_all_is_reached():
    rules = [[HttpMatch(uri=StringMatcher("exact", "/x")).compile()], [], [HttpMatch().compile()]]
    assert RuleIndex(rules).find(View(path="/y")) == 1


# -- regular expressions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "hit"),
    [
        ("/fo+", "/foo", True),
        ("/fo+", "/foo/x", False),
        ("foo", "/foo", False),
        ("a$", "a\n", False),
        ("(?i)A", "a", True),
        (r"\d", "\u0663", False),
        ("a|b", "ab", False),
        ("", "", True),
    ],
)
def test_a_regex_matches_the_whole_text_by_re2s_rules(pattern, text, hit):
    assert compile_full_match(pattern)(text.encode("utf-8").decode("latin-1")) is hit


@pytest.mark.parametrize("pattern", ["(?=x)", r"(a)\1", "a++", r"\Z", "x{1001}", "("])
def test_what_re2_refuses_is_refused(pattern):
    with pytest.raises(BadRegex):
        compile_full_match(pattern)


def test_a_regex_that_would_take_python_minutes_takes_no_time():
    assert compile_full_match("(a+)+$")("a" * 50_000 + "!") is False


def test_configuration_in_utf8_compares_with_bytes_on_the_wire():
    assert StringMatcher("prefix", "/café").compile()("/café/x".encode().decode("latin-1"))
    assert wire("é") == "Ã©"


def test_rewriting_replaces_every_match_with_groups():
    assert rewriter(r"/(\w+)", r"/<\1>")("/a/b") == "/<a>/<b>"


def test_a_set_tells_all_patterns_that_match():
    matching = compile_set([f"/{n}/.*" for n in range(3000)] + [".*"])
    assert sorted(matching("/2999/x")) == [2999, 3000]
    assert matching("") == [3000]


# -- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_proportions_whatever_they_sum_to():
    rng = random.Random(5)
    choice = WeightedChoice([3, 0, 1])
    picks = [choice.pick(rng) for _ in range(40_000)]
    assert picks.count(1) == 0
    expected = [30_000, 10_000]
    chi_square = sum((picks.count(i) - e) ** 2 / e for i, e in zip((0, 2), expected, strict=True))
    assert chi_square < 10.83  # p = 0.001


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any), st.integers(0, 10**6))
def test_a_value_falls_into_the_cumulative_interval_as_in_envoy(weights, value):
    picked = WeightedChoice(weights).pick_by_value(value)
    left = value % sum(weights)
    for position, weight in enumerate(weights):
        if left < weight:
            assert picked == position
            return
        left -= weight


def test_a_sole_destination_is_always_chosen_whatever_its_weight():
    assert {WeightedChoice([0]).pick(random.Random(1)) for _ in range(50)} == {0}


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2]])
def test_weights_that_choose_nothing_are_refused(weights):
    with pytest.raises(ValueError):
        WeightedChoice(weights)


@pytest.mark.parametrize("substitution", [r"\2", "\\", r"\x", r"/\ud7", "\\\u0661"])
def test_a_replacement_that_re2_does_not_take_is_refused_when_it_is_compiled(substitution):
    with pytest.raises(BadRegex, match="in the replacement"):
        rewriter("/(a)", substitution)


@pytest.mark.parametrize(
    ("substitution", "wanted"),
    [(r"/\1\0", "/a/a"), (r"/\12", "/a2"), (r"/\\", "/\\"), ("/\u00e9", "/\u00c3\u00a9"), ("$1", "$1")],
)
def test_a_replacement_is_re2s(substitution, wanted):
    assert rewriter("/(a)", substitution)("/a") == wanted
