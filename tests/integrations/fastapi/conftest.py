"""A FastAPI application in the mesh."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from meshlib_fastapi import MeshExtension

from tests.support.asgi import Served
from tests.support.fake_clock import FakeClock


@pytest.fixture
def served():
    made = Served(clock=FakeClock())
    yield made
    made.mesh.close()


@pytest.fixture
def app(served):
    made = FastAPI()
    MeshExtension(made, served.mesh)
    return made
