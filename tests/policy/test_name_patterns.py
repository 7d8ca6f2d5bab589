"""Which headers a list of MeshConfig means."""

from __future__ import annotations

import pytest

from meshlib.policy.name_patterns import NamePatterns


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("X-User", ["x-user"], ["x-user-id", "a-x-user", ""]),
        ("X-*", ["x-", "x-user"], ["ax-user", "y-x-"]),
        ("*-Id", ["-id", "user-id"], ["user-id-2", "id"]),
        ("*a*", ["xa*", "a*"], ["a", "xab"]),
    ],
)
def test_a_pattern_is_a_name_a_prefix_or_a_suffix(pattern: str, names: list[str], others: list[str]) -> None:
    found = NamePatterns.parse([pattern])
    assert found
    assert all(found.has(name) for name in names)
    assert not any(found.has(name) for name in others)


def test_several_patterns_are_any_of_them_and_none_is_nothing() -> None:
    found = NamePatterns.parse(["a", "b-*", "*-c"])
    assert [name for name in ("a", "b-x", "x-c", "x") if found.has(name)] == ["a", "b-x", "x-c"]
    assert not NamePatterns.parse([])
    assert not NamePatterns.parse([]).has("a")
