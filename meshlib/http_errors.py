"""Errors of calls that are also the exception of httpx that its callers already catch.

They derive from httpx's, or from httpx2's in a program that has imported only that one by now. What a client of the other
module gets derives from that one's as well (``transport/httpx/errors.py``). Users know them by ``meshlib.errors``, which loads
them when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshlib.call_error import CallError, MeshClosed
from meshlib.httpx_module import imported, usual

MODULE: Final = next(iter(imported()), None) or usual()

if TYPE_CHECKING:
    import httpx
else:
    httpx = MODULE


class ConnectFailed(CallError, httpx.ConnectError):
    """No connection to the endpoint: refused, unreachable, name not found, TLS handshake failed (Envoy flag UF)."""


class ConnectTimedOut(ConnectFailed, httpx.ConnectTimeout):
    """The endpoint did not accept the connection within connectTimeout (Envoy flag UF)."""


class ProxyFailed(ConnectFailed, httpx.ProxyError):
    """The proxy on the way to a host outside the registry could not be used, or refused (Envoy flag UF)."""


class NoHealthyUpstream(CallError, httpx.ConnectError):
    """The cluster has no endpoint that may be used (Envoy flag UH)."""


class Overflow(CallError, httpx.PoolTimeout):
    """A connection-pool limit was reached, or the caller's pool timeout passed while waiting (Envoy flag UO)."""


class UpstreamTimeout(CallError, httpx.ReadTimeout):
    """The route's timeout, perTryTimeout or the caller's own read timeout passed (Envoy flags UT, DC)."""


class UpstreamReset(CallError, httpx.RemoteProtocolError):
    """The connection broke, or the response was not HTTP, after the request was sent (Envoy flags UC, UPE)."""


class WriteTimedOut(UpstreamTimeout, httpx.WriteTimeout):
    """The request's body could not be written within the caller's own write timeout (Envoy flag DC)."""


class ConnectionReset(UpstreamReset, httpx.ReadError, httpx.WriteError):
    """The connection broke below HTTP: reset, or unreachable by now (Envoy flag UC). A connection that the server merely
    closes is an ``UpstreamReset``. Whether reading or writing meets a reset first is chance, so this is both of httpx's."""


class InvalidRequest(CallError, httpx.LocalProtocolError):
    """The request itself cannot be written as HTTP: a line break in a header, an empty host, a Content-Length that is not
    the body's. Nothing was sent, or less than a whole request on a connection that is used no more."""


class UnsupportedProtocol(CallError, httpx.UnsupportedProtocol):
    """The URL has no host, or a scheme other than http and https; nothing was sent."""


class ClosedMeanwhile(UpstreamReset, MeshClosed):
    """The mesh was closed while the call was under way: its connection was broken off."""


ALL = [cls for cls in list(globals().values()) if isinstance(cls, type) and cls.__module__ == __name__]
for cls in ALL:
    cls.__module__ = "meshlib.errors"  # where users find them, tracebacks name them and pickles look
