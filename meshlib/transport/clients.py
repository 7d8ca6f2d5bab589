"""``mesh.client()`` and ``mesh.async_client()``: httpx's own clients, less one detour.

httpx builds a whole urllib request after every response to look for cookies. A response without Set-Cookie has none, and
not looking saves a fifth of a call (the rows "p50" of ``make bench``). Only public names of httpx are used.
"""

from __future__ import annotations

from typing import Any

import httpx


class ThriftyCookies(httpx.Cookies):
    """httpx's cookies, which look at a response only when it sets one."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Take over the cookies that the response sets."""
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class MeshClient(httpx.Client):
    """An ``httpx.Client`` in every respect."""

    _thrifty: ThriftyCookies | None = None

    @property
    def cookies(self) -> httpx.Cookies:
        """Cookies sent with every request, and taken from every response."""
        if self._thrifty is None:
            self._thrifty = ThriftyCookies(super().cookies)
        return self._thrifty

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._thrifty = ThriftyCookies(cookies)


class AsyncMeshClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` in every respect."""

    _thrifty: ThriftyCookies | None = None

    @property
    def cookies(self) -> httpx.Cookies:
        """Cookies sent with every request, and taken from every response."""
        if self._thrifty is None:
            self._thrifty = ThriftyCookies(super().cookies)
        return self._thrifty

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._thrifty = ThriftyCookies(cookies)
