"""What a path must have for an expression to match it is never more than it must have."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.policy.regex import BadRegex, compile_full_match, wire
from meshlib.policy.regex_segments import required_segments


@pytest.mark.parametrize(
    ("pattern", "segments"),
    [
        ("/shops/[0-9]+/orders/.*", ("shops", "orders")),
        ("/shops", ("shops",)),
        ("^/shops/$", ("shops",)),
        (r"/v1\.2/a\/b", ("v1.2", "a", "b")),
        ("shops/.*", ("shops",)),
        (".*/orders", ("orders",)),
        ("/(a|b)/c", ("c",)),
        ("/(?:a/b)?/c", ("c",)),
        ("/(?P<id>[^/)]+)/c", ("c",)),
        ("/[]/]x/c", ("c",)),
        (r"/[\]/]/c", ("c",)),
        ("/a/b{2}/c", ("a", "c")),
        ("/a-[0-9]/c", ("c",)),
        ("/ab?/c", ("c",)),
        ("/a*/c", ("c",)),
        ("/a+/c", ("c",)),
        ("/a/?c/d", ("d",)),
        ("/a/*c/d", ("d",)),
        ("/a(/b)?/c", ("c",)),
        (r"/a\d/c", ("c",)),
        (r"/\x{61}/c", ("c",)),
        ("/a^/b", ("b",)),
        ("/é/c", ("c",)),
        (r"/a\$", ("a$",)),
        (r"/a\\$", ()),
        ("/", ()),
        ("", ()),
    ],
)
def test_segments_are_the_plain_text_between_two_slashes(pattern, segments):
    assert required_segments(pattern) == segments


@pytest.mark.parametrize(
    "pattern", ["/a|/b", "(?i)/a", "(?i:/a)/b", "/x(?i)/a", r"\Q/a|\E/b", "/[[:alpha:]]/b", "/a/(b", "/a/[b", "/a\\"]
)
def test_of_what_is_not_surely_understood_there_are_none(pattern):
    assert required_segments(pattern) == ()


PIECES = [
    "/", "/", "/", "a", "b", "ab", ".", ".*", "[a/]", "[^/]+", "[]a]", r"[\]a]", "(", ")", "(?:", "(?i)", "(?i:", "|", "*",
    "+", "?", "{2}", "{0,1}", "{", "}", "]", "^", "$", r"\/", r"\.", r"\d", r"\w", r"\b", r"\x61", r"\x{61}", r"\Qa\E",
    "[[:alpha:]]", "é", r"\pL", "(?P<n>a)",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    st.lists(st.text("ab/.A2{}]é", max_size=8), min_size=1, max_size=6),
)
def test_every_path_that_matches_has_them(pattern, paths):
    needed = required_segments(pattern)
    try:
        matches = compile_full_match(pattern)
    except BadRegex:
        return
    for path in map(wire, paths):
        if matches(path):
            assert set(needed) <= set(path.split("/"))


MADE_OF = [piece for piece in PIECES if piece not in ("^", "$", r"\b", "(?i)", "(?i:", "[[:alpha:]]", r"\Qa\E", r"\pL")]


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.data(), st.lists(st.sampled_from(MADE_OF), min_size=1, max_size=9).map("".join))
def test_every_path_that_is_made_to_match_has_them(data, pattern):
    """Paths of Python's reading of the expression: few of any others match."""
    try:
        matches, by_python = compile_full_match(pattern), re.compile(pattern)
    except (BadRegex, re.error):
        return
    path = wire(data.draw(st.from_regex(by_python, fullmatch=True)))
    if matches(path):
        assert set(required_segments(pattern)) <= set(path.split("/"))
