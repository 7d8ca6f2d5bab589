"""URLs are written down without what opens doors."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.secret_queries import (
    SHORT,
    decoded,
    harmless,
    header_shown,
    location_without_secrets,
    query_without_secrets,
    readable,
    without_secrets,
)


def test_a_query_keeps_the_rest() -> None:
    assert without_secrets("/a?x=1&token=t&&y&sig=&token") == "/a?x=1&token=***&&y&sig=&token"
    assert without_secrets("/token=1") == "/token=1"
    assert query_without_secrets("%61pi_key=s3cret&b=%20") == "%61pi_key=***&b=%20"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("x=1;token=SECRET", "x=1;token=***"),
        ("x=1;token=SECRET;y=2&z=3", "x=1;token=***&z=3"),
        ("x;token=SECRET", "x;token=***"),
        (";token=SECRET", ";token=***"),
        ("x=1;%74oken=SECRET", "x=1;%74oken=***"),
        ("x=1;y=2;token=;z", "x=1;y=2;token=;z"),
    ],
)
def test_semicolons_part_parameters_too_as_some_servers_have_it(query: str, shown: str) -> None:
    assert query_without_secrets(query) == shown
    assert without_secrets(f"/a?{query}") == f"/a?{shown}"


def test_what_stands_behind_a_fragment_is_parameters_too() -> None:
    assert location_without_secrets("/a?x=1&token=t#token=t&x=1") == "/a?x=1&token=***#token=***&x=1"
    assert location_without_secrets("/a") == "/a"
    assert header_shown("location", "/#token=t") == "/#token=***"
    assert header_shown("content-location", "/?token=t") == "/?token=***"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://app/cb#access_token=SECRET&state=/home?tab=1", "https://app/cb#access_token=***&state=/home?tab=1"),
        ("https://user:SECRET@a/", "https://a/"),
        ("//user:SECRET@a/b@c", "//a/b@c"),
        (r"https:/\SECRET@a", r"https:/\a"),
        ("https:SECRET@a", "https:a"),
        ("https://a/?x=1,https://b/?access_token=SECRET", "https://a/?x=1,https://b/?access_token=***"),
        ("https://a/,https://user:SECRET@b/", "https://a/,https://b/"),
        ("/a?next=/x?token=SECRET&y=2", "/a?next=/x?token=***&y=2"),
        ("/a?next=%2Fx%3Ftoken%3DSECRET&y=2", "/a?next=***&y=2"),
        ("/a?next=https%3A%2F%2Fu%3ASECRET%40b", "/a?next=***"),
        ("/a?next=%252Fx%253Fcode%253DSECRET", "/a?next=***"),
        ("/a?next=%252525252525252525253D", "/a?next=***"),
        ("/a?next=%2Fx%3Ftab%3D1", "/a?next=%2Fx%3Ftab%3D1"),
        ("/a#state=x;access_token=SECRET", "/a#state=x;access_token=***"),
        ("/a;jsessionid=SECRET?x=1", "/a;jsessionid=***"),
        ("/a#/done/code=SECRET", "/a#/done/code=***"),
        ("/a?x=code=SECRET", "/a?x=code=***"),
        ("/a?token=SECRET;SECRET,SECRET?SECRET=&x=1", "/a?token=***&x=1"),
        ("/a#token=SECRET#SECRET", "/a#token=***"),
        ("/a?user[token]=SECRET&code[]=SECRET", "/a?user[token]=***&code[]=***"),
        ("/a?error_code=1&country.code=de&token=&100%&x", "/a?error_code=1&country.code=de&token=&100%&x"),
    ],
)
def test_a_location_tells_no_secret_wherever_it_stands(location: str, shown: str) -> None:
    assert location_without_secrets(location) == shown


_AROUND = st.text("ab=&?#;,/:@%2[]+. -\xe4", max_size=12)


@given(
    before=_AROUND,
    between=st.sampled_from(["?", "&", ";", "#", ",", "/", "=", "#/", "?x=/y?"]),
    name=st.sampled_from(["access_token", "code", "sig", "Session", "%74oken", "c%6fde", "api_key", "user[password]"]),
    value=st.lists(st.sampled_from(["SECRET", ";", ",", "?", "/", "=", "%41"]), max_size=5),
    after=st.one_of(st.just(""), st.tuples(st.sampled_from("&#"), _AROUND).map("".join)),
    encoded=st.integers(0, 3),
)
def test_no_value_of_a_secret_parameter_is_shown(
    before: str, between: str, name: str, value: list[str], after: str, encoded: int
) -> None:
    inner = f"{between}{name}={''.join(value)}SECRET"
    for _ in range(encoded):
        inner = quote(inner, safe="")
    told = location_without_secrets(f"https://a/{before}{inner}{after}")
    assert "SECRET" not in told


PARTS = (
    "a",
    "=",
    "a=&",
    "?",
    "#",
    ",https:",
    "//",
    "/",
    "//a",
    "@",
    "//a@",
    "%",
    "%25",
    "%3d",
    "%253Da",
    "/a",
    "code/",
    "+",
    ".",
)
LONGEST = 1 << 16
CPU_SECONDS = 2.0
"""A quadratic one takes several times that."""


@pytest.mark.parametrize("part", PARTS)
def test_a_location_is_read_in_linear_time(part: str) -> None:
    url = f"https://a/?{part * (LONGEST // len(part))}"
    begin = time.thread_time()
    location_without_secrets(url)
    assert time.thread_time() - begin < CPU_SECONDS


def test_what_is_legible_is_decoded() -> None:
    assert readable("a=%41+%20%00%7f%c3%a9%22%2&%3d") == "a=A+%20%00%7f%c3%a9%22%2&="


def test_names_are_decoded() -> None:
    assert decoded("%61+b%c3%bc") == "a b\xc3\xbc"
    assert decoded("plain") == "plain"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "authorization",
            "cookie",
            "token",
            "secret",
            "passw",
            "apikey",
            "api-key",
            "api_key",
            "credential",
            "signature",
        ),
        *("jwt", "session", "sig", "key", "code", "x-key", "Access_Token", "%74oken", "c%6fde", "+key", "my-PASSWORD"),
    ],
)
@pytest.mark.parametrize("query", ["%s=1", "a=1&%s=1", "%s=1&a=1", "&%s=1"])
def test_a_query_that_tells_a_secret_is_never_harmless(name: str, query: str) -> None:
    url = f"/a?{query % name}"
    assert (name == "+key") is (without_secrets(url) == url)
    assert not harmless(url.encode())


@pytest.mark.parametrize(
    "url", ["", "/a", "/token=1", "/a?", "/a?page=2&size=50", "/a?codes=1&signal&keys=", "/a?\xe4=\xff"]
)
def test_most_short_queries_are_known_to_be_harmless(url: str) -> None:
    assert harmless(url.encode("latin-1"))
    assert without_secrets(url) == url


def test_of_a_long_query_nobody_knows_at_once() -> None:
    assert harmless(b"/a?" + b"b" * (SHORT - 1))
    assert not harmless(b"/a?" + b"b" * SHORT)
