"""How a refusal is said to an HTTP client, and to one that wants a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from meshlib.transport.asgi.messages import size

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.messages import Receive, Scope, Send

WITHOUT_BODY = frozenset((204, 205, 304))
POLICY_VIOLATION = 1008

Head = list[tuple[bytes, bytes]]


def response_of(refusal: Refusal, request: InboundRequest) -> tuple[int, Head, bytes]:
    """Status, headers and body of the HTTP response: HEAD gets no body; gRPC callers get Envoy's local reply to them, 200 and a
    grpc-status."""
    changed = request.response_headers
    if request.protocol == "grpc":
        headers: Head = [
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % refusal.grpc),
            (b"grpc-message", quote(refusal.text, " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~").encode()),
        ]
        return 200, changed([*headers, *refusal.headers]), b""
    status = refusal.status
    if status in WITHOUT_BODY:
        return status, changed(refusal.headers), b""
    return status, changed(refusal.http_headers()), b"" if request.method == "HEAD" else refusal.content


async def respond(refusal: Refusal, request: InboundRequest, send: Send) -> int:
    """Send it, and read nothing of the request: a client that waits for 100 Continue gets none. Returns the bytes of the
    response."""
    status, headers, body = response_of(refusal, request)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return size(headers) + len(body)


async def turn_away(refusal: Refusal, request: InboundRequest, scope: Scope, receive: Receive, send: Send) -> int:
    """Refuse a WebSocket before it is accepted: as an HTTP response where the server can send one, else by closing it with
    code 1008, of which servers make a 403. Returns the bytes of the response."""
    if (await receive())["type"] != "websocket.connect":
        return 0
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        return 0
    status, headers, body = response_of(refusal, request)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
    return size(headers) + len(body)
