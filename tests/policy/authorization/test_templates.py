"""Path templates, as Envoy's uri_template matcher has them."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.templates import FEW, Templates, is_template


@pytest.mark.parametrize(
    ("template", "matching", "others"),
    [
        ("/a/{*}", ["/a/b", "/a/*", "/a/b.c;d=e:@"], ["/a", "/a/", "/a/b/", "/a/b/c", "/x/b"]),
        ("/a/{**}", ["/a/", "/a/b", "/a/b/c/"], ["/a", "/ab"]),
        ("/{*}/b", ["/a/b"], ["/b", "//b", "/a/c/b"]),
        ("/a/{*}/c/{**}", ["/a/b/c/", "/a/b/c/d/e"], ["/a/c/d", "/a/b/c"]),
        ("/a/{**}/z", ["/a//z", "/a/b/c/z"], ["/a/z", "/a/b"]),
        ("/a.b/{*}", ["/a.b/c"], ["/aXb/c"]),
    ],
)
def test_segments_and_the_rest(template: str, matching: list[str], others: list[str]) -> None:
    for as_envoy in (-1, 0):
        matches = Templates([(1, [template])], as_envoy)
        assert [path for path in [*matching, *others] if matches(path)] == matching


def test_operators_match_what_envoy_lets_them_unless_the_path_is_decoded() -> None:
    assert Templates([(1, ["/a/{*}"])], as_envoy=-1)("/a/b|c") == 0
    assert Templates([(1, ["/a/{*}"])], as_envoy=0)("/a/b|c d\xc3\xa9") == 1
    assert Templates([(1, ["/a/{**}"])], as_envoy=0)("/a/b\nc") == 1


def test_many_of_one_beginning_are_found_together() -> None:
    many = [(1 << i, [f"/{{*}}/x{i}/{{**}}"]) for i in range(FEW + 20)]
    matches = Templates(many, as_envoy=-1)
    assert [matches(f"/a/x{i}/") for i in range(FEW + 20)] == [1 << i for i in range(FEW + 20)]
    assert matches("/a/y") == 0


def test_what_is_a_template() -> None:
    assert [is_template(p) for p in ("/{*}", "/a/{**}", "/a/*", "/{a}")] == [True, True, False, False]
