"""A service of Flask."""

from __future__ import annotations

from typing import assert_type

from flask import Flask
from meshlib_flask import Mesh, current_caller, limit, requires

import meshlib

app = Flask(__name__)
mesh = meshlib.Mesh.from_env()
Mesh(app, mesh)
app.wsgi_app = meshlib.MeshWSGIMiddleware(app.wsgi_app, mesh)  # type: ignore[method-assign]


@app.get("/orders")
@requires(principal="cluster.local/ns/shop/sa/web")
@limit("10/second")
def orders() -> str:
    assert_type(current_caller.service_account, str)
    return f"hello, {current_caller}"
