"""Every spelling in which somebody may read a path. What Envoy makes of one is compared with a real Envoy in
``tests/differential/test_paths_against_envoy.py``; the cases here are some of its responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy import path_spellings as module
from meshlib.policy.path_spellings import NORMALIZATIONS, decode, normalize, path_spellings, resolve

PATHS = st.text(st.sampled_from("/ab.%2fFeE5cC;\\#~{}41\x80\xc3\xa9\n "), max_size=24).map(lambda text: "/" + text)


@pytest.mark.parametrize(
    ("path", "base", "merged", "decoded_and_merged"),
    [
        ("/a/../b", "/b", "/b", "/b"),
        ("/a/%2E./b", "/b", "/b", "/b"),
        ("//a//b", "//a//b", "/a/b", "/a/b"),
        ("/a/..\\b", "/b", "/b", "/b"),
        ("/a%2f..%5Cb", "/a%2f..%5Cb", "/a%2f..%5Cb", "/b"),
        ("/%41%7e%5e", "/A~%5e", "/A~%5e", "/A~%5e"),
        ('/"{', "/%22%7B", "/%22%7B", "/%22%7B"),
        ("/a/..;x/b", "/b", "/b", "/b"),
        ("/a/%2e%2e;/b", "/a/..;/b", "/a/..;/b", "/a/..;/b"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/..", "/", "/", "/"),
        ("/a/..//b", "//b", "/b", "/b"),
        ("/a/...;/b", "/a/...;/b", "/a/...;/b", "/a/...;/b"),
        ("///", "///", "//", "//"),
        ("/%252e", "/%252e", "/%252e", "/%252e"),
        ("/%4%31", "/%2541", "/%2541", "/%2541"),
        ("/%zz%", "/%zz%", "/%zz%", "/%zz%"),
    ],
)
def test_normalized_as_envoy_does(path: str, base: str, merged: str, decoded_and_merged: str) -> None:
    assert [normalize(path, n) for n in NORMALIZATIONS] == [path, base, merged, decoded_and_merged]


def test_the_fragment_is_nobodys() -> None:
    spelled = path_spellings("/admin#/../public", "BASE")
    assert spelled.forbidden_at == ("/admin",)
    assert spelled.permitted_at == ("/admin",)


def test_decoded_once() -> None:
    assert path_spellings("/%2561dmin").decoded == "/%61dmin"
    assert decode("/a%2Fb%zz%") == "/a/b%zz%"


@pytest.mark.parametrize(
    ("decoded", "resolved"),
    [
        ("/a/../b", "/b"),
        ("//a///b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a/..;jsessionid=1/b", "/b"),
        ("/a/.;/b", "/a/b"),
        ("/../..", "/"),
        ("/a/b/", "/a/b/"),
        ("/a//", "/a/"),
        ("/a/b/..", "/a/"),
        ("/...", "/..."),
        ("/a.b/.c", "/a.b/.c"),
    ],
)
def test_resolved_as_the_most_obliging_application_would(decoded: str, resolved: str) -> None:
    assert resolve(decoded) == resolved


def test_what_forbids_looks_at_every_spelling_and_each_once() -> None:
    assert path_spellings("/x%2f..%2fadmin").forbidden_at == ("/x%2f..%2fadmin", "/x/../admin", "/admin")
    assert path_spellings("/admin").forbidden_at == ("/admin",)
    assert path_spellings("/%61//b", "MERGE_SLASHES").forbidden_at == ("/%61//b", "/a/b", "/a//b")


def test_what_permits_must_hold_at_the_normalized_and_the_decoded_one() -> None:
    assert path_spellings("/public/%2e%2e/admin").permitted_at == ("/admin", "/public/../admin")
    assert path_spellings("/plain").permitted_at == ("/plain",)


@pytest.mark.parametrize("path", ["/%00", "/a%0a", "/%1f", "/%ff", "/%c0%af", "/%e9", "/%ed%a0%80"])
def test_no_policy_can_judge_controls_and_what_is_no_utf8(path: str) -> None:
    for normalization in NORMALIZATIONS:
        assert path_spellings(path, normalization).problem.startswith("bad_path{")


@pytest.mark.parametrize("path", ["/a b", "/\x7f", "/caf\xc3\xa9", "/\n", "*", "", "http://evil/admin", "\\a", "#/a"])
def test_nor_what_is_no_path_of_a_request(path: str) -> None:
    assert path_spellings(path).problem


def test_nor_a_problem_that_is_in_the_fragment_only() -> None:
    assert not path_spellings("/a#%00").problem


@pytest.mark.parametrize("path", ["/caf%C3%A9", "/%20", "/%7f", "/%", "/%F0%9F%98%80"])
def test_escaped_utf8_is_fine(path: str) -> None:
    assert not path_spellings(path).problem


@given(PATHS, st.sampled_from(NORMALIZATIONS))
def test_never_raises_and_a_problem_leaves_nothing_to_judge(path: str, normalization: module.Normalization) -> None:
    spelled = path_spellings(path, normalization)
    assert all(one.startswith("/") for one in spelled.forbidden_at)
    if spelled.problem:
        assert spelled.forbidden_at == (spelled.wire,)


@given(PATHS)
def test_resolved_has_nothing_left_to_resolve(path: str) -> None:
    resolved = resolve(path)
    assert resolve(resolved) == resolved
    assert "//" not in resolved
    assert not {".", ".."} & set(resolved.split("/"))


@given(PATHS, st.sampled_from(NORMALIZATIONS))
def test_what_is_remembered_is_what_is_found(path: str, normalization: module.Normalization) -> None:
    first = path_spellings(path, normalization)
    module.forget()
    assert path_spellings(path, normalization) == first


def test_memory_is_bounded() -> None:
    module.forget()
    for number in range(2 * module.MOST_REMEMBERED + 10):
        path_spellings(f"/{number}")
    assert 0 < module.remembered() <= module.MOST_REMEMBERED


def test_long_paths_are_not_remembered() -> None:
    module.forget()
    path_spellings("/" + "a" * module.LONGEST_REMEMBERED)
    assert module.remembered() == 0
    path_spellings("/a")
    assert module.remembered() == 1
