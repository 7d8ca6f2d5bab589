"""RE2's expressions: the whole text, in linear time, on wire strings."""

from __future__ import annotations

import gc

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy import regex
from meshlib.policy.regex import BadRegex, compile_full_match, compile_set, quoted, rewriter, wire


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


@given(st.text(max_size=8).filter(lambda text: text.isprintable()))
def test_a_quoted_text_matches_itself_and_nothing_else(text):
    matches = compile_full_match(quoted(text))
    assert matches(wire(text))
    assert not matches(wire(text) + "x")


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


@given(st.text(), st.text())
def test_any_text_of_configuration_is_the_latin_1_reading_of_its_bytes(one, other):
    assert wire(one).encode("latin-1") == one.encode("utf-8", "surrogatepass")
    assert (wire(one) == wire(other)) == (one == other)
    assert wire(one + other) == wire(one) + wire(other) or max(one + other) >= "\ud800"


def test_text_that_is_ascii_is_the_very_same():
    text = "/reviews"
    assert wire(text) is text


@given(st.lists(st.sampled_from(["a", "a.*", ".*b", "[ab]+", "", "é"]), min_size=1), st.text("abé", max_size=4))
def test_a_set_says_what_each_pattern_alone_says(patterns, text):
    alone = [number for number, pattern in enumerate(patterns) if compile_full_match(pattern)(wire(text))]
    assert sorted(compile_set(patterns)(wire(text))) == alone


def test_a_set_with_a_bad_pattern_is_refused_by_name():
    with pytest.raises(BadRegex, match=r"'\('"):
        compile_set(["a", "("])


def test_a_refusal_says_why_in_re2s_words():
    with pytest.raises(BadRegex, match="missing \\)"):
        compile_full_match("(")


def test_without_the_bindings_inner_call_the_answers_are_the_same(monkeypatch):
    class Other:
        def __init__(self, compiled):
            self.fullmatch = compiled.fullmatch

    compiled = regex._compile("/a+")
    monkeypatch.setattr(regex, "_in_use", {})
    monkeypatch.setattr(regex, "_compile", lambda pattern: Other(compiled))
    matches = compile_full_match("/a+")
    assert [matches("/aa"), matches("/ab"), matches("x/a")] == [True, False, False]


def test_a_set_that_is_too_large_for_re2_is_tried_pattern_by_pattern(monkeypatch):
    """Fewer bytes than any such set needs, in place of hundreds of patterns like ``[a-z]{1,1000}``."""

    def little_room():
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 4096
        return options

    monkeypatch.setattr(regex, "_options", little_room)
    monkeypatch.setattr(regex, "BYTES_PER_PATTERN", 1)
    regex._compile.cache_clear()
    matching = compile_set([f"/{n}/[a-z]{{1,9}}" for n in range(40)] + [".*"])
    assert [matching("/7/abc"), matching("/7/"), matching("")] == [[7, 40], [40], [40]]


def test_text_that_is_no_unicode_is_replaced_byte_for_byte_too():
    assert rewriter("a", "\ud800")("a") == wire("\ud800")


def test_a_test_that_somebody_has_is_not_made_twice(monkeypatch):
    one = compile_full_match("/kept/[0-9]+")
    assert compile_full_match("/kept/[0-9]+") is one
    del one
    gc.collect()
    assert "/kept/[0-9]+" not in regex._in_use


def test_several_sets_say_what_one_says(monkeypatch):
    patterns = [f"/{n}/.*" for n in range(25)] + [".*"]
    whole = compile_set(patterns)
    monkeypatch.setattr(regex, "PATTERNS_PER_SET", 4)
    turns = []
    parts = compile_set(patterns, lambda: turns.append(1))
    for text in ("/0/x", "/7/x", "/24/", "", "/x"):
        assert parts(text) == sorted(whole(text))
    assert len(turns) == len(patterns) + 2 * 7


def test_a_set_that_is_too_large_is_tried_one_by_one_in_each_part(monkeypatch):
    class Full:
        def Add(self, pattern):
            pass

        def Compile(self):
            raise re2.error("out of memory")

    monkeypatch.setattr(regex, "PATTERNS_PER_SET", 2)
    monkeypatch.setattr(re2.Set, "FullMatchSet", lambda options: Full())
    assert compile_set(["/a", "/b", "/[ab]"])("/a") == [0, 2]
