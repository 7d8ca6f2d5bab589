"""The tests of such an application."""

from __future__ import annotations

from typing import assert_type

from fastapi import FastAPI
from flask import Flask

from meshlib.testing import AsCaller, as_caller, through_mocks


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
