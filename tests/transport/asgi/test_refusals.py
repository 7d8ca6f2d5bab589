"""What a client gets in place of the application's response."""

from __future__ import annotations

import pytest

from meshlib.policy.refusal import Refusal
from meshlib.transport.asgi.refusals import respond, response_of, turn_away
from tests.support.asgi import DENIED, Client, http_scope, request_of, ws_scope


def request(*headers, **more):
    return request_of(http_scope("/", *headers, **more), None)


async def test_a_refusal_has_its_status_headers_and_body_and_reads_nothing():
    client = Client()
    made = request()
    made.for_caller.append((b"x-ratelimit-limit", b"1"))
    refusal = Refusal(429, "local_rate_limited", headers=((b"retry-after", b"1"),))
    sent = await respond(refusal, made, client.send)
    assert client.status == 429
    assert client.headers == {
        b"retry-after": b"1",
        b"content-type": b"text/plain",
        b"content-length": b"18",
        b"x-ratelimit-limit": b"1",
    }
    assert client.body == b"local_rate_limited"
    assert client.reads == 0
    assert sent == sum(len(k) + len(v) for k, v in client.headers.items()) + 18


async def test_head_gets_the_head_of_that_without_the_body():
    client = Client()
    await respond(DENIED, request(method="HEAD"), client.send)
    assert client.headers[b"content-length"] == b"19"
    assert client.body == b""


def test_bytes_of_an_authorizer_go_to_the_caller_as_they_are():
    assert response_of(Refusal(401, b"\xff\x00"), request())[2] == b"\xff\x00"


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_that_has_no_body_gets_none(status):
    assert response_of(Refusal(status, "x", headers=((b"a", b"b"),)), request()) == (status, [(b"a", b"b")], b"")


def test_grpc_callers_get_envoys_local_response_to_them():
    made = request((b"content-type", b"application/grpc+proto"))
    status, headers, body = response_of(Refusal(403, "RBAC: access\ndénied"), made)
    assert (status, body) == (200, b"")
    assert dict(headers) == {
        b"content-type": b"application/grpc",
        b"grpc-status": b"7",
        b"grpc-message": b"RBAC: access%0Ad%C3%A9nied",
    }


CONNECT = {"type": "websocket.connect"}


async def test_a_websocket_is_refused_with_a_response_where_the_server_can_send_one():
    scope = ws_scope(extensions={"websocket.http.response": {}})
    client = Client(CONNECT)
    await turn_away(DENIED, request_of(scope, None), scope, client.receive, client.send)
    assert [m["type"] for m in client.got] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (client.status, client.body) == (403, b"RBAC: access denied")


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
async def test_elsewhere_it_is_closed_before_it_was_accepted(extensions):
    scope = ws_scope(extensions=extensions)
    client = Client(CONNECT)
    await turn_away(DENIED, request_of(scope, None), scope, client.receive, client.send)
    assert client.got == [{"type": "websocket.close", "code": 1008}]


async def test_a_websocket_whose_client_has_gone_is_sent_nothing():
    scope = ws_scope()
    client = Client({"type": "websocket.disconnect"})
    assert await turn_away(DENIED, request_of(scope, None), scope, client.receive, client.send) == 0
    assert client.got == []
