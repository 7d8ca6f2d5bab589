"""A server that is measured: FastAPI under uvicorn, or Flask under gunicorn (or waitress), bare or with meshlib's middleware.

``python -m meshlib.bench.server '{"kind": "fastapi", "mesh": true, "port": PORT, "resources": FILE}'``
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

FASTAPI, FLASK = "fastapi", "flask"
THREADS = 8
KEPT_SECONDS = 3600
"""Idle connections: they have to outlast the turns of the others."""


def missing(kind: str) -> str:
    """What is not installed that a kind needs, "" when all is."""
    there = importlib.util.find_spec
    if kind == FASTAPI:
        return " and ".join(name for name in ("fastapi", "uvicorn") if there(name) is None)
    if there("flask") is None:
        return "flask"
    return "" if there("gunicorn") or there("waitress") else "gunicorn (or waitress)"


def _mesh(spec: dict[str, Any]) -> Any:
    import meshlib

    return meshlib.Mesh.from_resources(json.loads(Path(spec["resources"]).read_text()))


def fastapi_application(spec: dict[str, Any]) -> Any:
    """Responds to /size/N with N bytes."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()
    bodies = {size: b"x" * size for size in spec["sizes"]}

    @app.get("/size/{size}")
    async def of_size(size: int) -> PlainTextResponse:
        return PlainTextResponse(bodies[size])

    if not spec["mesh"]:
        return app
    from meshlib import MeshASGIMiddleware

    return MeshASGIMiddleware(app, _mesh(spec))


def flask_application(spec: dict[str, Any]) -> Any:
    """The same."""
    from flask import Flask, Response

    app = Flask("measured")
    bodies = {size: b"x" * size for size in spec["sizes"]}

    @app.get("/size/<int:size>")
    def of_size(size: int) -> Response:
        return Response(bodies[size], mimetype="text/plain")

    if not spec["mesh"]:
        return app
    from meshlib import MeshWSGIMiddleware

    return MeshWSGIMiddleware(app, _mesh(spec))


def _serve_fastapi(spec: dict[str, Any]) -> None:
    import uvicorn

    uvicorn.run(
        fastapi_application(spec),
        host="127.0.0.1",
        port=spec["port"],
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        timeout_keep_alive=KEPT_SECONDS,
        server_header=False,
    )


def _serve_flask(spec: dict[str, Any]) -> None:
    if importlib.util.find_spec("gunicorn") is None:
        waitress: Any = importlib.import_module("waitress")
        waitress.serve(
            flask_application(spec),
            host="127.0.0.1",
            port=spec["port"],
            threads=THREADS,
            connection_limit=1000,
            channel_timeout=KEPT_SECONDS,
        )
        return
    base: Any = importlib.import_module("gunicorn.app.base")

    class Application(base.BaseApplication):  # type: ignore[misc]
        """Made in the worker, as gunicorn does without --preload."""

        def load_config(self) -> None:
            settings = {
                "bind": f"127.0.0.1:{spec['port']}", "workers": 1, "worker_class": "gthread", "threads": THREADS,
                "keepalive": KEPT_SECONDS, "loglevel": "warning", "worker_connections": 1000,
            }  # fmt: skip
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return flask_application(spec)

    Application().run()


def main(spec: dict[str, Any]) -> None:
    """Until it is ended."""
    (_serve_fastapi if spec["kind"] == FASTAPI else _serve_flask)(spec)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
