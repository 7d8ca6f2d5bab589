"""Tokens: issuer and subject, nested claims and lists."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.tokens import Claims, Issued, RequestPrincipals, claim_names, claim_reader, issued

ISSUER = "https://issuer.test/realm"


@pytest.mark.parametrize(
    ("value", "who", "certain", "maybe"),
    [
        (f"{ISSUER}/sub", (ISSUER, "sub"), True, True),
        (f"{ISSUER}/*", (ISSUER, "any"), True, True),
        (f"{ISSUER}/su*", (ISSUER, "sub"), True, True),
        ("*/sub", (ISSUER, "sub"), True, True),
        ("*realm/sub", (ISSUER, "sub"), True, True),
        ("*ub", (ISSUER, "sub"), True, True),
        ("https://*", (ISSUER, "sub"), False, False),
        ("https*", ("https-x", "sub"), True, True),
        ("*", (ISSUER, "sub"), True, True),
        ("*", (None, None), False, False),
        ("*", (ISSUER, None), False, False),
        ("*", (ISSUER, ""), False, False),
        ("*/*", (ISSUER, "sub"), False, True),
        ("*/*", (ISSUER, "*"), True, True),
        ("iss/*ub", ("iss", "sub"), False, True),
        ("iss", ("iss", ""), True, True),
        ("iss", ("iss", "sub"), False, False),
        ("https://issuer.test/realm", ("https://issuer.test", "realm"), True, True),
    ],
)
def test_request_principals_are_split_at_the_last_slash(value: str, who: Issued, certain: bool, maybe: bool) -> None:
    assert bool(RequestPrincipals([(1, [value])], certain=-1)(who)) == certain
    assert bool(RequestPrincipals([(1, [value])])(who)) == maybe


def test_issuer_and_subject_are_texts() -> None:
    assert issued({"iss": "a", "sub": 7}) == ("a", None)
    assert issued({"iss": ["a"]}) == (None, None)
    assert issued(None) == (None, None)


@pytest.mark.parametrize(
    ("key", "names"), [("[a]", ("a",)), ("[a][b.c][d]", ("a", "b.c", "d")), ("[a[b]]", ("a[b]",)), ("[a]b]", ("a]b",))]
)
def test_names_of_nested_claims(key: str, names: tuple[str, ...]) -> None:
    assert claim_names(key) == names


@pytest.mark.parametrize(
    ("claims", "texts"),
    [
        ({"a": {"b": "x"}}, ("x",)),
        ({"a": {"b": ["x", 1, None, "y"]}}, ("x", "y")),
        ({"a": {"b": 1}}, ()),
        ({"a": {"b": True}}, ()),
        ({"a": {"b": {"c": "x"}}}, ()),
        ({"a": ["b"]}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_texts_of_a_claim(claims: dict[str, object] | None, texts: tuple[str, ...]) -> None:
    assert claim_reader(("a", "b"))(claims) == texts


def test_any_text_of_a_list_counts() -> None:
    assert Claims([(1, ["admin"]), (2, ["ad*"]), (4, ["x"])])(("user", "admin")) == 3
