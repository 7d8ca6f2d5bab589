"""Authorizers over gRPC, whose messages are Envoy's: made and read by Google's library here, by ours there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.ext_authz import Allowed, Asked, Authorizer, BodyShown, Change, Denied, Failed, Invalid
from meshlib.policy.ext_authz_grpc import request, verdict
from tests.support.ads_server import message

AUTHORIZER = Authorizer("opa", "grpc", "opa:9000")
ASKED = Asked(
    "GET",
    "/a?b=\xc3\xa9",
    "me:80",
    {"x-user": ["alice", "bob"], "host": ["me"], "x-odd": ["\xff"]},
    "https",
    "HTTP/2",
    peer="10.0.0.1:4711",
    principal="spiffe://td/ns/a/sa/b",
    own="spiffe://td/ns/shop/sa/cart",
    local_ip="10.0.0.2",
    port=8080,
    received=1.5,
)


def told(asked: Asked, authorizer: Authorizer = AUTHORIZER) -> Any:
    return message("envoy.service.auth.v3.CheckRequest")().FromString(request(authorizer, asked)).attributes


def test_an_authorizer_is_told_who_asks_for_what() -> None:
    found = told(ASKED)
    http = found.request.http
    assert (http.method, http.path, http.host, http.scheme, http.protocol) == (
        "GET",
        "/a?b=é",
        "me:80",
        "https",
        "HTTP/2",
    )
    assert dict(http.headers) == {
        ":authority": "me:80",
        ":method": "GET",
        ":path": "/a?b=é",
        ":scheme": "https",
        "x-user": "alice,bob",
        "x-odd": "!",
    }
    assert http.size == -1
    source, destination = found.source, found.destination
    assert (source.address.socket_address.address, source.address.socket_address.port_value) == ("10.0.0.1", 4711)
    assert source.principal == "spiffe://td/ns/a/sa/b"
    assert destination.principal == "spiffe://td/ns/shop/sa/cart"
    assert (destination.address.socket_address.address, destination.address.socket_address.port_value) == (
        "10.0.0.2",
        8080,
    )
    assert (found.request.time.seconds, found.request.time.nanos) == (1, 500_000_000)


@pytest.mark.parametrize(
    ("peer", "kind", "address"),
    [
        ("[::1]:5", "socket_address", "::1"),
        ("unix:/run/a.sock", "pipe", "/run/a.sock"),
        ("", None, ""),
        ("unknown", None, ""),
    ],
)
def test_peers_of_every_kind(peer: str, kind: str | None, address: str) -> None:
    found = told(replace(ASKED, peer=peer)).source.address
    assert found.WhichOneof("address") == kind
    if kind:
        assert (found.pipe.path or found.socket_address.address) == address


def test_a_body_is_text_or_bytes_and_said_to_be_whole_or_not() -> None:
    asked = replace(ASKED, body=b"\xc3\xa9\xff", cut=True)
    http = told(asked).request.http
    assert (http.body, http.raw_body, http.size) == ("é!", b"", 3)
    assert http.headers["x-envoy-auth-partial-body"] == "true"
    http = told(replace(asked, cut=False), replace(AUTHORIZER, body=BodyShown(9, as_bytes=True))).request.http
    assert (http.body, http.raw_body) == ("", b"\xc3\xa9\xff")
    assert http.headers["x-envoy-auth-partial-body"] == "false"


def said(**fields: Any) -> bytes:
    from google.protobuf import json_format

    from tests.support.ads_server import pool

    made = message("envoy.service.auth.v3.CheckResponse")()
    return json_format.ParseDict(fields, made, descriptor_pool=pool()).SerializeToString()


def header(key: str, value: str, **how: Any) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, **how}


def test_ok_lets_in_with_its_changes() -> None:
    raw = said(
        status={"code": 0},
        ok_response={
            "headers": [
                header("X-A", "1"),
                header("x-b", "é", append=True),
                header("x-c", "3", append=False),
                header("x-d", "4", append_action="ADD_IF_ABSENT"),
                header("x-e", "5", append_action="OVERWRITE_IF_EXISTS"),
                header("content-length", "0"),
            ],
            "headers_to_remove": ["X-Secret", "host"],
            "response_headers_to_add": [header("Set-Cookie", "a"), header("server", "s", append=False)],
            "query_parameters_to_set": [{"key": "a", "value": "b"}],
            "query_parameters_to_remove": ["token"],
        },
    )
    assert verdict(raw) == Allowed(
        (
            Change("x-a", b"1"),
            Change("x-b", "é".encode(), "append"),
            Change("x-c", b"3"),
            Change("x-d", b"4", "add_if_absent"),
            Change("x-e", b"5", "set_if_present"),
        ),
        ("x-secret",),
        (Change("set-cookie", b"a", "add"), Change("server", b"s")),
        (("a", "b"),),
        ("token",),
    )
    assert verdict(b"") == Allowed()


def test_every_other_status_denies() -> None:
    assert verdict(said(status={"code": 7})) == Denied(403)
    assert verdict(said(status={"code": -1}, ok_response={"headers": [header("x-a", "1")]})) == Denied(403)
    raw = said(
        status={"code": 16},
        denied_response={"status": {"code": 401}, "headers": [header("WWW-Authenticate", "B")], "body": "who?"},
    )
    assert verdict(raw) == Denied(401, b"who?", ((b"www-authenticate", b"B"),))


def test_an_authorizer_that_says_it_failed_has_not_decided() -> None:
    found = verdict(said(status={"code": 14}, error_response={"status": {"code": 503}, "body": "later"}))
    assert isinstance(found, Failed)
    assert found.instead == Denied(503, b"later")
    plain = verdict(said(status={"code": 14}, error_response={}))
    assert isinstance(plain, Failed)
    assert plain.instead is None


def test_one_that_says_both_has_not_decided() -> None:
    assert isinstance(verdict(said(status={"code": 0}, denied_response={"body": "no"})), Failed)


@pytest.mark.parametrize(
    "fields",
    [
        {"ok_response": {"headers": [header(":path", "/admin")]}},
        {"ok_response": {"headers": [header("host", "other")]}},
        {"ok_response": {"headers": [header("x-a", "1\r\nx-b: 2")]}},
        {"ok_response": {"query_parameters_to_set": [{"key": "a", "value": "1&admin=1"}]}},
        {"status": {"code": 7}, "denied_response": {"headers": [header("a b", "1")]}},
    ],
)
def test_what_is_no_header_or_makes_another_request_is_not_taken(fields: dict[str, Any]) -> None:
    assert isinstance(verdict(said(**fields)), Invalid)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"\x0a\x05ab",
        b"\x08\x01",
        b"\x1a\x02\x10\x01",
        b"\x1a\x03\x2a\x01\xff",
        b"\x1a\x06\x12\x04\x0a\x02\x12\x00"[:-1],
    ],
)
def test_a_malformed_response_decides_nothing(raw: bytes) -> None:
    assert isinstance(verdict(raw), Failed)


@given(st.binary(max_size=80))
def test_strangers_bytes_never_raise(raw: bytes) -> None:
    assert isinstance(verdict(raw), Allowed | Denied | Failed | Invalid)
