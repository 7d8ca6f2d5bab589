"""A gRPC call that has begun, and of which nothing has been sent yet."""

from __future__ import annotations

from typing import Any

import meshlib
from meshlib.engine.call import Call
from meshlib.engine.effects import Send
from meshlib.transport.grpcio.client.dialer import Dialer
from meshlib.transport.grpcio.client.method import Method
from tests.support.grpc_echo import SERVICE, Message
from tests.support.grpc_runtimes import TARGET


def dialer_of(mesh: meshlib.Mesh) -> Dialer:
    """Of a channel to the echo service."""
    return Dialer(mesh._core, TARGET, None, None, None)


def begun(
    mesh: meshlib.Mesh,
    name: str = "Unary",
    kind: str = "unary_unary",
    messages: Any = b"",
    timeout: float | None = None,
    metadata: Any = None,
    with_call: bool = True,
) -> tuple[Call, Any]:
    """The call and its exchange."""
    method = Method(kind, f"/{SERVICE}/{name}", None, Message.FromString)
    dialer = dialer_of(mesh)
    call: Call = dialer.routed(method, messages, timeout, metadata, None, None, with_call)
    return call, dialer.exchange_of(call, None)


def first_send(exchange: Any) -> Send:
    """The first attempt."""
    effect = next(exchange)
    assert type(effect) is Send
    return effect
