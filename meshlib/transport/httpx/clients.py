"""``mesh.client()`` and ``mesh.async_client()``: httpx's own clients, less some detours, whose every request meets the mesh.

httpx builds a whole urllib request after every response to look for cookies. A response without Set-Cookie has none, and
not looking saves a fifth of a call (the rows "p50" of ``make bench``). For the other detours see ``built_requests.py`` and
``direct_send.py``.

httpx gives a request to the transport that is mounted for its URL, and puts proxies there, so that proxied requests would
pass the mesh by. Here the mesh's transport stands in each of those places and has the other one behind it, for hosts
outside the registry (``OtherWays``).
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from meshlib.transport.httpx.built_requests import BuildsRequests
from meshlib.transport.httpx.direct_send import SendsDirectly, SendsDirectlyAsync, possible

if TYPE_CHECKING:
    from httpx._types import CookieTypes


class ThriftyCookies(httpx.Cookies):
    """httpx's cookies, which look at a response only when it sets one."""

    def __bool__(self) -> bool:
        # an empty jar of the library's own says so without going through it, and it is asked for each request
        jar = self.jar
        return (
            bool(getattr(jar, "_cookies", True) if type(jar) is http.cookiejar.CookieJar else True)
            and super().__bool__()
        )

    def __repr__(self) -> str:
        return f"<Cookies {', '.join(sorted(cookie.name for cookie in self.jar))}>"

    def extract_cookies(self, response: httpx.Response) -> None:
        """Take over the cookies that the response sets."""
        # ours know it of the head that came; nobody else comes before these cookies do
        if getattr(response, "sets_cookie", True) and "set-cookie" in response.headers:
            super().extract_cookies(response)


class _Thrifty(BuildsRequests):
    """What both clients have in common."""

    _thrifty: ThriftyCookies | None = None

    @property
    def cookies(self) -> httpx.Cookies:
        """Cookies sent with every request, and taken from every response."""
        if self._thrifty is None:
            self._thrifty = ThriftyCookies(super().cookies)
        return self._thrifty

    @cookies.setter
    def cookies(self, cookies: CookieTypes) -> None:
        self._thrifty = ThriftyCookies(cookies)


class MeshClient(SendsDirectly, _Thrifty, httpx.Client):
    """An ``httpx.Client`` in every respect."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if possible and type(self) is MeshClient:
            self._direct = arguments["transport"]


class AsyncMeshClient(SendsDirectlyAsync, _Thrifty, httpx.AsyncClient):
    """An ``httpx.AsyncClient`` in every respect."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if possible and type(self) is AsyncMeshClient:
            self._direct = arguments["transport"]


_OF_TRANSPORTS = ("verify", "cert", "http2", "limits")
_DROPPED = {
    "proxies": "httpx 0.28 dropped proxies=; give proxy=, or mounts={pattern: httpx.HTTPTransport(proxy=...)}",
    "app": "httpx 0.28 dropped app=; give transport=httpx.WSGITransport(app=...) or httpx.ASGITransport(app=...)",
}


def arguments(
    make_transport: Callable[..., Any], kwargs: dict[str, Any], own_transport: type[Any], local_replies: str
) -> dict[str, Any]:
    """What ``httpx.Client`` (or ``AsyncClient``) is to be made with, so that no request passes the mesh by.

    ``make_transport`` is ``mesh.http_transport`` or its twin, ``own_transport`` httpx's own class for proxies. Raises
    TypeError and ValueError for arguments that could not act.
    """
    for name, remedy in _DROPPED.items():
        if kwargs.get(name) is not None:
            raise TypeError(remedy)
    if not kwargs.pop("http1", True):
        raise ValueError(
            "http1=False: which protocol a service of the mesh is spoken to is the mesh's decision. Name the service's "
            "port http2 (or grpc), or give its DestinationRule connectionPool.http.h2UpgradePolicy: UPGRADE; http2=True "
            "offers HTTP/2 to https URLs"
        )
    inner = kwargs.pop("transport", None)
    trust_env = kwargs.get("trust_env", True)
    said = {name: kwargs.pop(name) for name in _OF_TRANSPORTS if name in kwargs}
    transport = make_transport(inner, local_replies=local_replies, trust_env=trust_env, **said)
    ways: dict[str, Any] = dict(environment_proxies() if trust_env and inner is None else ())
    proxy, mounts = kwargs.pop("proxy", None), kwargs.pop("mounts", None)
    if proxy is not None:
        ways = {"all://": proxy}  # as in httpx: the environment does not count then
    behind = {
        pattern: None
        if way is None
        else transport.with_other_way(own_transport(proxy=way, trust_env=trust_env, **said), "")
        for pattern, way in ways.items()
    }
    for pattern, mounted in dict(mounts or {}).items():
        behind[pattern] = None if mounted is None else transport.with_other_way(mounted, pattern)
    return {**kwargs, "transport": transport, "mounts": behind}


def environment_proxies() -> Mapping[str, str | None]:
    """Proxies by httpx's URL patterns, None where there is to be none: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as
    httpx reads them (a test compares)."""
    found = urllib.request.getproxies()
    exempt = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    if "*" in exempt:
        return {}
    proxies: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        proxy = found.get(scheme)
        if proxy:
            proxies[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    for host in exempt:
        proxies[_pattern_of(host)] = None
    return proxies


def _pattern_of(host: str) -> str:
    """The URL pattern of a name in NO_PROXY."""
    if "://" in host:
        return host
    try:
        address = ipaddress.ip_address(host.split("/")[0])
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://[{host}]" if address.version == 6 else f"all://{host}"
