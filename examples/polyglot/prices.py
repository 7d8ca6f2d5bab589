"""Prices, the service of the shop that is Python, with meshlib in process: ``meshlib serve`` lets callers in, and its own calls
are those of an httpx client of a mesh.

    GET /prices/{id}   from stock (Go) and shoppers; asks web (Node.js) for the campaign, stock for what is left
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException, Request
from meshlib_fastapi import Caller

import meshlib

FORWARDED = ("traceparent", "tracestate", "x-request-id", "x-canary")
CENTS = 1000
FEW = 5

app = FastAPI(title="Prices")
mesh = meshlib.Mesh.from_env()
client = mesh.async_client(timeout=5)


async def asked(url: str, headers: dict[str, str]) -> dict[str, Any]:
    """What another service says; nothing while it is out of reach: a price does not wait for an advertisement."""
    try:
        response = await client.get(url, headers=headers)
        response.raise_for_status()
    except httpx.HTTPError:
        return {"seen": []}
    found: dict[str, Any] = response.json()
    return found


@app.get("/prices/{number}")
async def price(number: str, request: Request, caller: Caller) -> dict[str, Any]:
    """Ten per cent less during a campaign, twenty more for the last ones."""
    attempt = request.headers.get("x-envoy-attempt-count", "1")
    if request.headers.get("x-drill") == "busy" and attempt == "1":
        raise HTTPException(503, "busy: ask again")
    headers = {name: value for name in FORWARDED if (value := request.headers.get(name)) is not None}
    campaign, level = await asyncio.gather(
        asked("http://web:8080/campaign", headers), asked(f"http://stock:8080/levels/{number}", headers)
    )
    cents = CENTS * (100 - campaign.get("percent", 0)) // 100
    if level.get("left", FEW) < FEW:
        cents += CENTS // 5
    here = {
        "service": "prices",
        "language": "Python",
        "path": request.url.path,
        "caller": str(caller),
        "trace": request.headers.get("traceparent", "--").split("-")[1],
        "attempt": attempt,
    }
    return {"id": number, "cents": cents, "seen": [here, *campaign["seen"], *level["seen"]]}
