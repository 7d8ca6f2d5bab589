"""grpcio's own channels to endpoints, whoever has patched its functions.

OpenTelemetry's and Sentry's global instrumentation replace ``grpc.insecure_channel`` and its siblings by functions that put
interceptors around what they make. Around an attempt of the mesh those would see attempts, not calls, each on its own
connection, and they give call objects that are not grpcio's. So channels are made from grpcio's classes, which is all
that its functions do. Where those are not what we know, its functions are called, patched or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from meshlib.transport.grpcio.contracts import EndpointChannel

_insecure: object = None
_classes: dict[object, Callable[..., Any]] = {}
try:
    from grpc import _channel
    from grpc.aio import _channel as _aio_channel
    from grpc.experimental import _insecure_channel_credentials as _insecure

    _classes = {grpc: _channel.Channel, aio: _aio_channel.Channel}
except (ImportError, AttributeError):
    pass  # another grpcio: by its functions


def make_channel(
    on_loop: bool,
    address: str,
    credentials: grpc.ChannelCredentials | None,
    options: list[tuple[str, object]],
    compression: grpc.Compression | None,
) -> EndpointChannel:
    """As ``grpc.secure_channel`` (``insecure_channel`` without ``credentials``), or those of ``grpc.aio``."""
    module: ModuleType = aio if on_loop else grpc
    made = _classes.get(module)
    secret = None if credentials is None else getattr(credentials, "_credentials", _insecure)
    if made is not None and (credentials is None or secret is not _insecure):
        more = (None,) if on_loop else ()  # interceptors
        try:
            channel: EndpointChannel = made(address, options, secret, compression, *more)
            return channel
        except TypeError:  # what its arguments are worth, the function will say
            pass
    plaintext: Callable[..., EndpointChannel] = module.insecure_channel
    secure: Callable[..., EndpointChannel] = module.secure_channel
    if credentials is None:
        return plaintext(address, options=options, compression=compression)
    return secure(address, credentials, options=options, compression=compression)
