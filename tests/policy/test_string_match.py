"""String conditions of Istio's StringMatch, on wire strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.regex import BadRegex, wire
from meshlib.policy.string_match import StringMatcher


@pytest.mark.parametrize(
    ("kind", "value", "text", "hit"),
    [
        ("exact", "/a", "/a", True),
        ("exact", "/a", "/a/", False),
        ("exact", "/a", "/A", False),
        ("exact", "", "", True),
        ("prefix", "/a", "/ab", True),
        ("prefix", "/a", "/A", False),
        ("prefix", "/a", "x/a", False),
        ("prefix", "", "anything", True),
        ("regex", "/a.*", "/ab", True),
        ("regex", "/a", "/ab", False),
        ("present", "", "", True),
        ("present", "", "anything", True),
    ],
)
def test_each_kind_asks_its_own_question(kind, value, text, hit):
    assert StringMatcher(kind, value).compile()(text) is hit


@pytest.mark.parametrize(
    ("kind", "value", "text", "hit"),
    [
        ("exact", "/Ab", "/aB", True),
        ("exact", "/ab", "/abc", False),
        ("prefix", "/Ab", "/aBc", True),
        ("prefix", "/Ab", "c/ab", False),
        ("regex", "/A", "/a", False),  # case is the expression's own business: (?i)
    ],
)
def test_case_may_be_ignored_by_exact_and_prefix_alone(kind, value, text, hit):
    assert StringMatcher(kind, value, ignore_case=True).compile()(text) is hit


@given(st.sampled_from(["exact", "prefix"]), st.text(), st.text(), st.booleans())
def test_a_value_of_any_script_matches_its_own_bytes(kind, value, more, ignore_case):
    matches = StringMatcher(kind, value, ignore_case).compile()
    assert matches(wire(value))
    if kind == "prefix":
        assert matches(wire(value) + wire(more))
    elif more:
        assert not matches(wire(value) + wire(more))


def test_configuration_in_utf8_compares_with_bytes_on_the_wire():
    assert StringMatcher("prefix", "/café").compile()("/café/x".encode().decode("latin-1"))
    assert wire("é") == "Ã©"


def test_a_bad_expression_is_found_when_it_is_compiled():
    with pytest.raises(BadRegex):
        StringMatcher("regex", "(").compile()


@pytest.mark.parametrize(
    ("kind", "value", "ignore_case", "text"),
    [
        ("prefix", "/api", False, "prefix '/api'"),
        ("exact", "/api", True, "exact '/api' (any case)"),
        ("regex", "a|b", True, "regex 'a|b'"),
        ("present", "", False, "present"),
    ],
)
def test_a_condition_has_words(kind, value, ignore_case, text):
    assert StringMatcher(kind, value, ignore_case).text == text
