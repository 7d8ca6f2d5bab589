"""Claims as principal, lists and headers."""

from __future__ import annotations

import pytest

from meshlib.security.token_claims import SPACE_DELIMITED, claim_as_header, claim_path, principal, split_claims


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": "https://idp/", "sub": "a/b"}, "https://idp//a/b"),
        ({"iss": "a"}, ""),
        ({"sub": "a"}, ""),
        ({"iss": "", "sub": "a"}, ""),
        ({"iss": "a", "sub": ""}, ""),
    ],
)
def test_a_principal_is_issuer_and_subject(claims, expected):
    assert principal(claims) == expected


def test_claims_of_words_become_lists():
    claims = {"scope": "read  write ", "permission": "", "groups": "a b", "perms": ["a b"], "n": 1}
    assert split_claims(claims, SPACE_DELIMITED) == {**claims, "scope": ["read", "write"]}
    assert split_claims(claims, {"groups", "perms", "n", "none"}) == {**claims, "groups": ["a", "b"]}
    assert claims["scope"] == "read  write ", "what was given stays"
    assert split_claims({"scope": "  "}, SPACE_DELIMITED) == {"scope": "  "}


CLAIMS = {
    "text": "Jane",
    "yes": True,
    "no": False,
    "number": 42,
    "zero": 0,
    "big": 2**53 + 1,
    "negative": -5,
    "half": 1.5,
    "whole": 3.0,
    "huge": 2.0**64,
    "list": ["a"],
    "many": [1.0, 1.5, None, True, "<", {"b": [], "a": 1}],
    "null": None,
    "empty": "",
    "injection": "a\r\nx: b",
    "nul": "a\0",
    "umlaut": "J\u00e4ne",
    "nested": {"key": {"deep": "x"}, "a.b": "y"},
    "flat.name": "z",
}


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("text", b"Jane"),
        ("yes", b"true"),
        ("no", b"false"),
        ("number", b"42"),
        ("zero", b"0"),
        ("big", b"9007199254740992"),
        ("negative", b"-5.000000"),
        ("half", b"1.500000"),
        ("whole", b"3"),
        ("huge", b"18446744073709551616.000000"),
        ("umlaut", "J\u00e4ne".encode()),
        ("nested.key.deep", b"x"),
        ("nested.key", b"eyJkZWVwIjoieCJ9"),
        ("nested.a.b", None),
        ("flat.name", None),
        ("text.more", None),
        ("list", b"WyJhIl0="),
        ("many", b"WzEsMS41LG51bGwsdHJ1ZSwiXHUwMDNjIix7ImEiOjEsImIiOltdfV0="),
        ("null", None),
        ("empty", None),
        ("absent", None),
        ("injection", None),
        ("nul", None),
    ],
)
def test_a_claim_as_header(claim, expected):
    assert claim_as_header(CLAIMS, claim_path(claim)) == expected
