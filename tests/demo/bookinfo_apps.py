"""Bookinfo's four apps in one process: their calls go straight to each other's ASGI app, or fail as a test wants."""

from __future__ import annotations

from typing import Any

import httpx

from meshlib.demo.bookinfo.services import details, productpage, ratings, reviews


class Wires(httpx.AsyncBaseTransport):
    """Routes by host name. ``failing`` maps a host to the response or exception it gives instead; ``seen`` keeps requests."""

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}
        self.failing: dict[str, httpx.Response | Exception] = {}
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        failure = self.failing.get(request.url.host)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return httpx.Response(failure.status_code, content=failure.content)
        return await httpx.ASGITransport(self.apps[request.url.host]).handle_async_request(request)

    def headers_to(self, host: str) -> httpx.Headers:
        return next(r.headers for r in self.seen if r.url.host == host)


def bookinfo(version: str = "v2", **cookies: str) -> tuple[httpx.AsyncClient, Wires]:
    """A browser at productpage, with reviews in ``version``."""
    wires = Wires()
    inside = httpx.AsyncClient(transport=wires)
    wires.apps = {
        "details": details.create_app(),
        "ratings": ratings.create_app(),
        "reviews": reviews.create_app(inside, version=version, pod=f"reviews-{version}-1"),
    }
    page = productpage.create_app(inside)
    browser = httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://page", cookies=cookies)
    return browser, wires
