"""Attempts that begin when their time is up: a slot or a pause may have taken all of it."""

from __future__ import annotations

import ssl

import pytest
import trustme

from meshlib.engine.outcome import Failure
from meshlib.transport.upstream.target import Target
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture(params=["HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2"])
def target(request):
    if request.param == "HTTP/2":
        with H2Server() as server:
            yield Target("127.0.0.1", server.port, http2=True)
        return
    context, trusted = None, None
    if "TLS" in request.param:
        authority = trustme.CA()
        context, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("reviews.test").configure_cert(context)
        authority.configure_trust(trusted)
    with EvilServer([OK], tls=context) as server:
        yield Target("127.0.0.1", server.port, tls=trusted, server_hostname="reviews.test" if trusted else "")


@pytest.mark.parametrize("left", [0.0, -0.001])
@pytest.mark.parametrize(("limit", "failure"), [("head", Failure.TIMEOUT), ("connect", Failure.CONNECT_TIMEOUT)])
def test_no_connection_is_made(runtime, target, limit, failure, left):
    assert runtime.call(target, Call(limits={limit: left})).outcome.failure is failure


@pytest.mark.parametrize("left", [0.0, -0.001])
def test_a_kept_connection_is_not_waited_for(runtime, target, left):
    assert runtime.call(target, Call()).outcome.failure is None
    assert runtime.call(target, Call(limits={"head": left})).outcome.failure in (None, Failure.TIMEOUT)
