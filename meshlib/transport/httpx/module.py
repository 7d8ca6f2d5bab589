"""httpx, or its successor httpx2: the module whose classes a door is made of."""

from __future__ import annotations

import sys
from types import ModuleType

import httpx


class HttpxModule(ModuleType):
    """What both have by the same names. Types are httpx's; httpx2's are classes of their own that do the same."""

    Request: type[httpx.Request]
    Response: type[httpx.Response]
    Headers: type[httpx.Headers]
    ByteStream: type[httpx.ByteStream]
    SyncByteStream: type[httpx.SyncByteStream]
    AsyncByteStream: type[httpx.AsyncByteStream]
    BaseTransport: type[httpx.BaseTransport]
    AsyncBaseTransport: type[httpx.AsyncBaseTransport]
    TransportError: type[httpx.TransportError]
    NetworkError: type[httpx.NetworkError]
    ProxyError: type[httpx.ProxyError]
    ConnectError: type[httpx.ConnectError]
    ConnectTimeout: type[httpx.ConnectTimeout]
    PoolTimeout: type[httpx.PoolTimeout]
    WriteTimeout: type[httpx.WriteTimeout]
    TimeoutException: type[httpx.TimeoutException]
    LocalProtocolError: type[httpx.LocalProtocolError]
    RemoteProtocolError: type[httpx.RemoteProtocolError]
    UnsupportedProtocol: type[httpx.UnsupportedProtocol]


def typed(module: ModuleType) -> HttpxModule:
    """The module, as what it is known to be."""
    return module  # type: ignore[return-value]


def module_of(inner: object) -> HttpxModule:
    """The module that a transport of the caller's is made for."""
    httpx2 = sys.modules.get("httpx2")
    if httpx2 is not None and isinstance(inner, (httpx2.BaseTransport, httpx2.AsyncBaseTransport)):
        return typed(httpx2)
    return typed(httpx)
