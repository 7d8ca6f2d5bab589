"""What can still be told of broken rules for tokens: all their places, or that they cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.resources.request_authentication import JwtRule
from meshlib.resources.unread_tokens import readable_rules

NONE = {
    "fromHeaders": [],
    "fromParams": [],
    "fromCookies": [],
    "outputClaimToHeaders": [],
    "outputPayloadToHeader": "",
}


def read(*rules: Any, **spec: Any) -> Any:
    return readable_rules({"jwtRules": list(rules), **spec})


@pytest.mark.parametrize(
    "rule",
    [
        {"issuer": 5},
        {
            "jwks": [],
            "jwksUri": {},
            "audiences": 1,
            "timeout": "soon",
            "forwardOriginalToken": "x",
            "spaceDelimitedClaims": 1,
        },
        {"audience": ["a"]},
        {"isuer": "x"},
        {"jwksURI": "x"},
        {"jwks_uri": "x", "presence": "OPTIONAL", "fromHeaders": None},
        {},
    ],
)
def test_fields_that_say_nothing_about_places_may_be_whatever_they_are(rule: Any) -> None:
    assert read(rule) == [NONE]


def test_places_and_outputs_are_read_in_either_spelling() -> None:
    rule = {
        "from_headers": [{"name": "x-jwt", "prefix": "jwt "}, {"name": "y"}],
        "fromParams": ["t"],
        "from_cookies": ["c"],
        "outputClaimToHeaders": [{"claim": 5, "header": "x-sub"}],
        "outputPayloadToHeader": "x-payload",
    }
    assert read(rule, {"fromParams": ["u"]}) == [
        {
            "fromHeaders": [{"name": "x-jwt", "prefix": "jwt "}, {"name": "y", "prefix": ""}],
            "fromParams": ["t"],
            "fromCookies": ["c"],
            "outputClaimToHeaders": [{"claim": "none", "header": "x-sub"}],
            "outputPayloadToHeader": "x-payload",
        },
        {**NONE, "fromParams": ["u"]},
    ]


@pytest.mark.parametrize("entry", [{"name": "y", "prefix": 5}, {"name": "y", "prefix": "jwt ", "prefx": "JWT "}])
def test_a_prefix_in_doubt_is_any_value(entry: Any) -> None:
    assert read({"fromHeaders": [entry]}) == [{**NONE, "fromHeaders": [{"name": "y", "prefix": ""}]}]


@pytest.mark.parametrize(
    "rule",
    [
        {"fromHeaders": "x-jwt"},
        {"fromHeaders": ["x-jwt"]},
        {"fromHeaders": [{"name": 5}]},
        {"fromHeaders": [{"nam": "x-jwt"}]},
        {"fromParams": "t"},
        {"fromParams": ["t", 5]},
        {"fromCookies": [""]},
        {"fromHeader": [{"name": "x-jwt"}]},
        {"headers": ["x-jwt"]},
        {"FromParams": ["t"]},
        {"cookies": ["c"]},
        {"from_headers": [], "fromHeaders": [{"name": "x"}]},
        {"nothing like it": 1},
        {5: 1},
        {"presence": "REQUIRED"},
        {"presence": "required"},
        {"presense": "REQUIRED"},
        {"outputPayloadToHeader": 5},
        {"outputPayloadToHeader": None},
        {"outputPayloadHeader": "x"},
        {"outputClaimToHeaders": [{"claim": "sub"}]},
        {"outputClaimToHeaders": [{"claim": "sub", "heder": "x", "header": "y"}]},
        {"outputClaimsToHeaders": []},
        "rule",
        None,
    ],
)
def test_one_rule_in_doubt_is_all_in_doubt(rule: Any) -> None:
    assert read({"fromParams": ["t"]}, rule) is None


@pytest.mark.parametrize(
    "spec",
    [{}, {"jwtRules": 5}, {"jwtRules": None}, {"jwtRule": []}, {"jwtRules": [], "rules": []}, {"jwtRules": [], "x": 1}],
)
def test_rules_that_are_not_where_they_belong(spec: Any) -> None:
    assert readable_rules(spec) is None


@pytest.mark.parametrize("more", [{"selektor": {}}, {"selector": 5}])
def test_what_else_is_wrong_leaves_them_readable(more: Any) -> None:
    assert read({}, **more) == [NONE]


THINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["name", "x-jwt", "OPTIONAL"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*JwtRule.model_fields, "fromHeaders", "name", "prefix", "header", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(THINGS)
def test_whatever_it_is_it_is_read_or_in_doubt_and_what_is_read_is_valid(rule: Any) -> None:
    for found in read(rule) or ():
        JwtRule.model_validate(found)
