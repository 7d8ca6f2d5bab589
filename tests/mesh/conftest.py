"""Two servers, and both runtimes: for the files that have no others."""

from __future__ import annotations

import pytest

from tests.support.servers import EchoServer


@pytest.fixture
def servers():
    with EchoServer("v1") as one, EchoServer("v2") as two:
        yield one, two


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param
