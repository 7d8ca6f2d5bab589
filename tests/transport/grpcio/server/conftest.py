"""What servers in the mesh are tested with: who signs, the ways of writing a handler, a mesh and what it counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.grpc_probe import RUNTIMES
from tests.support.grpc_served import Counted
from tests.support.spiffe import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=RUNTIMES)
def runtime(request) -> str:
    return request.param


@pytest.fixture
def counted() -> Iterator[Counted]:
    made = Counted()
    with made.mesh:
        yield made
