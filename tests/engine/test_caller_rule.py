"""Who may call a route, said at the route."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.caller_rule import DENIED, NO_TOKEN, CallerRule
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.spiffe_id import SpiffeId

WEB = "spiffe://cluster.local/ns/shop/sa/web"
TOKEN = {"iss": "https://idp", "sub": "ann", "groups": ["staff", "admins"], "scope": "read", "n": 7}


def request(principal: str = "", claims: dict[str, Any] | None = None) -> InboundRequest:
    made = InboundRequest("GET", "/", peer_id=SpiffeId.parse(principal) if principal else None)
    made.claims = claims
    made.request_principal = f"{claims['iss']}/{claims['sub']}" if claims else ""
    return made


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"principal": "cluster.local/ns/shop/sa/web"},
        {"principal": WEB},
        {"principal": ["nobody", "*/sa/web"]},
        {"principal": "cluster.local/*"},
        {"namespace": "shop"},
        {"principal": "*", "namespace": "sh*"},
    ],
)
def test_who_matches_every_argument_comes_in(rule: dict[str, Any]) -> None:
    assert CallerRule(**rule).refusal(request(WEB)) is None
    assert CallerRule(**rule).refusal(request()) is DENIED


@pytest.mark.parametrize(
    "rule",
    [{"principal": "shop"}, {"namespace": "sho"}, {"principal": "*", "namespace": "other"}, {"principal": "*/sa/we"}],
)
def test_who_does_not_stays_out(rule: dict[str, Any]) -> None:
    assert CallerRule(**rule).refusal(request(WEB)) is DENIED


@pytest.mark.parametrize(
    ("rule", "comes_in"),
    [
        ({"request_principal": "https://idp/ann"}, True),
        ({"request_principal": "https://idp/*"}, True),
        ({"claims": {"groups": "admins"}}, True),
        ({"claims": {"groups": ["x", "staff"], "scope": "read"}}, True),
        ({"claims": {"groups": "admin"}}, False),
        ({"claims": {"n": "7"}}, False),  # no text
        ({"claims": {"nothing": "*"}}, False),
        ({"claims": {"scope": "read"}, "principal": "*"}, False),
    ],
)
def test_tokens_are_asked_for_what_they_say(rule: dict[str, Any], comes_in: bool) -> None:
    assert CallerRule(**rule).refusal(request(claims=TOKEN)) is (None if comes_in else DENIED)
    assert CallerRule(**rule).refusal(request(WEB)) is NO_TOKEN


def test_who_needs_a_token_hears_so() -> None:
    assert (NO_TOKEN.status, NO_TOKEN.headers) == (401, ((b"www-authenticate", b"Bearer"),))
    assert DENIED.status == 403


@pytest.mark.parametrize("pattern", ["", "a*b", "**", ["a", ""], [None]])
def test_a_pattern_that_is_none_is_refused(pattern: Any) -> None:
    for argument in ("principal", "namespace", "request_principal"):
        with pytest.raises(ValueError, match=f"{argument}.*not a valid pattern"):
            CallerRule(**{argument: pattern})
    with pytest.raises(ValueError, match=r"claims\['a'\]"):
        CallerRule(claims={"a": pattern})
