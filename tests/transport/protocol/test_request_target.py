"""What request line and Host name: the same for every server, and 400 for what two of them would read differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.refusal import Refusal
from meshlib.transport.protocol import request_target
from meshlib.transport.protocol.request_target import (
    BAD_HOST,
    CHARACTERS,
    FORM,
    FRAGMENT,
    NO_HOST,
    OTHER_HOST,
    Target,
    is_authority,
    read_target,
)

LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=40)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a/b", "/a/b", ""),
        ("/a?b=1", "/a", "b=1"),
        ("/a?b=1?c", "/a", "b=1?c"),
        ("//a", "//a", ""),
        ("/a%2Fb;x=1", "/a%2Fb;x=1", ""),
        ("/\xc3\xa4", "/\xc3\xa4", ""),
        ("/http://other/", "/http://other/", ""),
        ("http://shop:8080/a?b", "/a", "b"),
        ("HTTPS://SHOP:8080/a", "/a", ""),
        ("http://shop:8080", "/", ""),
        ("http://shop:8080?b", "/", "b"),
    ],
)
def test_a_target_is_read_into_path_and_query_as_sent(target: str, path: str, query: str) -> None:
    assert read_target("GET", target, "shop:8080") == Target(path, query, "shop:8080")


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        ("/a#b", FRAGMENT),
        ("/#", FRAGMENT),
        ("/a?b#c", FRAGMENT),
        ("http://shop/a#b", FRAGMENT),
        ("/a b", CHARACTERS),
        ("/a\n", CHARACTERS),
        ("/a\x00", CHARACTERS),
        ("/\x7f", CHARACTERS),
        ("", FORM),
        ("a", FORM),
        ("*", FORM),
        ("shop:80", FORM),
        ("ftp://shop/a", FORM),
        ("?a", FORM),
        ("http:/a", FORM),
        ("http://other/a", OTHER_HOST),
        ("http://shop:80/a", OTHER_HOST),
        ("http:///a", OTHER_HOST),
        ("http://u@shop/a", OTHER_HOST),
        ("http://shop\\@other/a", OTHER_HOST),
    ],
)
def test_a_target_that_could_be_read_in_two_ways_is_refused(target: str, refused: Refusal) -> None:
    found = read_target("GET", target, "shop")
    assert found is refused
    assert (found.status, found.flag) == (400, "DPE")
    assert found.detail not in str(found.body)  # the reason is ours to know


def test_the_asterisk_is_for_options_and_connect_is_for_proxies() -> None:
    assert read_target("OPTIONS", "*", "shop") == Target("*", "", "shop")
    assert read_target("CONNECT", "shop:443", "shop:443") is FORM
    assert read_target("CONNECT", "/a", "shop") is FORM


@pytest.mark.parametrize(
    "host", ["shop", "shop.default.svc:8080", "shop:65535", "127.0.0.1:1", "[::1]", "[::1]:80", "Shop.", "a_b", "%41"]
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: str) -> None:
    assert is_authority(host)
    assert read_target("GET", "/", host) == Target("/", "", host)


@pytest.mark.parametrize(
    "host",
    ["", " ", "a,b", "a, b", "a b", "u@shop", "shop:", "shop:123456", "shop:65536", "shop:99999", "shop:0", "shop:080",
     "shop:00080", "[::1]:080", "shop:x", "shop/a", "shop#", "shop?", "a\nb", "\xe4",
     "[::1", "::1", "[::1]x", "shop:80:80", "a\\b", "a" * 262],
)  # fmt: skip
def test_a_host_that_is_not_one_name_is_refused(host: str) -> None:
    assert read_target("GET", "/", host) is BAD_HOST


def test_a_request_without_a_host_is_refused() -> None:
    assert read_target("GET", "/", None) is NO_HOST
    assert read_target("GET", "http://shop/", None) is NO_HOST


def test_http_1_0_needs_no_host_and_its_target_may_name_one() -> None:
    assert read_target("GET", "/a", None, host_needed=False) == Target("/a", "", None)
    assert read_target("GET", "http://shop/a", None, host_needed=False) == Target("/a", "", "shop")
    assert read_target("GET", "http://u@shop/a", None, host_needed=False) is BAD_HOST
    assert read_target("GET", "/", "a,b", host_needed=False) is BAD_HOST


@given(st.sampled_from(["GET", "OPTIONS", "CONNECT"]), LATIN_1 | LATIN_1.map("/".__add__), LATIN_1 | st.just("shop"))
def test_whatever_is_sent_is_read_to_the_letter_or_refused(method: str, target: str, host: str) -> None:
    found = read_target(method, target, host)
    if isinstance(found, Refusal):
        assert found.status == 400
        return
    assert "#" not in found.path + found.query
    assert found.authority is not None
    assert "," not in found.authority
    assert "@" not in found.authority
    assert found.path == "*" or found.path.startswith("/")
    assert "?" not in found.path
    sent = found.path + (f"?{found.query}" if found.query or target.endswith("?") else "")
    assert target == sent or target.lower().endswith(sent.lower().removeprefix("/"))


@given(st.text(st.characters(max_codepoint=255), max_size=3))
def test_a_target_that_is_clear_at_a_glance_has_nothing_unclear(rest):
    refused = read_target("GET", f"/{rest}", "a") in (FRAGMENT, CHARACTERS)
    assert refused == any(not ("!" <= each <= "~" or each >= "\x80") or each == "#" for each in rest)


def test_of_a_host_that_is_too_long_nothing_is_kept():
    kept = request_target._is_authority.cache_info().currsize
    assert not is_authority("a" * 60_000)
    assert request_target._is_authority.cache_info().currsize == kept
