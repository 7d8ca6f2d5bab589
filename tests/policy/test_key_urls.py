"""Where keys are fetched from, and how far a redirect may lead."""

from __future__ import annotations

import pytest

from meshlib.policy.key_urls import BadKeyUrl, KeyUrl, key_url, redirected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://idp/keys?a=b#c", KeyUrl("https", "idp", "idp", 443, "/keys?a=b")),
        ("HTTP://IdP:8080", KeyUrl("http", "IdP:8080", "idp", 8080, "/")),
        ("http://[::1]:81/k", KeyUrl("http", "[::1]:81", "::1", 81, "/k")),
        ("https://u:p%40@idp/k", KeyUrl("https", "idp", "idp", 443, "/k", "dTpwQA==")),
    ],
)
def test_a_url(text, expected):
    assert key_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys",
        "file:///etc/passwd",
        "ftp://idp/",
        "https:///keys",
        "https:keys",
        "http://idp:x/",
        "http://[::1/",
        "http://a b/",
        "http://idp/\n",
        "http://idp/\u00e9",
    ],
)
def test_no_url_of_keys(text):
    with pytest.raises(BadKeyUrl):
        key_url(text)


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("https://idp/a", "/b?c", "https://idp/b?c"),
        ("https://idp/a/b", "c", "https://idp/a/c"),
        ("https://idp/a", "https://IDP:443/b", "https://IDP:443/b"),
        ("http://idp/a", "https://idp/a", "https://idp/a"),
        ("http://idp:8080/a", "http://idp:8080/b", "http://idp:8080/b"),
    ],
)
def test_a_redirect_on_the_same_server(url, location, expected):
    found = redirected(key_url(url), location)
    assert f"{found.scheme}://{found.authority}{found.target}" == expected


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://idp/a", "https://evil/a"),
        ("https://idp/a", "//evil/a"),
        ("https://idp/a", "http://idp/a"),
        ("https://idp/a", "https://idp:8443/a"),
        ("http://idp:8080/a", "https://idp/a"),
        ("http://idp/a", "http://169.254.169.254/latest"),
        ("http://idp/a", "file:///etc/passwd"),
        ("https://idp/a", "https://idp@evil/"),
        ("https://idp/a", "https://user@idp/"),
    ],
)
def test_a_redirect_elsewhere_is_not_followed(url, location):
    with pytest.raises(BadKeyUrl):
        redirected(key_url(url), location)


def test_credentials_stay_with_the_server_and_are_not_shown():
    found = redirected(key_url("https://u:canary@idp/a"), "/b")
    assert found.credentials == key_url("https://u:canary@idp/a").credentials
    assert found.credentials not in repr(found)
