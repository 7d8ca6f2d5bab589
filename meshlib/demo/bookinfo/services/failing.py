"""A switch that makes one replica fail, for the outlier scenario: ``POST /admin/fail?mode=5xx|close|slow|none``."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

MODES = ("none", "5xx", "close", "slow")
SLOW_SECONDS = 5.0


class FailingSwitch:
    """ASGI middleware. ``5xx`` answers 503; ``close`` promises a body and hangs up before it; ``slow`` waits 5 s first.

    ``/health``, ``/mesh/*`` and ``/admin/*`` always work: the replica is to look alive to discovery, as in real outages.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.mode = "none"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path == "/admin/fail":
            await self._switch(scope, send)
        elif self.mode == "none" or path == "/health" or path.startswith("/mesh/"):
            await self.app(scope, receive, send)
        elif self.mode == "5xx":
            await answer(
                send, 503, {"error": "this replica is failing on purpose (POST /admin/fail?mode=none ends it)"}
            )
        elif self.mode == "close":
            # an ASGI app that returns before its body is whole makes the server drop the connection
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
        else:
            await asyncio.sleep(SLOW_SECONDS)
            await self.app(scope, receive, send)

    async def _switch(self, scope: Any, send: Any) -> None:
        if scope["method"] != "POST":
            await answer(send, 405, {"error": "use POST /admin/fail?mode=5xx|close|slow|none"})
            return
        mode = parse_qs(scope["query_string"].decode("latin-1")).get("mode", [""])[0]
        if mode not in MODES:
            await answer(send, 400, {"error": f"mode must be one of {', '.join(MODES)}, not {mode!r}"})
            return
        self.mode = mode
        await answer(send, 200, {"mode": mode})


async def answer(send: Any, status: int, body: dict[str, Any]) -> None:
    """Send a whole JSON answer."""
    data = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
