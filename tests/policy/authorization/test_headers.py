"""Headers: Envoy reads lines, applications read what stands between commas."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.headers import HeaderLines, Lines


@pytest.mark.parametrize(
    ("pattern", "lines", "certain", "maybe"),
    [
        ("admin", "admin", True, True),
        ("admin", " admin\t", True, True),
        ("admin", ("admin", "user"), False, True),
        ("admin", ("admin", "admin"), True, True),
        ("admin", "user,admin", False, True),
        ("*admin", "user, admin", False, True),
        ("admin*", "admin,user", False, True),
        ("adm*", "admin,admit", True, True),
        ("a,b", "a,b", True, True),
        ("a,b", ("a", "b"), False, True),
        ("a,b", "a, b", False, False),
        ("*", "", True, True),
        ("*", (), False, False),
        ("a", (), False, False),
        ("a", "A", False, False),
    ],
)
def test_any_line_or_item_maybe_and_each_for_certain(pattern: str, lines: Lines, certain: bool, maybe: bool) -> None:
    assert bool(HeaderLines([(1, [pattern])], certain=-1)(lines)) == certain
    assert bool(HeaderLines([(1, [pattern])])(lines)) == maybe


def test_items_may_match_different_values_but_the_line_must_match_one() -> None:
    assert HeaderLines([(1, ["a", "b", "a*"])], certain=-1)("a,b") == 1
    assert HeaderLines([(1, ["a", "b"])], certain=-1)("a,b") == 0
    assert HeaderLines([(1, ["caf\xe9"])], certain=-1)("caf\xc3\xa9") == 1
