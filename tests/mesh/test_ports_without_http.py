"""Calls to ports that are not HTTP, against real servers: they reach their service by no http rule."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.mesh.test_http_client import Caller
from tests.support.mesh_decisions import answering, entry
from tests.support.servers import EchoServer


def db(endpoint: int, **spec: Any) -> list[dict[str, Any]]:
    port = {"number": 5432, "name": "tcp", "protocol": "TCP"}
    where = {"resolution": "STATIC", "endpoints": [{"address": "127.0.0.1", "ports": {"tcp": endpoint}}]}
    return [entry("db.test", port, addresses=["240.0.0.7"], **where, **spec), answering("v", "db.test")]


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param


def test_the_service_answers_whatever_host_says(runtime):
    with EchoServer("db") as server, meshlib.Mesh.from_resources(db(server.port)) as mesh:
        caller = Caller(runtime, mesh)
        for host in ("db.test:5432", "other.test"):
            response = caller.get("http://db.test:5432/x", headers={"Host": host})
            assert response.status_code == 200
            assert response.json()["headers"]["host"] == host
            assert response.extensions["mesh"].host == "db.test"
            assert "http rules do not act" in response.extensions["mesh"].to_dict()["note"]


def test_what_cannot_be_connected_to_is_not_tried_again(runtime):
    with meshlib.Mesh.from_resources(db(free_port())) as mesh:
        with pytest.raises(httpx.ConnectError) as caught:
            Caller(runtime, mesh).get("http://db.test:5432/")
        assert len(caught.value.exchange.attempts) == 1


def test_grpc_reads_the_same_table():
    with meshlib.Mesh.from_resources(db(1)) as mesh:
        assert "http rules do not act" in str(mesh.explain(url="grpc://db.test:5432/shop.Ratings/Get"))
