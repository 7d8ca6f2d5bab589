"""Values that are not shown."""

from __future__ import annotations

import pytest

from meshlib.policy.secret_values import HIDDEN, is_secret, shown


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
