"""Istio's patterns of values."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("abc", ["abc"], ["ab", "abcd", "ABC", ""]),
        ("ab*", ["ab", "abc"], ["a", "xab", ""]),
        ("*bc", ["bc", "abc"], ["c", "bcx", ""]),
        ("*", ["a", "*", "a\nb"], [""]),
        ("a*b", ["a*b"], ["ab", "axb"]),
        ("**", ["*", "a*"], ["a"]),
        ("*a*", ["a*", "xa*"], ["a", "xa"]),
    ],
)
def test_exact_prefix_suffix_and_present(pattern: str, matching: list[str], others: list[str]) -> None:
    patterns = Patterns([(1, [pattern])])
    assert [value for value in [*matching, *others] if patterns(value)] == matching


def test_each_value_finds_all_bits_that_have_it() -> None:
    patterns = Patterns([(1, ["a", "b"]), (2, ["a*"]), (4, ["*b", "c"]), (8, ["*"])])
    assert [patterns(value) for value in ("a", "b", "ab", "c", "x", "")] == [11, 13, 14, 12, 8, 0]


def test_an_asterisk_does_not_cross_lines_for_certain() -> None:
    assert Patterns([(1, ["*"])], certain=-1)("a\nb") == 0
    assert Patterns([(1, ["*"])], certain=-1)("ab") == 1
    assert Patterns([(1, ["a*"])], certain=-1)("a\nb") == 1
