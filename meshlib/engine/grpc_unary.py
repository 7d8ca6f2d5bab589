"""A unary call of gRPC as a plain request, for what checks ask: one message in five bytes more of HTTP/2, through the mesh's
own connections, in every runtime. The service's port must be one that speaks HTTP/2 (named ``grpc``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshlib.engine.plain_request import PlainRequest
from meshlib.policy import deadline
from meshlib.policy.grpc_status import NAMES

if TYPE_CHECKING:
    from meshlib.engine.outcome import Outcome

_PREFIX = 5  # bytes before a message: whether it is compressed, and its length


class GrpcRequest(PlainRequest):
    """A ``PlainRequest`` that is gRPC's."""

    __slots__ = ()

    protocol = "grpc"


def grpc_request(authority: str, method: str, message: bytes, timeout: float | None = None) -> GrpcRequest:
    """The call of ``/package.Service/Method`` with one message. ``timeout`` (seconds) is what the server is told."""
    headers = {"content-type": "application/grpc", "te": "trailers", "grpc-accept-encoding": "identity"}
    if timeout is not None:
        headers[deadline.GRPC_TIMEOUT] = deadline.write(deadline.GRPC_TIMEOUT, timeout)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return GrpcRequest("POST", "http", authority, method, headers, body=body)


def grpc_message(outcome: Outcome) -> bytes | str:
    """The message of a whole response; as text: why there is none, for people."""
    if outcome.failure is not None:
        return f"{outcome.failure.name.lower()}: {outcome.detail}"
    if outcome.status != 200:
        return outcome.detail or f"it responded {outcome.status}"
    headers = list(outcome.headers)
    if not _first(headers, b"content-type").startswith(b"application/grpc"):
        return "its response is not gRPC's"
    # a response without a message ends with its head
    end = outcome.trailers if outcome.trailers and _first(outcome.trailers, b"grpc-status") else headers
    status = _first(end, b"grpc-status")
    if status != b"0":
        # without its message: that may repeat what it was told
        named = status.isdigit() and len(status) <= 2 and int(status) < len(NAMES)
        return NAMES[int(status)] if named else "its response has no valid grpc-status"
    whole = outcome.whole or b""
    if len(whole) < _PREFIX or whole[0] != 0 or int.from_bytes(whole[1:_PREFIX], "big") != len(whole) - _PREFIX:
        return "its response is not one uncompressed message"
    return whole[_PREFIX:]


def _first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")
