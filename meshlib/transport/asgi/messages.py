"""What an ASGI server and its application say to each other, and what of it is counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Pairs: TypeAlias = Iterable[tuple[bytes, bytes]]


def size(headers: Pairs) -> int:
    """Bytes of the names and values of headers: what Envoy counts of a head."""
    return len(b"".join(chain.from_iterable(headers)))


def changed_head(message: Message, request: InboundRequest) -> Message:
    """A copy of a message that begins a response (or accepts a WebSocket), with the headers that its caller is to get."""
    return {**message, "headers": request.response_headers(message.get("headers", ()))}


def size_of(request: InboundRequest, scope: Scope) -> int:
    """Bytes of the head of a request: of its method, target and headers."""
    query = len(request.query)
    return len(request.method) + len(request.path) + (query + 1 if query else 0) + size(scope["headers"])


def declared_length(headers: Pairs) -> int:
    """What Content-Length says, 0 when nothing: the size of a body that the server sends by itself, from a file."""
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return 0


def length_of(message: Message) -> int:
    """Bytes of what one message of a WebSocket carries."""
    data = message.get("bytes")
    if data is not None:
        return len(data)
    text = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def grpc_status(headers: Pairs, before: int | None) -> int | None:
    """The grpc-status among these headers or trailers; ``before`` when there is none."""
    for name, value in headers:
        if name.lower() == b"grpc-status" and value.isdigit():
            return int(value)
    return before
