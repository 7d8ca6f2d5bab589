"""httpx, or its successor httpx2: the module whose classes a caller uses, or somebody else's transport.

Neither is imported for the other's sake: only what the program has imported itself can have made what is looked at here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import httpx

NAMES = ("httpx", "httpx2")
"""The first that is there is the one of programs that do not say."""


class HttpxModule(ModuleType):
    """What both have by the same names. Types are httpx's; httpx2's are classes of their own that do the same."""

    create_ssl_context: Callable[..., ssl.SSLContext]
    URL: type[httpx.URL]
    Request: type[httpx.Request]
    Response: type[httpx.Response]
    Headers: type[httpx.Headers]
    Limits: type[httpx.Limits]
    Client: type[httpx.Client]
    AsyncClient: type[httpx.AsyncClient]
    ByteStream: type[httpx.ByteStream]
    SyncByteStream: type[httpx.SyncByteStream]
    AsyncByteStream: type[httpx.AsyncByteStream]
    BaseTransport: type[httpx.BaseTransport]
    AsyncBaseTransport: type[httpx.AsyncBaseTransport]
    HTTPTransport: type[httpx.HTTPTransport]
    AsyncHTTPTransport: type[httpx.AsyncHTTPTransport]
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
    InvalidURL: type[httpx.InvalidURL]


def typed(module: ModuleType) -> HttpxModule:
    """The module, as what it is known to be."""
    return module  # type: ignore[return-value]


def imported() -> list[HttpxModule]:
    """Those of the two that the program has imported. (After ``httpx2.alias_httpx()`` both names are one module.)"""
    found = [module for name in NAMES if (module := sys.modules.get(name)) is not None]
    return list(dict.fromkeys(typed(module) for module in found if hasattr(module, "BaseTransport")))


def usual() -> HttpxModule:
    """httpx; httpx2 where it is the only one there is."""
    try:
        return typed(importlib.import_module(NAMES[0]))
    except ModuleNotFoundError as error:
        if error.name != NAMES[0]:
            raise
        return typed(importlib.import_module(NAMES[1]))


def module_of_request(request: object) -> HttpxModule:
    """Whose request it is: its caller gets responses and exceptions of the same module."""
    return next((module for module in imported() if isinstance(request, module.Request)), None) or usual()


def module_of_transport(inner: object) -> HttpxModule | None:
    """Whose requests a transport of the caller's takes; None where its class does not tell: neither's, or both's."""
    found = [module for module in imported() if isinstance(inner, (module.BaseTransport, module.AsyncBaseTransport))]
    return found[0] if len(found) == 1 else None
