"""RE2's expressions: the whole text, in linear time, on wire strings."""

from __future__ import annotations

import pytest

from meshlib.policy.regex import BadRegex, compile_full_match, compile_set, rewriter


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


def test_rewriting_replaces_every_match_with_groups():
    assert rewriter(r"/(\w+)", r"/<\1>")("/a/b") == "/<a>/<b>"


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


def test_a_set_tells_all_patterns_that_match():
    matching = compile_set([f"/{n}/.*" for n in range(3000)] + [".*"])
    assert sorted(matching("/2999/x")) == [2999, 3000]
    assert matching("") == [3000]
