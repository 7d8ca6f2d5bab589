"""WebSockets through the mesh (httpx-ws); in both runtimes."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpx_ws
import pytest
import trustme
from httpx_ws.transport import ASGIWebSocketTransport

import meshlib
from benchmarks.free_ports import free_port
from tests.support.forward_proxy import ForwardProxy
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.websockets import EchoSocket, server_side

RUNTIMES = ["threads", "asyncio"]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def chat(*servers: EchoSocket, rules: tuple[dict[str, Any], ...] = (), **policy: Any) -> list[dict[str, Any]]:
    return [
        service("chat"),
        *(pod("chat", f"v{number}", server.port) for number, server in enumerate(servers, 1)),
        destination_rule("chat", *(f"v{number}" for number in range(1, len(servers) + 1)), **policy),
        *([virtual_service("chat", *rules)] if rules else []),
    ]


def talk(
    runtime: str, mesh: meshlib.Mesh, url: str, *messages: str | bytes, headers: Any = None, **options: Any
) -> list:
    """Say each message and hear what comes back, after the greeting."""

    def heard(message: Any) -> Any:
        return message.data if isinstance(message.data, str) else bytes(message.data)

    big = {"max_message_size_bytes": 2**24, "keepalive_ping_interval_seconds": None}
    if runtime == "threads":
        with (
            mesh.client(**options) as client,
            httpx_ws.connect_ws(url, client, headers=headers or {}, **big) as session,
        ):
            got = [session.receive_text(timeout=60)]
            for message in messages:
                session.send_text(message) if isinstance(message, str) else session.send_bytes(message)
                got.append(heard(session.receive(timeout=60)))
            return got

    async def go() -> list:
        async with (
            mesh.async_client(**options) as client,
            httpx_ws.aconnect_ws(url, client, headers=headers or {}, **big) as session,
        ):
            got = [await session.receive_text(timeout=60)]
            for message in messages:
                await (session.send_text(message) if isinstance(message, str) else session.send_bytes(message))
                got.append(heard(await session.receive(timeout=60)))
            return got

    return asyncio.run(go())


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_websocket_is_routed_by_the_rules_of_its_host(runtime, scheme):
    rules = (
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("chat", "v2")]},
        {"route": [to("chat", "v1")], "headers": {"request": {"add": {"x-rule": "1"}}}},
    )
    with EchoSocket("v1") as one, EchoSocket("v2") as two:
        with meshlib.Mesh.from_resources(chat(one, two, rules=rules)) as mesh:
            url = f"{scheme}://chat:9080/room"
            assert talk(runtime, mesh, url, "a", b"b") == ["hello from v1", "a", b"b"]
            assert talk(runtime, mesh, url, headers={"end-user": "jason"}) == ["hello from v2"]
        assert one.heads[0]["x-rule"] == "1"
        assert one.paths == ["/room"]


@pytest.mark.parametrize("http2", [False, True])
def test_wss_to_a_host_outside_stays_on_http1(runtime, authority, trusting, http2):
    with EchoSocket(tls=server_side(authority)) as server, meshlib.Mesh.from_resources([]) as mesh:
        url = f"wss://localhost:{server.port}/"
        assert talk(runtime, mesh, url, "a", verify=trusting, http2=http2) == ["hello from echo", "a"]


@pytest.mark.parametrize("tls", [False, True])
def test_large_messages_go_both_ways_at_once(runtime, authority, trusting, tls):
    with EchoSocket(tls=server_side(authority) if tls else None) as server, meshlib.Mesh.from_resources([]) as mesh:
        url = f"{'wss' if tls else 'ws'}://localhost:{server.port}/"
        message = bytes(range(256)) * 16_384
        assert talk(runtime, mesh, url, message, message, verify=trusting)[1:] == [message, message]


def test_a_host_outside_is_reached_through_the_proxy(runtime, authority, trusting):
    with EchoSocket(tls=server_side(authority)) as server, ForwardProxy(tunnels_to=server.port) as proxy:
        with meshlib.Mesh.from_resources([]) as mesh:
            options = {"proxy": proxy.url, "verify": trusting}
            assert talk(runtime, mesh, "wss://localhost/", "a", **options) == ["hello from echo", "a"]
        assert proxy.asked == ["CONNECT localhost:443 HTTP/1.1"]


def test_an_inner_transport_may_switch_protocols_too():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"hello from {scope['path']}"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def go(mesh: meshlib.Mesh) -> None:
        async with mesh.async_client(transport=ASGIWebSocketTransport(app)) as client:
            async with httpx_ws.aconnect_ws("http://chat:9080/room", client) as session:
                assert await session.receive_text(timeout=60) == "hello from /room"
                await session.send_text("a")
                assert await session.receive_text(timeout=60) == "a"
        (cluster,) = mesh.status()["clusters"]
        assert cluster["active"] == 0

    with meshlib.Mesh.from_resources([service("chat"), pod("chat", "v1", 1)]) as mesh:
        asyncio.run(go(mesh))


def test_a_refused_upgrade_is_an_ordinary_response(runtime):
    with EchoSocket() as server, meshlib.Mesh.from_resources(chat(server)) as mesh:
        with pytest.raises(httpx_ws.WebSocketUpgradeError) as refused:
            talk(runtime, mesh, "ws://chat:9080/no")
    assert refused.value.response.status_code == 403


def test_the_handshake_is_retried_as_any_other_request(runtime):
    with EchoSocket() as server:
        resources = [service("chat"), pod("chat", "v1", free_port(), name="dead"), pod("chat", "v1", server.port)]
        with meshlib.Mesh.from_resources(resources, seed=1) as mesh:
            for _ in range(6):
                assert talk(runtime, mesh, "ws://chat:9080/", "a") == ["hello from echo", "a"]
