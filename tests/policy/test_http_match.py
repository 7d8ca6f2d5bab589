"""Match blocks: every condition must hold, and a block that does not match says which one fails."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.policy.http_match import HttpMatch, first_parameter
from meshlib.policy.string_match import StringMatcher
from tests.support.match_blocks import View, blocks, views


def exact(value: str) -> StringMatcher:
    return StringMatcher("exact", value)


PRESENT = StringMatcher("present", "")


@pytest.mark.parametrize(
    ("block", "fits", "other"),
    [
        (HttpMatch(uri=StringMatcher("prefix", "/a")), View(path="/ab"), View(path="/b")),
        (HttpMatch(uri=StringMatcher("regex", "/a+")), View(path="/aa"), View(path="/ab")),
        (HttpMatch(method=exact("PUT")), View("PUT"), View("put")),
        (HttpMatch(scheme=exact("http")), View(), View(scheme="https")),
        (HttpMatch(authority=exact("x:80")), View(authority="x:80"), View(authority="x")),
        (HttpMatch(headers=(("h", exact("a")),)), View(headers={"h": "a"}), View(headers={"h": "b"})),
        (HttpMatch(headers=(("h", PRESENT),)), View(headers={"h": ""}), View(headers={"k": "a"})),
        (HttpMatch(headers=(("h", exact("")),)), View(headers={"h": ""}), View()),
        (HttpMatch(headers=((":method", exact("PUT")),)), View("PUT"), View("GET")),
        (HttpMatch(headers=((":scheme", exact("http")),)), View(), View(scheme="https")),
        (HttpMatch(headers=((":authority", exact("y")),)), View(authority="y"), View()),
        (HttpMatch(headers=((":path", exact("/?q=a")),)), View(query="q=a"), View()),
        (HttpMatch(without_headers=(("h", PRESENT),)), View(), View(headers={"h": ""})),
        (HttpMatch(without_headers=(("h", exact("a")),)), View(headers={"h": "b"}), View(headers={"h": "a"})),
        (HttpMatch(without_headers=(("h", exact("a")),)), View(), View(headers={"h": "a"})),
        # Istio inverts the match with a missing header read as ""
        (HttpMatch(without_headers=(("h", exact("")),)), View(headers={"h": "a"}), View()),
        (HttpMatch(query_params=(("q", exact("a")),)), View(query="q=a"), View(query="q=b&q=a")),
        (HttpMatch(query_params=(("q", PRESENT),)), View(query="z&q"), View(query="z")),
    ],
)
def test_each_condition_asks_its_own_part_of_the_request(block, fits, other):
    match = block.compile()
    assert match(fits) is True
    assert match.why_not(fits) is None
    assert match(other) is False
    assert match.why_not(other)
    assert match.sole is not None
    assert (bool(match.sole(fits)), bool(match.sole(other))) == (True, False)


def test_of_a_repeated_header_one_value_that_fits_is_enough_and_its_join_is_none():
    repeated = View(headers={"h": "a,b"}, repeated={"h": ["a", "b"]})
    once = View(headers={"h": "a,b"})
    for value, several, single in (("a", True, False), ("b", True, False), ("a,b", False, True)):
        match = HttpMatch(headers=(("h", exact(value)),)).compile()
        assert (match(repeated), match(once)) == (several, single)
        without = HttpMatch(without_headers=(("h", exact(value)),)).compile()
        assert (without(repeated), without(once)) == (not several, not single)


def test_a_comma_in_a_pseudo_header_is_no_repetition():
    assert HttpMatch(headers=((":authority", exact("a,b")),)).compile()(View(authority="a,b"))


def test_all_conditions_of_a_block_must_hold_and_the_first_that_fails_is_told():
    block = HttpMatch(
        uri=exact("/a"), method=exact("GET"), scheme=exact("http"), authority=exact("x"), headers=(("h", exact("1")),)
    ).compile()
    assert block(View(path="/a", headers={"h": "1"}))
    assert block.sole is None
    assert block.why_not(View("PUT", path="/b")) == "method is 'PUT', exact 'GET' wanted"
    assert block.why_not(View(path="/b", authority="y")) == "path is '/b', exact '/a' wanted"
    assert block.why_not(View(path="/a", authority="y")) == "authority is 'y', exact 'x' wanted"
    assert block.why_not(View(path="/a")) == "header h is absent, exact '1' wanted"
    assert block.why_not(View(path="/a", headers={"h": "2"})) == "header h is '2', exact '1' wanted"


def test_the_words_of_what_must_be_absent_and_of_queries():
    gone = HttpMatch(without_headers=(("h", PRESENT),)).compile()
    assert gone.why_not(View(headers={"h": "a"})) == "header h is 'a', it must be absent"
    other = HttpMatch(without_headers=(("h", exact("a")),)).compile()
    assert other.why_not(View(headers={"h": "a"})) == "header h is 'a', which withoutHeaders exact 'a' excludes"
    query = HttpMatch(query_params=(("q", exact("a")),)).compile()
    assert query.why_not(View()) == "query parameter q is absent, exact 'a' wanted"
    assert query.why_not(View(query="q=b")) == "query parameter q is 'b', exact 'a' wanted"


def test_a_block_without_conditions_matches_everything():
    match = HttpMatch().compile()
    assert (match(View()), match.sole, match.why_not(View()), match.text) == (True, None, None, "everything")


def test_a_block_has_words():
    block = HttpMatch(
        uri=StringMatcher("prefix", "/api"),
        method=exact("GET"),
        headers=(("end-user", exact("jason")),),
        without_headers=(("x", PRESENT),),
        query_params=(("q", exact("a")),),
    )
    assert block.compile().text == (
        "uri prefix '/api', method exact 'GET', header end-user exact 'jason', without header x present, query q exact 'a'"
    )


@pytest.mark.parametrize(
    "block",
    [
        HttpMatch(uri=StringMatcher("regex", "(")),
        HttpMatch(headers=(("h", StringMatcher("regex", "(")),)),
        HttpMatch(without_headers=(("h", StringMatcher("regex", "(")),)),
        HttpMatch(query_params=(("q", StringMatcher("regex", "(")),)),
    ],
)
def test_a_bad_expression_is_found_when_the_block_is_compiled_not_at_a_call(block):
    with pytest.raises(ValueError, match="missing"):
        block.compile()


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", None),
        ("a=1", "1"),
        ("a=1&a=2", "1"),
        ("b=0&a=1", "1"),
        ("a", ""),
        ("a==", "="),
        ("%61=1", None),
        ("aa=1", None),
    ],
)
def test_the_first_parameter_of_a_name_is_taken_as_it_was_sent(query, value):
    assert first_parameter(query, "a") == value


@settings(max_examples=300, deadline=None)
@given(blocks, views)
def test_a_block_says_why_exactly_when_it_does_not_match(block, view):
    match = block.compile()
    assert (match.why_not(view) is None) == match(view)


@given(st.lists(blocks, max_size=3), views)
def test_a_block_matches_exactly_when_each_of_its_conditions_does(several, view):
    for block in several:
        assert block.compile()(view) is all(bool(condition.test(view)) for condition in block.conditions())
