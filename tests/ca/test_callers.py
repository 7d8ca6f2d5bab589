"""Who asks for a certificate is said by his certificate or his token alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from meshlib.ca.callers import UnknownCaller, caller, of_kubernetes, of_list, read_keys, read_list
from meshlib.ca.folders import BadStore
from meshlib.security.authority import Authority
from meshlib.security.jwk import key_set
from tests.support.tokens import issuer

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
ADMIN = "spiffe://cluster.local/ns/default/sa/admin"
LEAF = ROOT.issue(REVIEWS, NOW).leaf
ISSUER = issuer("ES256")
CLAIMS = {
    "iss": "https://dev",
    "aud": ["istio-ca"],
    "sub": "system:serviceaccount:default:reviews",
    "exp": NOW + 600,
}
BY_JWT = of_kubernetes(
    key_set(ISSUER.jwks().encode()),
    "https://dev",
    ["istio-ca"],
    "cluster.local",
)
BY_LIST = of_list({hashlib.sha256(b"t0k3n").digest(): ADMIN})


def test_by_certificate_or_by_token() -> None:
    assert caller(LEAF, [], None, "cluster.local", NOW).text == REVIEWS
    assert caller(None, ["Bearer t0k3n"], BY_LIST, "cluster.local", NOW).text == ADMIN
    assert caller(None, [f"Bearer {ISSUER.token(CLAIMS)}"], BY_JWT, "cluster.local", NOW).text == REVIEWS


def test_the_certificate_goes_before_the_token() -> None:
    assert caller(LEAF, ["Bearer t0k3n"], BY_LIST, "cluster.local", NOW).text == REVIEWS


OTHER = Authority.root("other.test", NOW)


@pytest.mark.parametrize(
    ("leaf", "authorizations", "why"),
    [
        (None, [], "no certificate and no bearer token"),
        (None, ["t0k3n"], "no certificate and no bearer token"),
        (None, ["bearer t0k3n"], "no certificate and no bearer token"),
        (None, ["Bearer x"], "the token is not in the list"),
        (None, ["Bearer "], "the token is not in the list"),
        (None, ["Bearer t0k3n", "Bearer t0k3n"], "several tokens"),
        (ROOT.root_der, [], "is the certificate of an authority"),
        (b"garbage", [], "is not a valid certificate"),
        (OTHER.issue("spiffe://other.test/ns/default/sa/reviews", NOW).leaf, [], "of the trust domain other.test"),
    ],
)
def test_nobody_else_is_anybody(leaf: bytes | None, authorizations: list[str], why: str) -> None:
    with pytest.raises(UnknownCaller, match=why):
        caller(leaf, authorizations, BY_LIST, "cluster.local", NOW)


def test_without_an_issuer_no_token_is_believed() -> None:
    with pytest.raises(UnknownCaller, match="no issuer of tokens is configured"):
        caller(None, ["Bearer t0k3n"], None, "cluster.local", NOW)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iss": "https://evil"}, "the token is refused"),
        ({"aud": ["kubernetes"]}, "the token is refused"),
        ({"aud": []}, "the token is refused"),
        ({"exp": NOW - 600}, "the token is refused"),
        ({"nbf": NOW + 600}, "the token is refused"),
        ({"exp": None}, "the token"),
        ({"sub": "jo"}, "is not that of a service account"),
        ({"sub": "system:serviceaccount:default"}, "subject is not"),
        ({"sub": "system:serviceaccount:default:"}, "subject is not"),
        ({"sub": "system:serviceaccount:default:a:b"}, "subject is not"),
        ({"sub": "system:serviceaccount:default:../admin"}, "is not a valid SPIFFE ID"),
        ({"sub": "system:serviceaccount:a/sa/admin:b"}, "path"),
    ],
)
def test_a_token_that_does_not_hold_is_nobodys(change: dict[str, object], why: str) -> None:
    claims = {key: value for key, value in {**CLAIMS, **change}.items() if value is not None}
    if change.get("sub") == "system:serviceaccount:a/sa/admin:b":
        found = caller(None, [f"Bearer {ISSUER.token(claims)}"], BY_JWT, "cluster.local", NOW)
        assert found.service_account == ""  # no name in the way of Kubernetes
        return
    with pytest.raises(UnknownCaller, match=why):
        caller(None, [f"Bearer {ISSUER.token(claims)}"], BY_JWT, "cluster.local", NOW)


def test_a_token_of_another_key_is_nobodys() -> None:
    with pytest.raises(UnknownCaller, match="the token is refused"):
        caller(None, [f"Bearer {issuer('RS256').token(CLAIMS)}"], BY_JWT, "cluster.local", NOW)


def test_an_issuer_needs_its_name_and_an_audience() -> None:
    for name, audiences in (("", ["istio-ca"]), ("https://dev", [])):
        with pytest.raises(ValueError, match="an issuer of tokens needs"):
            of_kubernetes(key_set(b'{"keys": []}'), name, audiences, "cluster.local")


def test_a_list_is_read_and_keeps_no_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"t0k3n": ADMIN}))
    file.chmod(0o600)
    found = read_list(file, "cluster.local")
    assert of_list(found)("t0k3n", NOW) == ADMIN
    assert "t0k3n" not in repr(found)


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ('{"c4n4ry": "' + ADMIN + '"}', 0o644, "others may read"),
        ("c4n4ry", 0o600, "is not a valid list of tokens"),
        ('["c4n4ry"]', 0o600, "is not a valid list of tokens"),
        ('{"c4n4ry": 1}', 0o600, "is not a valid list of tokens"),
        ('{"c4n4ry": "spiffe://other.test/x"}', 0o600, "entry 1"),
        ('{"": "' + ADMIN + '"}', 0o600, "empty token"),
    ],
)
def test_a_list_that_cannot_be_used_is_named_without_a_token(text: str, mode: int, why: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(BadStore, match=why) as raised:
        read_list(file, "cluster.local")
    assert str(file) in str(raised.value)
    assert "c4n4ry" not in str(raised.value)


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    with pytest.raises(BadStore, match="cannot be read: No such file"):
        read_keys(file)
    for text in ("garbage", '{"keys": []}'):
        file.write_text(text)
        with pytest.raises(BadStore, match=r"jwks\.json (is not a valid|has no key)"):
            read_keys(file)
