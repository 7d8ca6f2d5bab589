"""Fixtures for pytest. It finds them by itself where meshlib is installed; what a fixture needs is loaded when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def mesh_caller() -> Callable[..., Any]:
    """``meshlib.testing.as_caller``: ``mesh_caller(app, principal=..., claims=..., source_ip=...)`` is the application as that
    caller calls it."""
    from meshlib.testing import as_caller

    return as_caller
