"""Configurations that change while a request is served, at each of its awaits: it ends as it began, and the next one is judged
by the new one. Over ASGI and gRPC, in this process."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

import meshlib
from tests.faults.test_cancelled_at_every_await import ARMED, STEPS, Armed
from tests.support.asgi import Client, body, http_scope
from tests.support.inbound_policies import authorization_policy
from tests.transport.grpcio.server.test_loop import Aborted, Context

NOBODY = authorization_policy("nobody", "ALLOW")
"""An ALLOW policy without rules lets nobody in."""


class Slow(Client):
    """A server that makes everything wait a turn of the loop."""

    async def receive(self) -> Any:
        await asyncio.sleep(0)
        return body(b"x", more=self.reads < 2)

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        await super().send(message)


async def application(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0)
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"a"})


def nothing_is_left(armed: Armed) -> None:
    assert armed.held == 0
    assert armed.flights._under_way == {}
    assert armed.mesh._core.inbound.protection.status()["active"] == 0


@pytest.mark.fault
@pytest.mark.parametrize("step", range(STEPS))
async def test_an_asgi_request_ends_on_the_configuration_that_it_began_with(step):
    armed = Armed()
    wrapped, client = meshlib.MeshASGIMiddleware(application, armed.mesh), Slow()
    served = asyncio.ensure_future(wrapped(http_scope("/"), client.receive, client.send))
    for _ in range(1 + step):
        await asyncio.sleep(0)
    armed.mesh.apply([ARMED, NOBODY])
    await served
    assert (client.status, client.body) == (200, b"aa")
    nothing_is_left(armed)
    after = Slow()
    await wrapped(http_scope("/"), after.receive, after.send)
    assert after.status == 403
    nothing_is_left(armed)
    assert armed.counted() == {("200", "", "-"): 1, ("403", "", "-"): 1}
    await armed.mesh.aclose()


@pytest.mark.fault
@pytest.mark.parametrize("step", range(STEPS))
async def test_a_grpc_call_ends_on_the_configuration_that_it_began_with(step):
    armed = Armed()

    async def one(request: str, context: Any) -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return request

    async def find(_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(one)

    class Refusable(Context):
        async def abort(self, code: Any, details: str, trailing_metadata: Any = ()) -> None:
            await super().abort(code, details)

    [interceptor] = armed.mesh.aio_grpc_server_interceptors()
    made = await interceptor.intercept_service(find, SimpleNamespace(method="/shop.Ratings/Get"))  # type: ignore[arg-type]
    served = asyncio.ensure_future(made.unary_unary("a", Refusable()))
    for _ in range(1 + step):
        await asyncio.sleep(0)
    armed.mesh.apply([ARMED, NOBODY])
    assert await served == "a"
    nothing_is_left(armed)
    with pytest.raises(Aborted, match="RBAC: access denied"):
        await made.unary_unary("a", Refusable())
    nothing_is_left(armed)
    await armed.mesh.aclose()
