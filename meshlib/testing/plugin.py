"""Fixtures for pytest. It finds them by itself where meshlib is installed; what a fixture needs is loaded when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meshlib.testing.callers import AsCaller


@pytest.fixture
def mesh_caller() -> AsCaller:
    """``meshlib.testing.as_caller``: ``mesh_caller(app, principal=..., claims=..., source_ip=...)`` wraps the application so
    that a test client calls it as that caller."""
    from meshlib.testing import as_caller

    return as_caller


@pytest.fixture
def mesh_mocks() -> Iterator[None]:
    """Make respx, pytest-httpx, vcrpy and similar libraries work with every mesh: calls go through httpx's own transports,
    which they patch, with the URL that the caller wrote (``meshlib.testing.through_mocks``). Request it in a test, or for a
    whole suite::

        @pytest.fixture(autouse=True)
        def _mocks(mesh_mocks): ...
    """
    from meshlib.testing.mocks import through_mocks

    with through_mocks():
        yield
