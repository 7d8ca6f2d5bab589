"""Whose bucket a request takes from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.request_key import KINDS, RequestKey


def key(kind: str, name: str = "", claims: object = None, routed: str | None = None, subject: str = "", **view) -> str:
    request = InboundRequest("GET", "/items/4", **view)
    request.claims, request.routed, request.request_principal = claims, routed, subject
    return RequestKey(kind, name).compile()(request)


def test_one_bucket_for_all_is_what_nothing_means():
    assert key("") == key("", peer="10.0.0.1:1") == ""


def test_a_principal_is_the_peers_else_the_tokens():
    assert key("principal", principal="spiffe://td/ns/a/sa/b", subject="iss/sub") == "spiffe://td/ns/a/sa/b"
    assert key("principal", subject="iss/sub") == "iss/sub"
    assert key("principal") == ""


def test_the_remote_ip_is_whom_the_nearest_proxy_has_seen():
    assert key("remoteIp", peer="10.0.0.1:4711") == "10.0.0.1"
    forwarded = [("x-forwarded-for", "6.6.6.6, 192.0.2.7")]
    assert key("remoteIp", peer="10.0.0.1:4711", headers=forwarded) == "192.0.2.7"


def test_a_header_in_any_case_and_repeated():
    assert key("header", "X-Api-Key", headers=[("x-api-key", "a"), ("X-API-Key", "b")]) == "a,b"
    assert key("header", "x-api-key") == ""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sub", "ann"),
        ("tenant.id", "7"),
        ("a.b", "flat"),
        ("roles", "x,y"),
        ("gone", ""),
        ("sub.x", ""),
        ("tenant", ""),
    ],
)
def test_a_claim_by_its_name_or_its_path(name, wanted):
    claims = {"sub": "ann", "tenant": {"id": 7}, "a.b": "flat", "a": {"b": "deep"}, "roles": ["x", "y"]}
    assert key("claim", name, claims) == wanted
    assert key("claim", name) == ""


def test_a_route_is_grpcs_method_and_no_path_of_http():
    assert key("route", protocol="grpc") == "/items/4"
    assert key("route") == "", "strangers make up paths"
    assert key("route", routed="/items/4") == "", "what the router read is a path, too"


def test_a_key_has_words():
    assert RequestKey("header", "x-api-key").text == "header x-api-key"
    assert RequestKey().text == "all callers together"


@given(st.sampled_from(KINDS), st.text(max_size=5), st.text(max_size=20))
def test_any_request_has_a_key(kind, name, value):
    assert isinstance(key(kind, name, {name: value}, headers=[(name or "x", value)]), str)
