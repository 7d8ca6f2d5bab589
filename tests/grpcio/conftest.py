"""What the tests of gRPC share."""

from __future__ import annotations

import pytest

from tests.support.grpc_worlds import WORLDS


@pytest.fixture(params=WORLDS, ids=lambda w: w.name)
def world_class(request):
    """Threads, futures and asyncio, one after the other."""
    return request.param
