"""A Flask service that protects itself by Istio's AuthorizationPolicies.

gunicorn orders:app --certfile cert.pem --keyfile key.pem --ca-certs bundle.pem --cert-reqs 2
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask
from meshlib_flask import Mesh, current_caller, limit, requires

import meshlib

orders = Blueprint("orders", __name__, url_prefix="/orders")


@orders.get("/<int:number>")
@limit("5/minute")
def read(number: int) -> dict[str, object]:
    return {"order": number, "for": str(current_caller)}


@orders.delete("/<int:number>")
@requires(namespace="shop")
def delete(number: int) -> tuple[str, int]:
    return "", 204


def create_app() -> Flask:
    app = Flask(__name__)
    app.register_blueprint(orders)
    app.register_error_handler(403, lambda error: ({"error": error.description}, 403))
    Mesh(app, meshlib.Mesh.from_path(Path(__file__).with_name("mesh.yaml")))
    return app


app = create_app()
