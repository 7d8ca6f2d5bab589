"""reviews: v1 has no stars; v2 (black) and v3 (red) ask ratings for them, through the mesh.

Patience with ratings is Istio's: 10 s in v2, 2.5 s in v3. v2's 10 s against productpage's 3 s is the bug that the
7-second-delay scenario finds.
"""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI, Request

from meshlib.demo.bookinfo.services.failing import FailingSwitch
from meshlib.demo.bookinfo.services.headers import forwarded
from meshlib.demo.bookinfo.services.hop import call

STAR_COLOR = {"v1": "", "v2": "black", "v3": "red"}
RATINGS_TIMEOUT = {"v2": 10.0, "v3": 2.5}
RATINGS_URL = "http://ratings:9080/ratings/{}"
RATINGS_LOST = "Ratings service is currently unavailable"

TEXTS = {
    "Reviewer1": (
        "Two pairs of twins, one small town and not a single straight answer: a farce that runs like clockwork, and"
        " is over before you stop laughing."
    ),
    "Reviewer2": (
        "Great fun on stage, slighter on paper. Read it aloud, keep track of the gold chain, and forgive the author:"
        " he was young and had Plautus on the desk."
    ),
}


def create_app(client: httpx.AsyncClient, *, version: str = "v1", pod: str = "reviews-v1") -> FastAPI:
    """The service's ASGI application; ``client`` reaches ``http://ratings:9080``."""
    app = FastAPI(title="reviews", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(FailingSwitch)
    color = STAR_COLOR[version]

    @app.get("/reviews/{product_id}")
    async def reviews(product_id: int, request: Request) -> dict[str, Any]:
        found: dict[str, Any] = {"id": str(product_id), "version": version, "podname": pod}
        if not color:
            return {**found, "reviews": [{"reviewer": who, "text": text} for who, text in TEXTS.items()]}
        url = RATINGS_URL.format(product_id)
        answer, hop = await call(client, url, forwarded(request.headers), RATINGS_TIMEOUT[version])
        stars = (answer or {}).get("ratings", {})
        return {
            **found,
            "reviews": [
                {"reviewer": who, "text": text, "rating": _rating(stars.get(who), color)} for who, text in TEXTS.items()
            ],
            "mesh": hop.to_dict(),
        }

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "reviews is healthy", "pod": pod}

    return app


def _rating(stars: int | None, color: str) -> dict[str, Any]:
    return {"error": RATINGS_LOST} if stars is None else {"stars": stars, "color": color}
