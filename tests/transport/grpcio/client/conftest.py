"""What the tests of gRPC share."""

from __future__ import annotations

import pytest

from tests.support.grpc_runtimes import RUNTIMES


@pytest.fixture(params=RUNTIMES, ids=lambda w: w.name)
def runtime_class(request):
    """Threads, futures and asyncio, one after the other."""
    return request.param
