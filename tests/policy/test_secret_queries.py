"""URLs are written down without what opens doors."""

from __future__ import annotations

import pytest

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


def test_what_stands_behind_a_fragment_is_parameters_too() -> None:
    assert location_without_secrets("/a?x=1&token=t#token=t&x=1") == "/a?x=1&token=***#token=***&x=1"
    assert location_without_secrets("/a") == "/a"
    assert header_shown("location", "/#token=t") == "/#token=***"
    assert header_shown("content-location", "/?token=t") == "/?token=***"


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
