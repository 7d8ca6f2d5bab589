"""A request of a gateway's client, before and after its policies."""

from __future__ import annotations

import pytest

from meshlib.proxy.gateway_request import GatewayRequest, GatewayServed
from meshlib.proxy.request import ProxyRequest


def served(lines=b"Host: a.test\r\nX-A: 1\r\n", client_ip="7.7.7.7"):
    sent = GatewayRequest(b"GET", b"a.test", b"/x?q=1", lines, b"\r\n" + lines.lower(), None)
    sent.at_the_edge(lines, sent.lower, "https", False)
    return GatewayServed(sent, "127.0.0.1:1", "127.0.0.1", 443, "a.test", True, client_ip)


def test_who_the_client_is_was_decided_at_the_edge():
    request = served(b"Host: a.test\r\nx-forwarded-for: 1.1.1.1\r\n")
    assert (request.remote_ip, request.source_ip) == ("7.7.7.7", "127.0.0.1")
    assert request.scheme == "https"


def test_a_request_that_no_policy_changes_goes_on_as_it_came():
    request = served()
    assert request.for_the_application() is request.sent_on
    assert request.sent_on.lines == b"Host: a.test\r\nX-A: 1\r\n"


def test_it_is_routed_by_what_policies_have_made_of_it():
    request = served()
    request.put("x-a", b"2")
    request.add("x-claim", b"admin")
    request.retarget("q=2")
    sent = request.for_the_application()
    assert (sent.header("x-a"), sent.header("x-claim")) == ("2", "admin")
    assert (sent.target, sent.query, sent.full_path) == (b"/x?q=2", "q=2", "/x?q=2")
    assert sent.header("host") == "a.test"


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("body", [None, b"abc"])
def test_what_a_client_has_sent_is_what_it_would_be_of_its_bytes(asks, body):
    sized = b"" if body is None else b"content-length: 3\r\n"
    came = b"Host: a.test\r\n" + sized
    more = b"x-envoy-mine: 1\r\n" if asks else b"x-mine: 1\r\n"
    lines = came + more
    client = ProxyRequest(b"POST", b"a.test", b"/x?q=1", came, b"\r\n" + came.lower(), body)
    made = GatewayRequest.of(client)
    read = GatewayRequest(b"POST", b"a.test", b"/x?q=1", came, b"\r\n" + came.lower(), body)
    for each in (made, read):
        each.at_the_edge(lines, b"\r\n" + lines.lower(), "https", asks, ("1.1.1.1:1", "2.2.2.2:2"))
    for name in (*ProxyRequest.__slots__, *GatewayRequest.__slots__):
        if name not in ("_headers", "_received", "special"):
            assert getattr(made, name) == getattr(read, name), name
    assert made.headers == read.headers
    assert made.encoded(1) == read.encoded(1)
    assert (made.encoded(1) is None) == asks, "what may say how to route is looked at"
