"""Where tokens are found, and in which order: every location that has a value has a token."""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.token_locations import Found, is_preflight, token_locations, without_parameter

DEFAULT = token_locations([], [], [])


def request(*headers, query="", method="GET"):
    return InboundRequest(method, "/", headers, query=query)


def tokens(locations, *headers, query="", hidden=()):
    return [found.token for found in locations.find(request(*headers, query=query), hidden)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer a.b.c", ["a.b.c"]),
        ("Bearer   a.b.c", ["a.b.c"]),
        ("Bearer a.b.c ", ["a.b.c"]),
        ("Bearer a.b.c, d", ["a.b.c, d"]),
        ("Bearer !a.b.c", ["a.b.c"]),
        ("Basic x, Bearer a.b.c", ["a.b.c"]),
        ("Bearer !", ["Bearer !"]),
        ("Bearer ", []),
        ("Bearer", []),
        ("bearer a.b.c", []),
        ("BEARER a.b.c", []),
        ("Bearera.b.c", []),
        ("Basic YTpi", []),
        ("", []),
    ],
)
def test_a_bearer_token(value, expected):
    assert tokens(DEFAULT, ("Authorization", value)) == expected


def test_by_default_in_authorization_and_access_token():
    assert tokens(DEFAULT, ("authorization", "Bearer a"), query="x=1&access_token=b") == ["a", "b"]
    assert tokens(DEFAULT, ("x-token", "a"), ("cookie", "access_token=b")) == []


def test_every_line_of_a_header_counts():
    named = token_locations([("x-jwt", "")], [], [])
    assert tokens(named, ("x-jwt", "a"), ("x-jwt", "b"), ("X-Jwt", "a")) == ["a", "b", "a"]


def test_lines_of_authorization_are_one():
    """In Envoy it is a header that has one line; so it is in WSGI."""
    assert tokens(DEFAULT, ("authorization", "Bearer a"), ("Authorization", "Bearer c")) == ["a,Bearer c"]


def test_what_a_rule_names_comes_in_place_of_the_default():
    named = token_locations([("X-Token", ""), ("X-Jwt", "istio ")], ["t"], ["c"])
    headers = [("authorization", "Bearer no"), ("x-token", "a"), ("x-jwt", "istio b"), ("cookie", "c=d")]
    assert tokens(named, *headers, query="t=c&access_token=no") == ["b", "a", "c", "d"], "headers by name"
    assert tokens(token_locations([], ["t"], []), *headers) == []


def test_with_an_empty_prefix_the_whole_value_is_the_token():
    named = token_locations([("x", "")], [], [])
    assert tokens(named, ("x", " Bearer a ")) == ["Bearer a"]
    assert tokens(named, ("x", "")) == [""], "an empty value is a broken token, not a missing one"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("access_token=a", ["a"]),
        ("access%5Ftoken=a%2Eb", ["a.b"]),
        ("ACCESS_TOKEN=a", []),
        ("access_token", [""]),
        ("access_token=", [""]),
        ("access_token=a&access_token=a", ["a"]),
        ("access_token=a&access_token=b", ["a", "b"]),
        ("access_token=a+b%20c", ["a+b c"]),
        ("access_token=a%zz", ["a%zz"]),
        ("a=access_token", []),
        ("&&access_token=a", ["a"]),
        ("access_token=a=b", ["a=b"]),
        ("x;access_token=a", []),
    ],
)
def test_parameters(query, expected):
    assert tokens(DEFAULT, query=query) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["jwt=a"], ["a"]),
        (["x=1; jwt=a; y=2"], ["a"]),
        (["x=1;jwt=a"], ["a"]),
        (['jwt="a"'], ["a"]),
        (["jwt=a=b"], ["a=b"]),
        (["jwt=a; jwt=b"], ["a", "b"]),
        (["jwt=a", "jwt=b"], ["a", "b"]),
        (["jwt"], []),
        (["JWT=a"], []),
        (["xjwt=a"], []),
        (["jwt="], [""]),
    ],
)
def test_cookies(lines, expected):
    assert tokens(token_locations([], [], ["jwt"]), *(("Cookie", line) for line in lines)) == expected


def test_headers_that_are_ours_to_set_are_not_looked_at():
    named = token_locations([("x-payload", ""), ("x-token", "")], [], ["c"])
    headers = [("x-payload", "a"), ("x-token", "b"), ("cookie", "c=c")]
    assert tokens(named, *headers, hidden={"x-payload"}) == ["b", "c"]
    assert tokens(named, *headers, hidden={"x-payload", "cookie"}) == ["b"]


def test_it_is_said_what_carries_a_token():
    named = token_locations([("X-Token", "")], ["t"], ["c"])
    found = named.find(request(("x-token", "a"), ("cookie", "c=c"), query="t=b"))
    told = [(one.token, one.header, one.parameter) for one in found]
    assert told == [("a", "x-token", ""), ("b", "", "t"), ("c", "", "")]
    assert "a" not in repr(Found("canary")).replace("a cookie", "")
    assert "canary" not in repr(found[0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("access_token=x", ""),
        ("b=1&access_token=x&c=%26", "b=1&c=%26"),
        ("access%5Ftoken=x&access_token", ""),
        ("access_tokens=x", "access_tokens=x"),
        ("b=\xff", "b=\xff"),
        ("", ""),
    ],
)
def test_a_parameter_is_taken_away_and_others_stay_as_they_are(query, expected):
    assert without_parameter(query, "access_token") == expected


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("OPTIONS", {"origin": "a", "access-control-request-method": "GET"}, True),
        ("GET", {"origin": "a", "access-control-request-method": "GET"}, False),
        ("OPTIONS", {"origin": "a"}, False),
        ("OPTIONS", {"origin": "", "access-control-request-method": "GET"}, False),
        ("options", {"origin": "a", "access-control-request-method": "GET"}, False),
    ],
)
def test_preflights(method, headers, expected):
    assert is_preflight(headers.get, method) is expected
