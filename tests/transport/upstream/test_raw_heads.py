"""Requests with a raw head, on connections of both runtimes and both protocols."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server
from tests.support.strict_server import StrictServer

LINES = b"Host: reviews:9080\r\nX-Odd:value\r\n"


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request):
    made = request.param()
    yield made
    made.close()


def test_over_http1_no_list_is_made(runtime):
    with StrictServer() as server:
        target = Target("127.0.0.1", server.port)
        for body in (None, b"abc"):
            head = RawHead(LINES + (b"" if body is None else b"Content-Length: 3\r\n"))
            outcome = runtime.call(target, Call(b"/raw", b"POST", head, body)).outcome
            assert outcome.status == 200
            assert head._pairs is None
        assert server.whole == [b"/raw", b"/raw"]


def test_over_http2_it_is_a_list_like_any_other(runtime):
    with H2Server() as server:
        outcome = runtime.call(
            Target("127.0.0.1", server.port, http2=True), Call(b"/raw", headers=RawHead(LINES))
        ).outcome
        assert outcome.status == 200
