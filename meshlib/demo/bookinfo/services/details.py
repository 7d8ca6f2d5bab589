"""details: facts about the book. Calls nobody."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

BOOK = {
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "PublisherA",
    "language": "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
}


def create_app(*, version: str = "v1", pod: str = "details-v1") -> FastAPI:
    """The service's ASGI application."""
    app = FastAPI(title="details", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/details/{product_id}")
    async def details(product_id: int) -> dict[str, Any]:
        return {"id": product_id, **BOOK, "version": version, "pod": pod}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "details is healthy", "pod": pod}

    return app
