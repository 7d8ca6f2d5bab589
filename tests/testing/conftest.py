"""The fixtures of users' tests, for a checkout that was installed before it had them."""

from __future__ import annotations

import pytest

from meshlib.testing.plugin import MARKER
from meshlib.testing.plugin import chaos as chaos
from meshlib.testing.plugin import fake_clock as fake_clock
from meshlib.testing.plugin import mesh as mesh
from meshlib.testing.plugin import mesh_caller as mesh_caller
from meshlib.testing.plugin import mesh_mocks as mesh_mocks
from meshlib.testing.plugin import mesh_seed as mesh_seed
from meshlib.testing.plugin import upstreams as upstreams


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
