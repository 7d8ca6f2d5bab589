"""A WebSocket at its application: it has the status of its handshake and ends with either side's close."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine import deadlines
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from tests.support.asgi import Client, Served, ws_scope

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept", "headers": [(b"x", b"1")]}


@pytest.fixture
def served():
    made = Served()
    yield made
    made.mesh.close()


async def open_at(served, app, *says, scope=None):
    client = Client(CONNECT, *says)
    await MeshASGIMiddleware(app, served.mesh)(scope or ws_scope(), client.receive, client.send)
    return client


async def echo(scope, receive, send):
    await receive()
    await send(dict(ACCEPT))
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


def gone(code=1000):
    return {"type": "websocket.disconnect", "code": code}


@pytest.mark.parametrize(("code", "flag"), [(1000, "-"), (1001, "-"), (1005, "-"), (1006, "DC")])
async def test_a_conversation_is_counted_with_what_it_carried(served, code, flag):
    says = [{"type": "websocket.receive", "text": "é"}, {"type": "websocket.receive", "bytes": b"abc"}]
    client = await open_at(served, echo, *says, gone(code))
    assert [m["type"] for m in client.got] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert served.counted() == [("101", flag)]
    assert served.sample("istio_request_bytes_sum") == len("GET/hostshop.test") + 5
    assert served.sample("istio_response_bytes_sum") == len("x1") + 5


async def test_one_that_the_application_refuses_is_a_403(served):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 1000})

    await open_at(served, app)
    assert served.counted() == [("403", "-")]


async def test_one_that_the_application_answers_has_that_status(served):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"tea", "more_body": True})
        assert served.counted() == []
        await send({"type": "websocket.http.response.body", "body": b"pot"})

    await open_at(served, app)
    assert served.counted() == [("418", "-")]
    assert served.sample("istio_response_bytes_sum") == 6


async def test_the_caller_gets_the_headers_that_checks_left_for_it(served):
    served.checks(lambda request: request.for_caller.append((b"x-left", b"1")))
    client = await open_at(served, echo, gone())
    assert client.got[0]["headers"] == [(b"x", b"1"), (b"x-left", b"1")]


@pytest.mark.parametrize(
    ("fails", "accepted", "wanted"),
    [
        (ValueError, False, ("500", "-")),
        (ValueError, True, ("101", "UC")),
        (None, False, ("500", "-")),
        (None, True, ("101", "-")),
    ],
)
async def test_an_application_that_ends_without_closing(served, fails, accepted, wanted):
    async def app(scope, receive, send):
        await receive()
        if accepted:
            await send(dict(ACCEPT))
        if fails:
            raise fails

    if fails:
        with pytest.raises(fails):
            await open_at(served, app)
    else:
        await open_at(served, app)
    assert served.counted() == [wanted]


async def test_a_cancelled_one_is_a_client_that_went_away(served):
    task = asyncio.create_task(open_at(served, echo))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert served.counted() == [("101", "DC")]


async def test_a_send_that_fails_is_a_client_that_went_away(served):
    class Gone(Client):
        async def send(self, message):
            if message["type"] == "websocket.send":
                raise ConnectionResetError
            await super().send(message)

    client = Gone(CONNECT, {"type": "websocket.receive", "text": "a"})
    with pytest.raises(ConnectionResetError):
        await MeshASGIMiddleware(echo, served.mesh)(ws_scope(), client.receive, client.send)
    assert served.counted() == [("101", "DC")]


async def test_no_deadline_binds_it(served):
    async def app(scope, receive, send):
        await receive()
        assert deadlines.around() is None
        await send({"type": "websocket.close"})

    await open_at(served, app, scope=ws_scope("/", (b"x-request-deadline", b"0")))
    assert served.counted() == [("403", "-")]


async def test_one_that_is_dropped_is_noted_and_counted_later(served):
    client = Client(CONNECT)
    coroutine = MeshASGIMiddleware(echo, served.mesh)(ws_scope(), client.receive, client.send)
    coroutine.send(None)
    coroutine.close()
    assert served.counted() == [("101", "DC")]
