"""A visitor of Bookinfo, who knows of no mesh: HTTPS, to where the name of the site leads."""

from __future__ import annotations

import ssl

import httpx


class Way(httpx.AsyncBaseTransport):
    """Connections go to ``host`` and ``port``, whatever address the name in a URL has, and the server has to prove that it has
    that name: what ``curl --resolve`` does. ``again``: a GET whose kept connection was closed under it is sent once more, as
    browsers do."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, *, again: bool = False) -> None:
        self._again = again
        self._host = host
        self._port = port
        self._inner = httpx.AsyncHTTPTransport(verify=context)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it there."""
        way = led(request, self._host, self._port)
        try:
            return await self._inner.handle_async_request(way)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if not self._again or request.method != "GET":
                raise
        return await self._inner.handle_async_request(way)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def led(request: httpx.Request, host: str, port: int) -> httpx.Request:
    """The same request, to another address."""
    extensions = {**request.extensions, "sni_hostname": request.url.host}
    url = request.url.copy_with(host=host, port=port)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)
