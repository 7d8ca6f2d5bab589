"""The tests of such an application."""

from __future__ import annotations

from typing import assert_type

from fastapi import FastAPI
from flask import Flask

from meshlib import Mesh
from meshlib.testing import (
    AsCaller,
    Chaos,
    FakeClock,
    MeshFactory,
    Outage,
    Upstreams,
    as_caller,
    assert_attempts,
    assert_routed_to,
    assert_split,
    through_mocks,
)
from meshlib.testing.strategies import outages


def test_who_may_order(mesh_caller: AsCaller) -> None:
    app = FastAPI()
    assert_type(mesh_caller(app, principal="cluster.local/ns/shop/sa/web"), FastAPI)
    assert_type(as_caller(app, claims={"sub": "jo"}), FastAPI)
    flask = as_caller(Flask(__name__), source_ip="10.0.0.7")
    assert_type(flask, Flask)
    assert flask.test_client().get("/orders").status_code == 403


def test_what_is_mocked(mesh_mocks: None) -> None:
    with through_mocks():
        pass


def test_what_breaks(mesh: MeshFactory, fake_clock: FakeClock, chaos: Chaos, upstreams: Upstreams) -> None:
    reviews = upstreams.http("reviews", "v1").respond(503).respond(json={"stars": 5}, delay=0.5)
    upstreams.grpc("ratings").respond(b"five").stop().start()
    assert_type(reviews.requests[0].body, bytes)
    made = mesh("kind: List", seed=7)
    assert_type(made, Mesh)
    rule = chaos.on("reviews", "v1", nth={1, 3}, rate=0.5).latency(0.1, jitter=0.05)
    assert_type(rule.times, int)
    chaos(7).play([Outage("reviews", kind="reset", start=1.0)])
    with chaos.on("ratings", endpoint="127.0.0.1:1").down(), made.client() as client:
        responses = [client.get("http://reviews/") for _ in range(9)]
    assert_attempts(responses[0], 2)
    assert_routed_to(responses[0], "reviews", "v1")
    assert_split(responses, {"v1": 0.9, "v2": 0.1}, confidence=0.99)
    assert_split({"v1": 9, "v2": 1}, 0.9, 0.1)
    fake_clock.advance(30)
    assert_type(outages(["reviews"]).example(), list[Outage])
