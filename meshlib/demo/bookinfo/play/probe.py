"""Requests to productpage, and what one visitor would have seen, as a few countable words."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

API = "/api/v1/products/0"
"""Of productpage, as its visitor reaches it: ``Application.visitor``."""
PATIENCE = 30.0
UNAVAILABLE = "unavailable"
NO_PAGE = "no page"
ANYONE = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: the words for details and reviews, how long reviews took, and productpage's calls to reviews."""

    details: str
    reviews: str
    seconds: float
    calls: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class Seen:
    """Many looks of one user."""

    user: str
    details: Counter[str] = field(default_factory=Counter)
    reviews: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    sights: list[Sight] = field(default_factory=list)

    def add(self, sight: Sight) -> None:
        self.sights.append(sight)
        self.details[sight.details] += 1
        self.reviews[sight.reviews] += 1
        self.slowest = max(self.slowest, sight.seconds)
        for call in sight.calls:
            self.flags.update(f for f in str(call.get("flags") or "").split(",") if f)


async def look(client: httpx.AsyncClient, user: str, n: int, width: int = 8) -> Seen:
    """``n`` looks by ``user``, ``width`` at a time."""
    seen = Seen(user)
    gate = asyncio.Semaphore(width)

    async def one() -> None:
        async with gate:
            seen.add(await look_once(client, user))

    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            group.create_task(one())
    return seen


async def look_once(client: httpx.AsyncClient, user: str) -> Sight:
    """Ask for details and reviews at once, as the page does."""
    headers = {"end-user": user} if user else {}
    started = time.monotonic()
    details, reviews = await asyncio.gather(
        client.get(API, headers=headers, timeout=PATIENCE),
        client.get(f"{API}/reviews", headers=headers, timeout=PATIENCE),
    )
    body = _body(reviews)
    return Sight(
        details_word(details.status_code, _body(details)),
        reviews_word(reviews.status_code, body),
        time.monotonic() - started,
        tuple(body.get("calls", ())),
    )


def details_word(status: int, body: dict[str, Any]) -> str:
    """``v1``; ``unavailable`` when productpage got no details (``unavailable (555)`` when that was the answer's status);
    ``no page`` when productpage itself did not answer."""
    word = _word(status, body)
    answered = body["calls"][-1]["status"] if word == UNAVAILABLE else 0
    return f"{word} ({answered})" if answered else word


def reviews_word(status: int, body: dict[str, Any]) -> str:
    """``v1``, ``v2``, ``v3``, ``v2 without ratings``, ``unavailable``, ``no page``."""
    word = _word(status, body)
    lost = any("error" in (review.get("rating") or {}) for review in body.get("reviews", ()))
    return f"{word} without ratings" if lost else word


def _word(status: int, body: dict[str, Any]) -> str:
    if status == 200 and "version" in body:
        return str(body["version"])
    return UNAVAILABLE if body.get("calls") else NO_PAGE


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}  # a local reply of the mesh is text: productpage itself was not reached
    return found if isinstance(found, dict) else {}
