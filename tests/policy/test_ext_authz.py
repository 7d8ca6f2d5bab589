"""What an authorizer may do to a request, and what its caller gets."""

from __future__ import annotations

import pytest

from meshlib.policy import ext_authz
from meshlib.policy.ext_authz import (
    Allowed,
    Authorizer,
    Change,
    Denied,
    Failed,
    Invalid,
    changed_query,
    checked,
    denied,
    refusal,
)

AUTHORIZER = Authorizer("opa", "http", "opa:80", status_on_error=503)


@pytest.mark.parametrize(
    "change",
    [
        Change(":path", b"/admin"),
        Change(":authority", b"other"),
        Change("host", b"other"),
        Change("", b"x"),
        Change("a b", b"x"),
        Change("a\r\nb", b"x"),
        Change("é", b"x"),
        Change("x-user", b"a\r\nx-role: admin"),
        Change("x-user", b"a\0"),
        Change("x-user", b"a\nb"),
    ],
)
def test_nothing_that_is_no_header_or_makes_another_request_gets_through(change: Change) -> None:
    assert isinstance(checked(Allowed((change,))), Invalid)
    assert isinstance(checked(Allowed(to_caller=(change,))), Invalid)
    if change.name != "host":
        assert isinstance(denied(403, b"", [(change.name, change.value)]), Invalid)


def test_headers_of_framing_are_left_out() -> None:
    framing = tuple(Change(name, b"1") for name in sorted(ext_authz.FRAMING))
    kept = Change("x-user", b"alice")
    found = checked(Allowed((*framing, kept), ("content-length", "host", ":path", "x-a"), (*framing, kept)))
    assert found == Allowed((kept,), ("x-a",), (kept,))
    said = denied(401, b"no", [*((c.name, c.value) for c in framing), ("host", b"me"), ("set-cookie", b"a")])
    assert said == Denied(401, b"no", ((b"set-cookie", b"a"),))


@pytest.mark.parametrize(
    ("said", "status"), [(200, 200), (302, 302), (599, 599), (0, 403), (100, 403), (600, 403), (-1, 403)]
)
def test_a_status_that_is_none_is_403(said: int, status: int) -> None:
    found = denied(said, b"", [])
    assert isinstance(found, Denied)
    assert found.status == status


@pytest.mark.parametrize(
    ("before", "put", "remove", "after"),
    [
        ("", (), (), ""),
        ("a=1&b=2", (("a", "3"),), (), "a=3&b=2"),
        ("a=1&a=2&b", (("a", "3"),), (), "a=3&b"),
        ("a=1", (("b", "%20"),), (), "a=1&b=%20"),
        ("", (("b", ""),), (), "b="),
        ("a=1&b=2&a=3", (), ("a",), "b=2"),
        ("a=1", (("b", "x"),), ("b", "a"), ""),
        ("%61=1", (), ("a",), "%61=1"),
    ],
)
def test_query_parameters_are_set_and_removed_as_written(before: str, put, remove, after: str) -> None:
    assert changed_query(before, Allowed(query_set=put, query_remove=remove)) == after


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("a", "x y"), ("a&b", "x"), ("a", "x&admin=1"), ("a=b", "1"), ("a", "#"), ("a", "\n")],
)
def test_a_query_parameter_that_would_be_several_is_not_taken(name: str, value: str) -> None:
    assert isinstance(checked(Allowed(query_set=((name, value),))), Invalid)
    assert checked(Allowed(query_set=(("a", "b=c"),))) == Allowed(query_set=(("a", "b=c"),))


def test_what_the_caller_gets() -> None:
    no = refusal(Denied(401, b"who?", ((b"www-authenticate", b"Bearer"),)), AUTHORIZER)
    assert (no.status, no.content, no.headers, no.flag, no.detail) == (
        401,
        b"who?",
        ((b"www-authenticate", b"Bearer"),),
        "UAEX",
        "ext_authz_denied",
    )
    failed = refusal(Failed("it is dead"), AUTHORIZER)
    assert (failed.status, failed.content, failed.flag, failed.detail) == (503, b"", "UAEX", "ext_authz_error")
    instead = refusal(Failed("it says so", Denied(429, b"later")), AUTHORIZER)
    assert (instead.status, instead.content, instead.detail) == (429, b"later", "ext_authz_error")
    lying = refusal(Invalid("it lies"), AUTHORIZER)
    assert (lying.status, lying.content, lying.detail) == (500, b"", "ext_authz_invalid")


def test_what_may_be_secret_is_not_shown() -> None:
    secret = "s3cr3t"
    shown = [
        Change("authorization", secret.encode()),
        Denied(403, secret.encode(), ((b"set-cookie", secret.encode()),)),
        Allowed((Change("a", secret.encode()),), query_set=(("token", secret),)),
        Authorizer("a", "http", "a", additional=(("x-key", secret),)),
        ext_authz.Asked("GET", "/", "me", {"cookie": [secret]}, body=secret.encode()),
    ]
    assert secret not in repr(shown)
