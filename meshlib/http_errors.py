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
    """The connection to the endpoint failed: refused, unreachable, name not found, TLS handshake failed (Envoy flag UF)."""


class ConnectTimedOut(ConnectFailed, httpx.ConnectTimeout):
    """The endpoint did not accept the connection within connectTimeout (Envoy flag UF)."""


class ProxyFailed(ConnectFailed, httpx.ProxyError):
    """The proxy for a host outside the registry could not be used, or refused the connection (Envoy flag UF)."""


class NoHealthyUpstream(CallError, httpx.ConnectError):
    """The cluster has no usable endpoint (Envoy flag UH)."""


class Overflow(CallError, httpx.PoolTimeout):
    """A connection pool limit was reached, or the caller's pool timeout expired while waiting (Envoy flag UO)."""


class UpstreamTimeout(CallError, httpx.ReadTimeout):
    """The route's timeout, perTryTimeout or the caller's own read timeout expired (Envoy flags UT, DC)."""


class UpstreamReset(CallError, httpx.RemoteProtocolError):
    """After the request was sent, the connection broke or the response was not valid HTTP (Envoy flags UC, UPE)."""


class WriteTimedOut(UpstreamTimeout, httpx.WriteTimeout):
    """The request's body could not be written within the caller's own write timeout (Envoy flag DC)."""


class ConnectionReset(UpstreamReset, httpx.ReadError, httpx.WriteError):
    """The connection broke below HTTP: it was reset, or the host became unreachable (Envoy flag UC). If the server merely
    closes it, that is an ``UpstreamReset``. It is both httpx's ReadError and WriteError, as it is chance which one meets a
    reset first."""


class InvalidRequest(CallError, httpx.LocalProtocolError):
    """The request cannot be written as HTTP: a line break in a header, an empty host, a Content-Length that is not that of
    the body. Nothing was sent, or an incomplete request on a connection that is not used again."""


class UnsupportedProtocol(CallError, httpx.UnsupportedProtocol):
    """The URL has no host, or a scheme other than http and https; nothing was sent."""


class ClosedMeanwhile(UpstreamReset, MeshClosed):
    """The mesh was closed while the call was in flight, and its connection with it."""


ALL = [cls for cls in list(globals().values()) if isinstance(cls, type) and cls.__module__ == __name__]
for cls in ALL:
    cls.__module__ = "meshlib.errors"  # where users find them, tracebacks name them and pickles look
