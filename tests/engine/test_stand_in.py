"""A caller that stands in for a connection: an object of this process, or nobody."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import StandIn, introduce

PRINCIPAL = "spiffe://cluster.local/ns/shop/sa/cart"


def request(**facts: Any) -> InboundRequest:
    return InboundRequest("GET", "/", peer="127.0.0.1:4711", **facts)


def test_it_is_whom_the_request_is_from():
    asked = request()
    assert asked.source_ip == "127.0.0.1"
    introduce(asked, StandIn(PRINCIPAL, {"iss": "https://idp", "sub": "jo"}, "10.0.0.7"))
    assert (asked.principal, asked.mutual, asked.secure) == (PRINCIPAL, True, True)
    assert asked.peer_id is not None
    assert asked.peer_id.service_account == "cart"
    assert (asked.source_ip, asked.request_principal) == ("10.0.0.7", "https://idp/jo")
    assert dict(asked.claims or {}) == {"iss": "https://idp", "sub": "jo"}


def test_an_ipv6_address():
    asked = request()
    introduce(asked, StandIn(source_ip="2001:db8::1"))
    assert asked.source_ip == "2001:db8::1"


def test_a_caller_of_whom_nothing_is_said_is_nobody_from_where_the_server_says():
    asked = request(principal=PRINCIPAL, mutual=True)
    introduce(asked, StandIn())
    assert (asked.principal, asked.mutual, asked.claims, asked.source_ip) == ("", False, None, "127.0.0.1")
    assert asked.peer_id is None


@pytest.mark.parametrize("claims", [{}, {"iss": "x"}, {"sub": "x"}, {"iss": "", "sub": "x"}, {"iss": 1, "sub": "x"}])
def test_claims_without_issuer_or_subject_make_no_request_principal(claims):
    assert StandIn(claims=claims).request_principal == ""


class LooksLikeIt(StandIn):
    """Not made by ``StandIn``'s own ``__init__``, or of another type."""


def forged() -> Any:
    made = object.__new__(StandIn)
    made.principal, made.claims, made.source_ip = PRINCIPAL, None, ""
    return made


@pytest.mark.parametrize(
    "caller",
    [
        None,
        PRINCIPAL,
        PRINCIPAL.encode(),
        {"principal": PRINCIPAL},
        [("principal", PRINCIPAL)],
        LooksLikeIt(PRINCIPAL),
        forged(),
        copy.copy(StandIn(PRINCIPAL)),
        repr(StandIn(PRINCIPAL)),
    ],
)
def test_nothing_else_is_believed(caller):
    asked = request()
    introduce(asked, caller)
    assert (asked.principal, asked.mutual, asked.claims) == ("", False, None)


def test_claims_are_those_of_the_time_and_are_not_shown():
    said = {"iss": "i", "sub": "s3cret"}
    caller = StandIn(claims=said)
    said["sub"] = "other"
    assert caller.request_principal == "i/s3cret"
    assert "s3cret" not in repr(caller)
