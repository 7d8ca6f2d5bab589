"""productpage: the HTML page and its JSON API. Calls details and reviews (and, for the API, ratings) through the mesh.

Patience is Istio's: 3 s for each call, and reviews is asked a second time when the first call fails.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from meshlib.demo.bookinfo.services.headers import forwarded
from meshlib.demo.bookinfo.services.hop import Hop, call
from meshlib.demo.bookinfo.services.page import PageData, render

TIMEOUT = 3.0
REVIEWS_TRIES = 2
DETAILS_URL = "http://details:9080/details/{}"
REVIEWS_URL = "http://reviews:9080/reviews/{}"
RATINGS_URL = "http://ratings:9080/ratings/{}"
COOKIE = "bookinfo-user"
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")  # what may become a header's value
_LOGIN_BODY_LIMIT = 4096

PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "description": (
        "A merchant from Syracuse must find a thousand marks by sunset or lose his head. In the same town walk two "
        "pairs of twins who have never met, and a goldsmith who would very much like to be paid. Shakespeare's "
        "shortest play: one day, one place, and every message delivered to the wrong address."
    ),
}

Answer = tuple[dict[str, Any] | None, list[Hop]]


def signed_in(request: Request) -> str:
    """The signed-in user (cookie), or the ``end-user`` header of a caller such as curl, or ""."""
    name = request.cookies.get(COOKIE) or request.headers.get("end-user", "")
    return name if _USER.fullmatch(name) else ""


def create_app(client: httpx.AsyncClient, *, version: str = "v1", pod: str = "productpage-v1") -> FastAPI:
    """The service's ASGI application; ``client`` reaches details, reviews and ratings by their names."""
    app = FastAPI(title="productpage", docs_url=None, redoc_url=None, openapi_url=None)

    async def details_of(product_id: int, headers: dict[str, str]) -> Answer:
        answer, hop = await call(client, DETAILS_URL.format(product_id), headers, TIMEOUT)
        return answer, [hop]

    async def reviews_of(product_id: int, headers: dict[str, str]) -> Answer:
        hops: list[Hop] = []
        for _ in range(REVIEWS_TRIES):
            answer, hop = await call(client, REVIEWS_URL.format(product_id), headers, TIMEOUT)
            hops.append(hop)
            if answer is not None:
                return answer, hops
        return None, hops

    @app.get("/productpage")
    async def page(request: Request) -> HTMLResponse:
        user = signed_in(request)
        headers = forwarded(request.headers, user)
        (details, details_hops), (reviews, reviews_hops) = await asyncio.gather(
            details_of(0, headers), reviews_of(0, headers)
        )
        data = PageData(PRODUCT, user, pod, version, details, details_hops, reviews, reviews_hops)
        return HTMLResponse(render(data))

    @app.get("/")
    async def front() -> RedirectResponse:
        return RedirectResponse("/productpage", status_code=302)

    @app.post("/login")
    async def login(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LOGIN_BODY_LIMIT:
                return JSONResponse({"error": "the form is too large"}, status_code=413)
        name = parse_qs(body.decode("utf-8", "replace")).get("username", [""])[0].strip()
        if not _USER.fullmatch(name):
            problem = "a user name is 1 to 40 letters, digits, dots, dashes, underscores or @"
            return JSONResponse({"error": problem}, status_code=400)
        answer = RedirectResponse("/productpage", status_code=303)
        answer.set_cookie(COOKIE, name, httponly=True, samesite="lax")
        return answer

    @app.api_route("/logout", methods=["GET", "POST"])
    async def logout() -> RedirectResponse:
        answer = RedirectResponse("/productpage", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    @app.get("/api/v1/products")
    async def products() -> list[dict[str, Any]]:
        return [PRODUCT]

    @app.get("/api/v1/products/{product_id}")
    async def product(product_id: int, request: Request) -> JSONResponse:
        headers = forwarded(request.headers, signed_in(request))
        return _json(
            await details_of(product_id, headers), "Sorry, product details are currently unavailable for this book."
        )

    @app.get("/api/v1/products/{product_id}/reviews")
    async def product_reviews(product_id: int, request: Request) -> JSONResponse:
        headers = forwarded(request.headers, signed_in(request))
        return _json(
            await reviews_of(product_id, headers), "Sorry, product reviews are currently unavailable for this book."
        )

    @app.get("/api/v1/products/{product_id}/ratings")
    async def product_ratings(product_id: int, request: Request) -> JSONResponse:
        headers = forwarded(request.headers, signed_in(request))
        answer, hop = await call(client, RATINGS_URL.format(product_id), headers, TIMEOUT)
        return _json((answer, [hop]), "Sorry, product ratings are currently unavailable for this book.")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "productpage is healthy", "pod": pod}

    return app


def _json(found: Answer, sorry: str) -> JSONResponse:
    """The service's answer with the hops beside it as ``calls``; its own status (500 when there was none) on failure."""
    answer, hops = found
    calls = [hop.to_dict() for hop in hops]
    if answer is not None:
        return JSONResponse({**answer, "calls": calls})
    status = hops[-1].status if hops[-1].status >= 400 else 500
    return JSONResponse({"error": sorry, "calls": calls}, status_code=status)
