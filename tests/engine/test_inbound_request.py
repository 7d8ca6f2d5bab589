"""What checks change of a request, its application and the checks after them see."""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.ext_authz import Change
from meshlib.policy.spiffe_id import SpiffeId


def request() -> InboundRequest:
    return InboundRequest(
        "GET", "/a", [("X-User", "from the wire"), (b"x-user", b"twice"), ("Keep", "1")], query="q=1", authority="me"
    )


def applied(made: InboundRequest) -> list[tuple[bytes, bytes]]:
    assert made.for_application is not None
    return made.for_application.applied([(b"X-User", b"from the wire"), (b"x-user", b"twice"), (b"Keep", b"1")])


def test_a_header_is_put_in_place_of_all_of_its_name() -> None:
    made = request()
    made.put("x-user", b"alice")
    assert made.header("x-user") == "alice"
    assert made.header_values("x-user") is None
    assert applied(made) == [(b"Keep", b"1"), (b"x-user", b"alice")]


def test_a_header_is_added_beside_those_of_its_name() -> None:
    made = request()
    made.add("keep", b"2")
    made.add("new", b"\xff")
    assert made.header_values("keep") == ["1", "2"]
    assert made.header("new") == "\xff"
    assert applied(made)[-2:] == [(b"keep", b"2"), (b"new", b"\xff")]
    assert (b"Keep", b"1") in applied(made)


def test_a_header_is_taken_away_whoever_set_it() -> None:
    made = request()
    made.put("x-role", b"admin")
    made.take_away("x-role")
    made.take_away("x-user")
    assert made.header("x-user") is made.header("x-role") is None
    assert applied(made) == [(b"Keep", b"1")]


def test_another_query_is_the_application_s_too() -> None:
    made = request()
    made.retarget("q=2&r=%20")
    assert made.full_path == "/a?q=2&r=%20"
    assert made.for_application is not None
    assert made.for_application.target == made.target == b"/a?q=2&r=%20"
    made.retarget("")
    assert made.for_application.target == b"/a"


def test_what_is_sent_on_is_changed_whenever_it_was_asked_for() -> None:
    made = request()
    assert (b"X-User", b"from the wire") in made.headers
    made.put("x-user", b"alice")
    assert [pair for pair in made.headers if pair[0].lower() == b"x-user"] == [(b"x-user", b"alice")]


def test_who_the_peer_is_is_told_as_a_text_too() -> None:
    peer = SpiffeId.parse("spiffe://cluster.local/ns/a/sa/b")
    made = InboundRequest("GET", "/", peer_id=peer)
    assert (made.peer_id, made.principal) == (peer, "spiffe://cluster.local/ns/a/sa/b")
    assert (InboundRequest("GET", "/").peer_id, InboundRequest("GET", "/").principal) == (None, "")


def test_a_response_is_changed_for_the_caller_whoever_makes_it() -> None:
    made = request()
    assert not made.changes_response
    made.tell_caller(
        (
            Change("set-cookie", b"s=1", "add"),
            Change("server", b"mesh"),
            Change("x-new", b"1", "add_if_absent"),
            Change("x-old", b"2", "add_if_absent"),
            Change("x-old", b"3", "set_if_present"),
            Change("x-none", b"4", "set_if_present"),
        )
    )
    assert made.changes_response
    headers = [(b"Set-Cookie", b"a"), (b"Server", b"app"), (b"server", b"again"), (b"X-Old", b"0")]
    assert made.response_headers(headers) == [
        (b"Set-Cookie", b"a"),
        (b"set-cookie", b"s=1"),
        (b"server", b"mesh"),
        (b"x-new", b"1"),
        (b"x-old", b"3"),
    ]


def test_empty_lines_of_x_forwarded_for_are_overlooked() -> None:
    """As Envoy overlooks them; an empty item is no address, though."""

    def remote_ip(*lines: str) -> str:
        return InboundRequest("GET", "/", [("x-forwarded-for", line) for line in lines], peer="10.0.0.1:1").remote_ip

    assert remote_ip("1.1.1.1", "2.2.2.2", "") == "2.2.2.2"
    assert remote_ip("1.1.1.1", " ") == "1.1.1.1"
    assert remote_ip("", "") == "10.0.0.1"
    assert remote_ip("1.1.1.1,") == "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "protocol", "authority", "wanted"),
    [
        (["10.1.2.3", ""], "http", "a", "10.1.2.3"),
        ([" "], "http", "a", "10.0.0.9"),
        ([" "], "grpc", "a", "10.0.0.9"),
        ([" "], "grpc", None, ""),
        (["10.1.2.3"], "grpc", None, "10.1.2.3"),
        ([], "grpc", None, "10.0.0.9"),
    ],
)
def test_of_a_server_that_shows_the_last_line_alone_an_empty_one_tells_nothing(lines, protocol, authority, wanted):
    headers = [("x-forwarded-for", line) for line in lines]
    request = InboundRequest("POST", "/", headers, protocol=protocol, authority=authority, peer="10.0.0.9:1")
    assert request.remote_ip == wanted
