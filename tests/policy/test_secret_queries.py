"""URLs are written down without what opens doors."""

from __future__ import annotations

from meshlib.policy.secret_queries import decoded, query_without_secrets, without_secrets


def test_a_query_keeps_the_rest() -> None:
    assert without_secrets("/a?x=1&token=t&&y&sig=&token") == "/a?x=1&token=***&&y&sig=&token"
    assert without_secrets("/token=1") == "/token=1"
    assert query_without_secrets("%61pi_key=s3cret&b=%20") == "%61pi_key=***&b=%20"


def test_names_are_decoded() -> None:
    assert decoded("%61+b%c3%bc") == "a b\xc3\xbc"
    assert decoded("plain") == "plain"
