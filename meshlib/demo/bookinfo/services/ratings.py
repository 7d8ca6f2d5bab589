"""ratings: stars per reviewer. Calls nobody; can be told to fail."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from meshlib.demo.bookinfo.services.failing import FailingSwitch

STARS = {"Reviewer1": 5, "Reviewer2": 4}


def create_app(*, version: str = "v1", pod: str = "ratings-v1") -> FastAPI:
    """The service's ASGI application."""
    app = FastAPI(title="ratings", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(FailingSwitch)

    @app.get("/ratings/{product_id}")
    async def ratings(product_id: int) -> dict[str, Any]:
        return {"id": product_id, "ratings": STARS, "version": version, "pod": pod}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ratings is healthy", "pod": pod}

    return app
