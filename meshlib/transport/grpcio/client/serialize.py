"""Request messages as they are sent: serialized as the stub says, and bytes then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc

from meshlib.transport.grpcio.client.errors import RpcFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.transport.grpcio.client.method import Method
    from meshlib.transport.grpcio.contracts import Req, Resp

log = logging.getLogger("meshlib.grpc")


def serializer_of(method: Method[Req, Resp]) -> Callable[[Req], bytes]:
    """What makes bytes of the request of a call. It raises what grpcio raises when that fails, and why as its cause."""
    serialize = method.serialize

    def serialized(request: Req) -> bytes:
        # all in one function: nearly all calls come here, and each function that need not be called shows in `make bench`
        try:
            data = request if serialize is None else serialize(request)
            return data if type(data) is bytes else only_bytes(data)
        except Exception as error:
            log.error("a request of %s could not be serialized", method.path, exc_info=error)
            raise RpcFailed(grpc.StatusCode.INTERNAL, "Exception serializing request!", (), None) from error

    return serialized


def to_bytes(message: Req, serialize: Callable[[Req], bytes] | None) -> bytes:
    """A request message as it is sent. Raises what its serializer raises, and TypeError when the outcome is not bytes."""
    data = message if serialize is None else serialize(message)
    return data if type(data) is bytes else only_bytes(data)


def only_bytes(data: object) -> bytes:
    """``data`` as nothing but bytes. Raises TypeError for what is none."""
    if isinstance(data, bytes):
        return bytes(data)
    raise TypeError(
        f"a gRPC request must be bytes once it is serialized, not {type(data).__name__}: give the stub's method a "
        "request_serializer (for example Request.SerializeToString)"
    )
