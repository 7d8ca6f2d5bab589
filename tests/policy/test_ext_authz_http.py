"""Authorizers over HTTP: what they are told, and what their responses mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshlib.policy.ext_authz import Allowed, Asked, Authorizer, BodyShown, Change, Denied, Failed, Invalid
from meshlib.policy.ext_authz_http import headers, target, verdict
from meshlib.policy.name_patterns import NamePatterns

PLAIN = Authorizer("opa", "http", "opa:80")
ASKED = Asked(
    "POST",
    "/a?b=c",
    "me",
    {
        "authorization": ["Bearer t"],
        "cookie": ["a=1", "b=2"],
        "x-user": ["alice"],
        "host": ["me"],
        "content-length": ["5"],
        "transfer-encoding": ["chunked"],
        "connection": ["close"],
    },
)


def patterns(*written: str) -> NamePatterns:
    return NamePatterns.parse(written)


def test_method_path_and_authorization_are_told_and_no_other_header() -> None:
    assert headers(PLAIN, ASKED) == {"content-length": "0", "authorization": "Bearer t"}
    assert target(PLAIN, ASKED) == "/a?b=c"


def test_chosen_headers_are_told_repeated_ones_as_one() -> None:
    found = headers(replace(PLAIN, request_headers=patterns("Cookie", "x-*")), ASKED)
    assert found == {"content-length": "0", "authorization": "Bearer t", "cookie": "a=1,b=2", "x-user": "alice"}


def test_no_pattern_tells_how_messages_are_framed() -> None:
    found = headers(replace(PLAIN, request_headers=patterns("c*", "*ing", "host")), ASKED)
    assert found == {"content-length": "0", "authorization": "Bearer t", "cookie": "a=1,b=2"}


def test_pseudo_headers_are_told_by_the_question_itself() -> None:
    asked = replace(ASKED, headers={**ASKED.headers, ":path": ["/a"], ":authority": ["me"]})
    found = headers(replace(PLAIN, request_headers=patterns(":path", ":authority", ":*", "*")), asked)
    assert not [name for name in found if name.startswith(":")]


def test_additional_headers_count_before_the_request_s() -> None:
    made = replace(PLAIN, request_headers=patterns("x-user"), additional=(("X-User", "mesh"), ("x-key", "k")))
    found = headers(made, ASKED)
    assert (found["x-user"], found["x-key"]) == ("mesh", "k")


def test_the_prefix_stands_before_path_and_query() -> None:
    assert target(replace(PLAIN, path_prefix="/check"), ASKED) == "/check/a?b=c"


def test_what_is_not_utf8_is_shown_as_exclamation_marks() -> None:
    made = replace(PLAIN, request_headers=patterns("x-*"))
    asked = replace(ASKED, target="/\xc3\xa9\xff", headers={"x-a": ["caf\xe9", "\xc3\xa9"]})
    assert target(made, asked) == "/é!"
    assert headers(made, asked)["x-a"] == "caf!,é"


@pytest.mark.parametrize(("cut", "told"), [(False, "false"), (True, "true")])
def test_a_body_is_told_with_its_length_and_whether_it_is_whole(cut: bool, told: str) -> None:
    made = replace(PLAIN, body=BodyShown(3, True))
    found = headers(made, replace(ASKED, body=b"abc", cut=cut))
    assert (found["content-length"], found["x-envoy-auth-partial-body"]) == ("3", told)


SAID = [
    (b"X-User", b"alice"),
    (b"X-Role", b"a"),
    (b"x-role", b"b"),
    (b"Set-Cookie", b"s=1"),
    (b"content-length", b"2"),
    (b"host", b"opa"),
    (b"x-envoy-auth-headers-to-remove", b"X-Secret, cookie ,,host"),
    (b"x-envoy-auth-headers-to-remove", b":path,x-more"),
]


def test_200_lets_in_with_the_headers_that_are_named() -> None:
    made = replace(PLAIN, to_application=patterns("x-*"), to_caller_on_allow=patterns("set-cookie"))
    assert verdict(made, 200, SAID, b"ok") == Allowed(
        (Change("x-user", b"alice"), Change("x-role", b"a"), Change("x-role", b"b")),
        ("x-secret", "cookie", "x-more"),
        (Change("set-cookie", b"s=1", "add"),),
    )
    assert verdict(PLAIN, 200, SAID, b"") == Allowed(remove=("x-secret", "cookie", "x-more"))


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 404, 429, 499])
def test_every_other_response_denies(status: int) -> None:
    found = verdict(PLAIN, status, SAID, b"no")
    assert isinstance(found, Denied)
    assert (found.status, found.body) == (status, b"no")
    assert [name for name, _ in found.headers] == [b"x-user", b"x-role", b"x-role", b"set-cookie"]


def test_of_a_denial_go_on_the_headers_that_are_named_and_two_more() -> None:
    said = [*SAID, (b"location", b"/login"), (b"WWW-Authenticate", b"Bearer")]
    found = verdict(replace(PLAIN, to_caller_on_deny=patterns("x-user")), 401, said, b"")
    assert isinstance(found, Denied)
    assert dict(found.headers) == {b"x-user": b"alice", b"location": b"/login", b"www-authenticate": b"Bearer"}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 100, 0])
def test_an_authorizer_that_fails_has_not_decided(status: int) -> None:
    assert isinstance(verdict(PLAIN, status, SAID, b"whatever"), Failed)


@pytest.mark.parametrize("value", [b"a\nb", b"a\0"])
def test_what_is_no_header_is_not_taken(value: bytes) -> None:
    said: Any = [(b"x-user", value)]
    assert isinstance(verdict(replace(PLAIN, to_application=patterns("x-user")), 200, said, b""), Invalid)
    assert isinstance(verdict(PLAIN, 403, said, b""), Invalid)
