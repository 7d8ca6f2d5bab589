"""The path that a request is routed by and forwarded with, for each of Istio's normalizations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.path_spellings import NORMALIZATIONS, normalize
from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.transport.protocol.http1_request import Refused

PIECES = [
    "/",
    "//",
    ".",
    "..",
    "/.",
    "%2e",
    "%2F",
    "%5C",
    "\\",
    ";",
    "a",
    "B",
    "-",
    "_",
    "%41",
    "%7e",
    "%25",
    "%",
    "%zz",
    "{",
    "|",
    "\xe9",
]


@pytest.mark.parametrize(
    ("target", "base", "merged", "decoded"),
    [
        (b"/", b"/", b"/", b"/"),
        (b"/a/b?c=d/../e", b"/a/b?c=d/../e", b"/a/b?c=d/../e", b"/a/b?c=d/../e"),
        (b"/a/../b", b"/b", b"/b", b"/b"),
        (b"/a/%2e%2E/b?%2e", b"/b?%2e", b"/b?%2e", b"/b?%2e"),
        (b"//a//b", b"//a//b", b"/a/b", b"/a/b"),
        (b"/a%2Fb", b"/a%2Fb", b"/a%2Fb", b"/a/b"),
        (b"/a%5Cb", b"/a%5Cb", b"/a%5Cb", b"/a/b"),
        (b"/a\\b", b"/a/b", b"/a/b", b"/a/b"),
        (b"/%61%7Eb", b"/a~b", b"/a~b", b"/a~b"),
        (b"/{a}", b"/%7Ba%7D", b"/%7Ba%7D", b"/%7Ba%7D"),
        (b"/a/..%2fb", b"/a/..%2fb", b"/a/..%2fb", b"/b"),
        (b"/%e9", b"/%e9", b"/%e9", b"/%e9"),
    ],
)
def test_a_path_is_normalized_and_its_query_is_not(target: bytes, base: bytes, merged: bytes, decoded: bytes) -> None:
    assert [forwarded_path(target, each) for each in NORMALIZATIONS] == [target, base, merged, decoded]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_nul_is_refused_whatever_the_normalization(normalization: str) -> None:
    with pytest.raises(Refused) as refused:
        forwarded_path(b"/a%00b", normalization)  # type: ignore[arg-type]
    assert refused.value.status == 400
    assert forwarded_path(b"/a?%00", normalization) == b"/a?%00"  # type: ignore[arg-type]


@pytest.mark.parametrize("byte", [b"\x80", b"\xe9", b"\xff", b"\x7f", b" ", b"\0"])
def test_a_byte_that_no_path_has_is_refused_and_in_a_query_it_is_not_ours_to_judge(byte: bytes) -> None:
    with pytest.raises(Refused) as refused:
        forwarded_path(b"/a" + byte, "NONE")
    assert refused.value.status == 400
    assert forwarded_path(b"/a?" + byte, "BASE") == b"/a?" + byte


def test_a_path_that_would_be_another_one_behind_the_next_proxy_is_refused() -> None:
    assert normalize("/a/%2e%2e;/b", "BASE") == "/a/..;/b"  # which is /b once more
    with pytest.raises(Refused, match="changes each time"):
        forwarded_path(b"/a/%2e%2e;/b", "BASE")
    assert forwarded_path(b"/a/%2e%2e;/b", "NONE") == b"/a/%2e%2e;/b"


@given(st.lists(st.sampled_from(PIECES), max_size=9), st.sampled_from(NORMALIZATIONS))
def test_what_goes_on_is_what_authorization_judges_and_stays_so(pieces: list[str], normalization: str) -> None:
    path = "/" + "".join(pieces)
    try:
        made = forwarded_path(path.encode("latin-1"), normalization)  # type: ignore[arg-type]
    except Refused:
        return
    assert made.decode("latin-1") == normalize(path, normalization)  # type: ignore[arg-type]
    assert forwarded_path(made, normalization) == made  # type: ignore[arg-type]
