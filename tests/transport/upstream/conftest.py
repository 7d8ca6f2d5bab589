"""Both runtimes over every codec of HTTP/2, and servers for them: for all test_http2_*.py that make calls."""

from __future__ import annotations

import pytest

from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Loop, Threads
from tests.support.h2_server import H2Server, answer_ok
from tests.support.http2_codecs import CODECS, sessions_on


@pytest.fixture(
    params=[(runtime, name) for name in CODECS for runtime in (Threads, Loop)], ids=lambda p: f"{p[0].name}-{p[1]}"
)
def runtime(request):
    kind, library = request.param
    with sessions_on(library):
        made = kind()
        yield made
        made.close()


@pytest.fixture
def serve(runtime):
    """A server and the target to reach it by."""
    servers = []

    def start(answer=answer_ok, target=None, **options):
        server = H2Server(answer, **options).__enter__()
        servers.append(server)
        return server, Target("127.0.0.1", server.port, **{"http2": True, **(target or {})})

    yield start
    runtime.close()
    for server in servers:
        server.__exit__()
