"""Rewritten paths and the Location of redirects, on wire strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.regex import rewriter
from meshlib.policy.rewrite import Redirect, Rewrite


@pytest.mark.parametrize(
    ("prefix", "path", "matched", "made"),
    [
        ("/b", "/a/x", "/a", "/b/x"),
        ("/", "/a", "/a", "/"),
        ("/", "/a/x", "/a", "//x"),
        ("/b", "/ax", "/a", "/bx"),
        ("/b", "/a/x", None, "/b"),  # an exact or regex match: the whole path
        ("/bar", "/foo", "/", "/barfoo"),  # no uri match
        (None, "/a/x", "/a", "/a/x"),
        ("", "/a/x", "/a", "/x"),
    ],
)
def test_the_prefix_takes_the_place_of_what_matched(prefix, path, matched, made):
    assert Rewrite(prefix=prefix).path(path, matched) == made


def test_a_regex_rewrites_every_match_whatever_matched():
    rewrite = Rewrite(prefix="/unused", regex=rewriter("a(.)", r"<\1>"))
    assert rewrite.path("/ab/ac", "/ab") == "/<b>/<c>"
    assert rewrite.path("/ab", None) == "/<b>"


@given(st.text("/ab", max_size=5), st.text("/ab", min_size=1, max_size=3), st.text("/abc", max_size=5))
def test_what_follows_the_prefix_stays(new, matched, rest):
    assert Rewrite(prefix=new).path(matched + rest, matched) == new + rest


def test_a_rewrite_has_words():
    full = Rewrite("/b", rewriter("a", "b"), "other")
    assert full.text == "uri /b, uri by regex, authority other"
    assert Rewrite().text == ""


def location(url: str, matched: str | None = None, **redirect: object) -> str:
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return Redirect(**redirect).location(scheme, authority, slash + path, matched)


@pytest.mark.parametrize(
    ("redirect", "url", "wanted"),
    [
        ({}, "http://a/p?q=1", "http://a/p?q=1"),
        ({"uri": "/n"}, "http://a:9080/o?z=1", "http://a:9080/n?z=1"),
        ({"uri": "/n?own=1"}, "http://a/o?z=1", "http://a/n?own=1"),
        ({"uri": "n"}, "http://a/o", "http://a/n"),
        ({"authority": "b"}, "http://a:9080/o", "http://b/o"),
        ({"authority": "b:81"}, "http://a:9080/o", "http://b:81/o"),
        ({"port": 8443}, "http://a:9080/p", "http://a:8443/p"),
        ({"port": 80}, "http://a:9080/p", "http://a:9080/p"),  # the scheme's default is as if it were not there
        ({"port": 443, "scheme": "https"}, "http://a:9080/p", "https://a:9080/p"),
        ({"port": 443}, "http://a:9080/p", "http://a:443/p"),
        ({"scheme": "https"}, "http://a:80/p", "https://a/p"),
        ({"scheme": "http"}, "https://a:443/p", "http://a/p"),
        ({"scheme": "https"}, "http://a:443/p", "https://a:443/p"),
        ({"scheme": "http"}, "http://a:80/p", "http://a:80/p"),
        ({"scheme": "https", "authority": "b:80"}, "http://a/p", "https://b:80/p"),
        ({"scheme": "https"}, "http://[::1]:80/p", "https://[::1]/p"),
        ({"port": 81}, "http://[::1]/p", "http://[::1]:81/p"),
        ({"port": 81}, "http://a:x/p", "http://a:x:81/p"),
    ],
)
def test_a_redirect_changes_just_what_it_names(redirect, url, wanted):
    assert location(url, **redirect) == wanted


@pytest.mark.parametrize(
    ("prefix", "matched", "wanted"),
    [("/new", "/old", "http://a/new/x?q"), ("/new", None, "http://a/new?q"), ("", "/old", "http://a/x?q")],
)
def test_a_redirect_of_a_prefix_swaps_just_that_and_keeps_the_query(prefix, matched, wanted):
    assert location("http://a/old/x?q", matched, prefix=prefix) == wanted


def test_a_uri_counts_more_than_a_prefix():
    assert location("http://a/old", "/old", uri="/u", prefix="/p") == "http://a/u"


def test_the_code_is_301_unless_another_is_named():
    assert (Redirect().code, Redirect(308).code) == (301, 308)
