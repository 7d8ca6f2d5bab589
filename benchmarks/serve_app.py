"""What ``meshlib serve`` serves in ``serve_mtls_rows``: an application that costs next to nothing itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"x" * 64
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """200 and 64 bytes, to every request."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
