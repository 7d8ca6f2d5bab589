"""Tokens that were verified: kept by their text and their keys, and not too many."""

from __future__ import annotations

import pytest

from meshlib.engine import verified_tokens
from meshlib.engine.verified_tokens import Verified, VerifiedTokens
from meshlib.security.jwk import KeySet
from meshlib.security.jwt import Jwt
from tests.support.tokens import issuer

TOKEN = Jwt(issuer("ES256").token({"iss": "a", "sub": "canary"}))
KEYS = KeySet(())


def verified(keys=KEYS):
    return Verified(TOKEN, keys, {"sub": "canary"}, "a/canary", ())


def test_what_is_kept_is_found_by_text_and_keys():
    tokens = VerifiedTokens()
    kept = verified()
    tokens.keep("a", kept)
    assert tokens.get("a", KEYS) is kept
    assert tokens.get("b", KEYS) is None
    assert tokens.get("a", KeySet(())) is None, "other keys, however alike"
    assert tokens.get("a", KEYS) is None, "and what they had not verified is gone"


def test_without_keys_nothing_is_found():
    tokens = VerifiedTokens()
    tokens.keep("a", verified())
    assert tokens.get("a", None) is None


@pytest.mark.parametrize(("most", "characters", "left"), [(3, 1000, ["c", "d", "e"]), (100, 2, ["d", "e"])])
def test_the_oldest_are_given_up(monkeypatch, most, characters, left):
    monkeypatch.setattr(verified_tokens, "MOST_TOKENS", most)
    monkeypatch.setattr(verified_tokens, "MOST_CHARACTERS", characters)
    tokens = VerifiedTokens()
    for text in "aabcdee":
        tokens.keep(text, verified())
    assert [text for text in "abcde" if tokens.get(text, KEYS)] == left
    assert len(tokens) == len(left)
    for text in left:
        tokens.forget(text)
        tokens.forget(text)
    for text in left:
        tokens.keep(text, verified())
    assert len(tokens) == len(left), "what is forgotten makes room"


def test_after_a_fork_it_goes_on():
    tokens = VerifiedTokens()
    tokens.keep("a", verified())
    tokens._lock.acquire()
    tokens.after_fork()
    tokens.keep("b", verified())
    assert len(tokens) == 2


def test_nothing_of_a_token_is_shown():
    tokens = VerifiedTokens()
    tokens.keep("canary", verified())
    assert "canary" not in repr(tokens) + repr(verified())
