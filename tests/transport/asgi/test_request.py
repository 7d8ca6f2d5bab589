"""The request of an ASGI scope: what checks are told of it, and what is refused before any of them is asked."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, StandIn
from meshlib.transport.asgi import request
from meshlib.transport.asgi.request import is_grpc
from tests.support.asgi import http_scope, request_of, ws_scope
from tests.support.spiffe import Authority

OPS = "spiffe://cluster.local/ns/default/sa/ops"
TLS = {"tls": {"client_cert_chain": [Authority().issue(OPS)[1].decode()]}}


def made(target="/", *headers, port=None, receive=None, **more):
    return request_of(http_scope(target, *headers, **more), receive, port)


def test_the_facts_of_a_request():
    request = made("/a%2Fb?x=1&y", (b"x-a", b"1"), (b"X-A", b"2"), extensions=TLS, scheme="https", method="POST")
    assert (request.method, request.path, request.query) == ("POST", "/a%2Fb", "x=1&y")
    assert (request.authority, request.host_known) == ("shop.test", True)
    assert (request.peer, request.source_ip, request.local_ip, request.port) == (
        "10.1.2.3:4711",
        "10.1.2.3",
        "10.9.9.9",
        8000,
    )
    assert (request.principal, request.secure, request.mutual) == (OPS, True, True)
    assert (request.protocol, request.http2, request.version) == ("http", False, "1.1")
    assert request.header("x-a") == "1,2"
    assert request.malformed is None


def test_a_websocket_is_a_get():
    request = request_of(ws_scope("/chat?room=1"), None)
    assert (request.method, request.path, request.query, request.malformed) == ("GET", "/chat", "room=1", None)


def test_what_the_server_does_not_tell_is_not_known():
    request = made(client=None, server=None, http_version="2")
    assert (request.peer, request.source_ip, request.local_ip, request.port) == ("", "", "", 0)
    assert (request.principal, request.secure, request.mutual, request.http2) == ("", False, False, True)
    assert made(server=("testserver", 80)).local_ip == ""
    assert made(server=("/run/app.sock", None)).port == 0
    assert made(client=("::1", 5)).source_ip == "::1"


def test_the_port_that_was_said_counts():
    assert made(port=9080).port == 9080


@pytest.mark.parametrize("raw", [None, b""])
def test_a_path_that_only_the_application_is_told_is_encoded_again(raw):
    scope = {"raw_path": raw, "path": "/a/é %2F#?"}
    assert made(**scope).path == "/a/%C3%A9%20%252F%23%3F"
    assert made(**{**scope, "path": "/\udc80"}).path == "/%ED%B2%80"
    assert made(raw_path=None, path="").path == "/"
    scope = http_scope("/a b")
    del scope["raw_path"]
    assert request_of(scope, None).path == "/a%20b"


def test_older_test_clients_leave_the_query_in_the_raw_path():
    assert made(raw_path=b"/a?b=1", query_string=b"b=1").path == "/a"


class Uvicorns:
    """The receive of uvicorn's is a method of a class of uvicorn's."""

    __module__ = "uvicorn.protocols.http.h11_impl"

    async def receive(self):
        raise AssertionError


def test_a_root_path_is_not_on_the_wire_where_uvicorn_put_it_there():
    there = {"root_path": "/api", "path": "/api/x", "raw_path": b"/api/x"}
    assert made(receive=Uvicorns().receive, **there).path == "/x"
    assert made(receive=Uvicorns().receive, root_path="/api", path="/api", raw_path=b"/api").path == "/"
    assert made(**there).path == "/api/x", "as ASGI has it: raw_path is what came"
    assert made(receive=Uvicorns().receive, root_path="/api", path="/other", raw_path=b"/other").path == "/other"


MALFORMED = [
    (made("/", (b"host", b"a"), (b"host", b"a")), "several_host_headers"),
    (made("/", (b"host", b"a"), (b"Host", b"b")), "several_host_headers"),
    (made("/", (b"host", b"a,b")), "invalid_host_header"),
    (made("/", (b"host", b"u@a")), "invalid_host_header"),
    (made("/", (b"host", b"a b")), "invalid_host_header"),
    (made("/", (b"host", b"")), "invalid_host_header"),
    (made("/", (b"host", b"a:b")), "invalid_host_header"),
    (made(headers=[]), "missing_host_header"),
    (made("/a#b"), "path_has_fragment"),
    (made("/a b"), "target_has_invalid_characters"),
    (made("/a\x00"), "target_has_invalid_characters"),
    (made("a/b"), "target_is_not_a_path"),
    (made("*"), "target_is_not_a_path"),
    (made("shop.test:443", method="CONNECT"), "target_is_not_a_path"),
    (made("http://other.test/"), "target_and_host_differ"),
    (made("/", (b"content-length", b"1"), (b"transfer-encoding", b"chunked")), "content_length_and_transfer_encoding"),
]


@pytest.mark.parametrize(
    ("request_", "detail"), MALFORMED, ids=[f"{i}-{detail}" for i, (_, detail) in enumerate(MALFORMED)]
)
def test_what_can_be_understood_in_two_ways_is_refused(request_, detail):
    assert request_.malformed is not None
    assert (request_.malformed.status, request_.malformed.detail) == (400, detail)


def test_a_target_in_absolute_form_that_agrees_with_host_is_its_path():
    request = made("http://Shop.test/admin?x=1")
    assert (request.path, request.malformed, request.absolute, request.routed) == ("/admin", None, True, None)
    assert made("http://shop.test").path == "/"
    assert not made("/").absolute


def test_the_asterisk_of_options_is_a_target():
    assert made("*", method="OPTIONS").malformed is None


def test_http_1_0_need_not_say_a_host_and_then_nobody_knows_it():
    request = made(headers=[], http_version="1.0")
    assert (request.malformed, request.authority, request.host_known) == (None, "", False)


def test_a_header_that_is_spelled_in_upper_case_is_the_header():
    assert made(headers=[(b"Host", b"shop.test")]).authority == "shop.test"


def test_headers_that_can_be_read_once_are_there_for_the_application_too():
    scope = http_scope()
    scope["headers"] = iter(scope["headers"])
    assert request_of(scope, None).authority == "shop.test"
    assert scope["headers"] == [(b"host", b"shop.test")]


def test_an_address_that_the_server_took_from_x_forwarded_for_is_not_the_peers():
    request = made("/", (b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"2.2.2.2"), client=("2.2.2.2", 0))
    assert request.forwarded
    assert (request.peer, request.source_ip, request.remote_ip) == ("", "", "2.2.2.2")
    honest = made("/", (b"x-forwarded-for", b"2.2.2.2"))
    assert (honest.forwarded, honest.source_ip, honest.remote_ip) == (False, "10.1.2.3", "2.2.2.2")


def test_x_forwarded_proto_says_nothing_of_the_connection():
    assert made(scheme="https").secure
    assert not made("/", (b"x-forwarded-proto", b"https"), scheme="https").secure
    assert made("/", (b"x-forwarded-proto", b"http"), scheme="http", extensions=TLS).secure


@pytest.mark.parametrize(
    "name",
    [b"x-forwarded-client-cert", b"x-client-cert", b"x-meshlib-principal", b"x-envoy-peer-metadata", b"x-principal"],
)
def test_no_header_says_who_the_caller_is(name):
    request = made("/", (name, f"URI={OPS};By={OPS}".encode()))
    assert (request.principal, request.mutual, request.secure, request.claims) == ("", False, False, None)


@pytest.mark.parametrize(
    ("content_type", "wanted"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (None, False),
    ],
)
def test_grpc_is_told_by_its_content_type_as_envoy_does(content_type, wanted):
    assert is_grpc(content_type) is wanted


def test_a_caller_of_a_users_test_is_an_object_in_the_scope_and_nothing_that_a_client_sends():
    request = made(**{STAND_IN: StandIn(OPS, source_ip="10.0.0.7")})
    assert (request.principal, request.mutual, request.source_ip) == (OPS, True, "10.0.0.7")
    for request in (
        made("/", (STAND_IN.encode(), OPS.encode())),
        made(**{STAND_IN: OPS}),
        made(extensions={STAND_IN: OPS}),
    ):
        assert (request.principal, request.mutual) == ("", False)


@pytest.mark.parametrize(
    ("raw", "path", "root", "wanted"),
    [
        (b"/a", "/a", "", None),
        (b"/%61%2Fb", "/a/b", "", None),
        (b"/%C3%A9", "/\u00e9", "", None),
        (b"/x", "/api/x", "/api", None),  # a server that has put its root path before it
        (b"/a", "/b", "", "/b"),
        (b"/a", "/api/b", "/api", "/api/b"),
        (b"/a", "/\u00e9", "", "/\u00c3\u00a9"),
    ],
)
def test_where_the_application_is_told_another_path_that_is_judged_too(raw, path, root, wanted):
    assert made(raw_path=raw, path=path, root_path=root).routed == wanted


def test_it_has_all_that_a_request_has():
    """It makes itself, without the constructor of what it is."""
    request, plain = made(), InboundRequest("GET", "/")
    slots = [name for kind in InboundRequest.__mro__ for name in getattr(kind, "__slots__", ()) if name[:2] != "__"]
    assert [name for name in slots if hasattr(plain, name) and not hasattr(request, name)] == []


def test_requests_alike_are_read_once_and_what_strangers_send_takes_no_memory():
    known = request._known
    known.clear()
    assert made("/a?x=1").path == made("/a?x=2").path == "/a"
    assert len(known) == 1
    for odd in (
        made("/b", (b"host", b"other")),
        made("/" + "c" * 600),
        made("/d#"),
        made("/e", root_path="/r"),
        made("/f", (b"x-forwarded-for", b"1.1.1.1")),
        made(headers=[], http_version="1.0"),
    ):
        assert odd.method == "GET"
    assert len(known) == 2
    for n in range(request.MOST_REMEMBERED + 10):
        made(f"/{n}")
    assert len(known) <= request.MOST_REMEMBERED
    known.clear()


def test_a_request_like_another_with_another_host_method_or_visible_path_is_another():
    assert [made("/a", (b"host", host)).authority for host in (b"a", b"b", b"a")] == ["a", "b", "a"]
    assert made("*", method="OPTIONS").malformed is None
    assert made("*").malformed is not None
    assert [made("/a", path=path).routed for path in ("/a", "/b", "/a")] == [None, "/b", None]


def test_what_checks_may_set_of_a_request_can_be_set():
    request = made()
    request.for_caller += [(b"a", b"1")]
    request.for_caller.append((b"b", b"2"))
    assert request.changes_response
    assert request.response_headers(()) == [(b"a", b"1"), (b"b", b"2")]
    for name in (n for kind in InboundRequest.__mro__ for n in getattr(kind, "__slots__", ()) if n[:2] != "__"):
        setattr(request, name, getattr(request, name))


NAMES = (b"x-a", b"X-A", b"x-b", b"authorization", b"Authorization", b"-", b"x\xe9", b"x\xc9", b"k")


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=3)), max_size=4),
    st.lists(st.tuples(st.booleans(), st.sampled_from(("x-a", "X-A", "authorization", "-", "x\xe9", "\u212a", "n")))),
)
@example([(b"x\xe9", b"1"), (b"x\xc9", b"2")], [(False, "x-a"), (True, "x\xe9")])
def test_a_header_that_is_looked_up_alone_is_what_it_is_among_all(headers, questions):
    """However names are spelled and repeated: what is not found cannot be forbidden."""
    request, plain = made(headers=headers), InboundRequest("GET", "/", headers)
    for several, name in questions:
        asked = "header_values" if several else "header"
        assert getattr(request, asked)(name) == getattr(plain, asked)(name)


def test_a_header_that_was_changed_is_read_as_it_is_by_then():
    request = made("/", (b"x-a", b"1"))
    assert (request.header("x-a"), request._values) == ("1", None)  # nothing else was decoded
    request.take_away("x-a")
    assert (request.header("x-a"), request.header_values("x-a")) == (None, None)
    request.add("x-a", b"2")
    request.add("x-a", b"3")
    assert (request.header("x-a"), request.header_values("x-a")) == ("2,3", ["2", "3"])
