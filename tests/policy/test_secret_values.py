"""Values that are not shown."""

from __future__ import annotations

import pytest

from meshlib.policy import secret_values
from meshlib.policy.secret_values import HIDDEN, is_secret, shown, url_shown


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "access_token",
        "x-csrf-token",
        "x-api-key",
        "apikey",
        "client_secret",
        "password",
        "x-amz-signature",
        "sig",
        "code",
        "jwt",
    ],
)
def test_credentials_and_cookies_are_hidden(name):
    assert is_secret(name)
    assert shown(name, "hunter2") == shown(name.title(), "hunter2") == HIDDEN


@pytest.mark.parametrize("name", ["end-user", "x-request-id", "user-agent", "accept-encoding", "keyboard", "x-codec"])
def test_other_values_are_shown(name):
    assert not is_secret(name)
    assert shown(name, "it's") == '"it\'s"'


def test_that_one_is_absent_or_empty_is_no_secret():
    assert (shown("cookie", None), shown("cookie", "")) == ("absent", "''")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://reviews:9080/x", "http://reviews:9080/x"),
        ("http://u:p@reviews/x?a=b", "http://reviews/x?..."),
        ("http://u:p@reviews?a=b", "http://reviews?..."),
        ("u:p@reviews/x?a", "reviews/x?..."),
        ("http://reviews/a@b", "http://reviews/a@b"),
        ("rediss//u:p@redis:6379", "rediss//redis:6379"),
        ("//u:p@x", "//x"),
        ("", ""),
    ],
)
def test_a_url_as_it_may_be_shown(url, shown):
    assert url_shown(url) == shown


def test_long_names_are_judged_and_not_kept():
    kept = secret_values._is_secret.cache_info().currsize
    assert is_secret("x" * 60_000 + "token")
    assert not is_secret("x" * 60_000)
    assert secret_values._is_secret.cache_info().currsize == kept
