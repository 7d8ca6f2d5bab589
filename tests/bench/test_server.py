"""Servers that are measured: what they need is named, and the middleware is on only where it is asked for.

That they respond, alone and behind proxies, is in test_scene.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import meshlib
from meshlib.bench import resources, server


@pytest.mark.parametrize(
    ("kind", "without", "named"),
    [
        ("fastapi", ("uvicorn",), "uvicorn"),
        ("fastapi", ("fastapi", "uvicorn"), "fastapi and uvicorn"),
        ("flask", ("flask",), "flask"),
        ("flask", ("gunicorn", "waitress"), "gunicorn (or waitress)"),
        ("flask", ("gunicorn",), ""),
    ],
)
def test_what_is_not_installed_is_named(
    kind: str, without: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in without else object())
    assert server.missing(kind) == named


@pytest.mark.parametrize("mesh", [False, True])
def test_the_middleware_is_around_the_application_where_it_is_asked_for(tmp_path: Path, mesh: bool) -> None:
    file = tmp_path / "resources.json"
    file.write_text(json.dumps(resources.admitting(1)))
    spec = {"mesh": mesh, "sizes": [0], "resources": str(file)}
    assert isinstance(server.fastapi_application(spec), meshlib.MeshASGIMiddleware) is mesh
    assert isinstance(server.flask_application(spec), meshlib.MeshWSGIMiddleware) is mesh
