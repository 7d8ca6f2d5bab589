"""Host names that may be wildcards."""

from __future__ import annotations

import pytest

from meshlib.analysis.hosts import matches, scopes


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.example", False),
        ("*", "a.example", True),
        ("*.example", "a.example", True),
        ("a.example", "*.example", True),
        ("*.example", "example", False),
        ("*.a.example", "*.example", True),
        ("*.example", "*.a.example", True),
        ("*.a.example", "*.b.example", False),
        ("*", "*", True),
    ],
)
def test_whether_two_names_have_a_host_in_common(one: str, other: str, common: bool):
    assert matches(one, other) is common


def test_scopes_of_export_to():
    assert scopes(None, "a") == scopes([], "a") == scopes([".", "*"], "a") == ["*"]
    assert scopes([".", "b", "a"], "a") == ["a", "b"]
