"""A service of FastAPI."""

from __future__ import annotations

from typing import assert_type

import httpx
from fastapi import APIRouter, FastAPI
from meshlib_fastapi import Caller, Claims, MeshClient, MeshExtension, Principal, limit, requires

import meshlib

app = FastAPI(dependencies=[requires(namespace="shop")])
mesh = meshlib.Mesh.from_env()
MeshExtension(app, mesh)
router = APIRouter(dependencies=[limit("100/second", key="all")])
outer = meshlib.MeshASGIMiddleware(app, mesh, port=8080)


@app.get("/orders", dependencies=[requires(principal=["cluster.local/ns/shop/sa/web"]), limit("10/second")])
async def orders(caller: Caller, claims: Claims, client: MeshClient) -> dict[str, str]:
    assert_type(caller, Principal)
    assert_type(caller.namespace, str)
    assert_type(client, httpx.AsyncClient)
    response = await client.get("http://reviews:9080/")
    return {"caller": caller, "subject": str(claims.get("sub")), "reviews": response.text}
