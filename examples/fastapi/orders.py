"""Orders: a service that protects itself with Istio's resources. See README.md."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from meshlib_fastapi import Caller, MeshExtension, limit, requires

import meshlib

ADMIN = "cluster.local/ns/shop/sa/admin"

app = FastAPI(title="Orders")
mesh = meshlib.Mesh.from_path(
    Path(__file__).with_name("mesh"), workload=meshlib.Workload(name="orders", namespace="shop")
)
MeshExtension(app, mesh, health_path="/healthz")

ORDERS = {0: "a secret", 7: "seven apples", 8: "eight nuts"}


@app.get("/about")
async def about(caller: Caller) -> dict[str, str]:
    """Everybody may ask."""
    return {"service": "orders", "you are": caller or "nobody known"}


@app.get("/orders", dependencies=[limit("100/minute")])
async def orders() -> list[int]:
    """The numbers of the orders."""
    return list(ORDERS)


@app.get("/orders/{order:int}")
async def order(order: int) -> dict[str, str]:
    """One of them. ``/orders/00`` is order 0, too, and refused like it."""
    return {"order": ORDERS.get(order, "none")}


@app.delete("/orders/{order}", dependencies=[requires(principal=ADMIN)])
async def delete(order: int) -> dict[str, int]:
    """Only the administrator may."""
    return {"deleted": order}
