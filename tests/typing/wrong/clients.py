"""Mistakes that a type checker finds. Each line says which."""

from __future__ import annotations

import httpx

import meshlib


def mistakes(mesh: meshlib.Mesh) -> None:
    mesh.client(local_replies="respnd")  # wrong
    mesh.async_client(local_replies=True)  # wrong
    mesh.http_transport(local_replies="Raise")  # wrong
    mesh.client(timeout="5s")  # wrong
    mesh.client(time_out=5.0)  # wrong
    mesh.client(base_url=80)  # wrong
    mesh.client(http1=False)  # wrong
    mesh.client(app=None)  # wrong
    mesh.client(transport=httpx.AsyncHTTPTransport())  # wrong
    mesh.async_client(transport=httpx.HTTPTransport())  # wrong
    mesh.http_transport(httpx.AsyncHTTPTransport())  # wrong
    exchange: meshlib.Exchange = mesh.explain(url="http://reviews:9080/")
    exchange.endpont  # wrong
    meshlib.Mesh.from_path("mesh/", https_rules="sidecar")  # wrong
    meshlib.Mesh.from_path("mesh/", workload="web")  # wrong
    meshlib.Mesh.from_path("mesh/", sed=1)  # wrong
    meshlib.Mesh.from_resources([1, 2])  # wrong
    meshlib.Mash  # wrong
    mesh.explain("http://reviews:9080/")  # wrong
    mesh.grpc_channel(9080)  # wrong
    _: httpx.Client = mesh.async_client()  # wrong
    __: httpx.AsyncBaseTransport = mesh.http_transport()  # wrong
