"""``/metrics`` of a service: its registry, for Prometheus, in pieces between which other requests get their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from meshlib.telemetry.exposition import exposition

PATH = "/metrics"


async def metrics(request: Request) -> Response:
    """A scrape."""
    content_type, pieces = exposition(None, request.headers.get("accept", ""), request.query_params.getlist("name[]"))

    async def streamed() -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    return StreamingResponse(streamed(), headers={"content-type": content_type})
