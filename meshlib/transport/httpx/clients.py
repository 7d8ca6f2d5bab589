"""``mesh.client()`` and ``mesh.async_client()``: httpx's own clients, less some detours, whose every request meets the mesh.

httpx builds a whole urllib request after every response to look for cookies. A response without Set-Cookie has none, and
not looking saves a fifth of a call (the rows "p50" of ``make bench``). For the other detours see ``built_requests.py`` and
``direct_send.py``; for what the clients are made with, ``client_arguments.py``.
"""

from __future__ import annotations

import http.cookiejar
from typing import TYPE_CHECKING, Any

import httpx

from meshlib.transport.httpx.built_requests import BuildsRequests
from meshlib.transport.httpx.direct_send import SendsDirectly, SendsDirectlyAsync, possible
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from httpx._types import CookieTypes


class ThriftyCookies(httpx.Cookies):
    """httpx's cookies, which look at a response only when it sets one."""

    def __bool__(self) -> bool:
        # an empty jar of the library's own says so without going through it, and it is asked for each request
        if PLAIN:
            return super().__bool__()
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
        if PLAIN or (getattr(response, "sets_cookie", True) and "set-cookie" in response.headers):
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
