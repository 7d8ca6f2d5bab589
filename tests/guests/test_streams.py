"""Streams over httpx: httpx-sse, httpx-ws and the Model Context Protocol's SDK."""

from __future__ import annotations

import httpx2
import pytest

import meshlib
from tests.guests.neighbourhood import BASE, neighbourhood, send_events
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.uvicorn_server import Uvicorn
from tests.support.websockets import EchoSocket

EVENTS = ("event: told\ndata: one", "event: told\ndata: two")


@pytest.fixture
def around():
    with neighbourhood(lambda handler, _request: send_events(handler, *EVENTS)) as made:
        made.refuse = 1
        yield made


# -- httpx-sse --------------------------------------------------------------------------------------------------------


def test_httpx_sse(around):
    sse = pytest.importorskip("httpx_sse", reason="make guests")
    with around.mesh.client() as client, sse.connect_sse(client, "GET", f"{BASE}/events") as source:
        assert [(event.event, event.data) for event in source.iter_sse()] == [("told", "one"), ("told", "two")]
    assert around.obeyed(attempts=2)["headers"]["accept"] == "text/event-stream"


async def test_httpx_sse_on_asyncio(around):
    sse = pytest.importorskip("httpx_sse", reason="make guests")
    async with around.mesh.async_client() as client:
        async with sse.aconnect_sse(client, "GET", f"{BASE}/events") as source:
            assert [event.data async for event in source.aiter_sse()] == ["one", "two"]
    around.obeyed(attempts=2)


def test_the_events_of_httpx2_itself(around):
    with around.mesh.client(module=httpx2) as client, client.sse(f"{BASE}/events") as source:
        assert [event.data for event in source] == ["one", "two"]
    around.obeyed(attempts=2)


# -- WebSockets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def chat():
    """Two of them; the rule takes the second."""
    with EchoSocket("v1") as one, EchoSocket("v2") as two:
        resources = [
            service("chat"),
            pod("chat", "v1", one.port),
            pod("chat", "v2", two.port),
            destination_rule("chat", "v1", "v2"),
            virtual_service("chat", {"route": [to("chat", "v2")], "headers": {"request": {"set": {"x-rule": "yes"}}}}),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh:
            yield mesh, two


def test_httpx_ws(chat):
    ws = pytest.importorskip("httpx_ws", reason="make guests")
    mesh, server = chat
    with mesh.client() as client, ws.connect_ws("ws://chat:9080/room", client) as session:
        assert session.receive_text(20) == "hello from v2"
        session.send_text("hi")
        assert session.receive_text(20) == "hi"
    assert server.heads[-1]["x-rule"] == "yes"


async def test_httpx_ws_on_asyncio(chat):
    ws = pytest.importorskip("httpx_ws", reason="make guests")
    mesh, server = chat
    async with mesh.async_client() as client, ws.aconnect_ws("ws://chat:9080/room", client) as session:
        assert await session.receive_text(20) == "hello from v2"
        await session.send_text("hi")
        assert await session.receive_text(20) == "hi"
    assert server.heads[-1]["x-rule"] == "yes"


def test_the_websockets_of_httpx2_itself(chat):
    pytest.importorskip("wsproto", reason="make guests")
    mesh, server = chat
    with mesh.client(module=httpx2) as client, client.websocket("ws://chat:9080/room") as session:
        assert session.receive_text(20) == "hello from v2"
        session.send_text("hi")
        assert session.receive_text(20) == "hi"
    assert server.heads[-1]["x-rule"] == "yes"


# -- MCP --------------------------------------------------------------------------------------------------------------


class Heads:
    """An ASGI application that notes the headers of what comes, and refuses the first requests."""

    def __init__(self, app, refuse):
        self.app, self.refuse = app, refuse
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        self.seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        self.refuse -= 1
        if self.refuse >= 0:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            return await send({"type": "http.response.body", "body": b""})
        return await self.app(scope, receive, send)


@pytest.mark.parametrize("json_response", [False, True], ids=["events", "json"])
async def test_mcp_over_streamable_http(json_response):
    """Calls of tools and their progress. What the mesh refuses or retries is HTTP to the SDK."""
    pytest.importorskip("mcp.client.client", reason="make guests")
    from mcp.client.client import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.server import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings

    server = MCPServer("adder")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    open_to_all = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = Heads(server.streamable_http_app(json_response=json_response, transport_security=open_to_all), 1)
    with Uvicorn(app, lifespan="on") as serving:
        rule = {
            "route": [to("tools")],
            "headers": {"request": {"set": {"x-rule": "yes"}}},
            "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"},
        }
        resources = [service("tools"), pod("tools", "v1", serving.port), virtual_service("tools", rule)]
        async with meshlib.Mesh.from_resources(resources) as mesh, mesh.async_client(module=httpx2) as http:
            transport = streamable_http_client("http://tools:9080/mcp", http_client=http)
            async with Client(transport) as client:
                result = await client.call_tool("add", {"a": 2, "b": 3})
    assert result.content[0].text == "5"
    assert {head.get("x-rule") for head in app.seen} == {"yes"}
    assert {head["host"] for head in app.seen} == {"tools:9080"}
    assert app.seen[1]["x-envoy-attempt-count"] == "2"
