"""Thousands of requests that servers and clients drop wherever they are: no slot, context or call is left, each is counted.
Five thousand; twenty thousand with MESHLIB_FAULTS=1."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from typing import Any

import meshlib
from meshlib.engine import deadlines, inbound_context
from meshlib.engine.inbound import InboundCall
from meshlib.transport.wsgi.response import serving
from tests.support.wsgi import environ, watched

REQUESTS = 20_000 if os.environ.get("MESHLIB_FAULTS") else 5_000
PROTECTED = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "server", "namespace": "default"},
    "spec": {"inbound": {"maxConcurrent": 3}},
}


def application(told: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    if told["PATH_INFO"] == "/raise":
        raise ValueError("as asked")
    yield b"a"
    if told["PATH_INFO"] == "/raise-later":
        raise ValueError("as asked")
    yield b"b"


def calls() -> int:
    gc.collect()
    return sum(type(made) is InboundCall for made in gc.get_objects())


def drop(app: Any, rng: random.Random) -> None:
    target = rng.choice(("/", "/raise", "/raise-later"))
    pieces: Any = app(environ(target), lambda _status, _headers, _error=None: lambda _piece: None)
    try:
        for _ in range(rng.randrange(4)):
            next(iter(pieces), None)
    except ValueError:
        pass
    if rng.random() < 0.5:
        pieces.close()


def test_nothing_is_left_of_requests_that_are_dropped() -> None:
    before = calls()  # of tests that have run here
    rng = random.Random(13)
    with watched(PROTECTED) as served:
        app = meshlib.MeshWSGIMiddleware(application, served.mesh)
        for _ in range(REQUESTS):
            drop(app, rng)
        counted = served.counted()
        assert sum(counted.values()) == REQUESTS
        # with three slots a single one that is kept would soon have refused everybody
        assert {status for status, _ in counted} == {"0", "200", "500"}
        live = served.mesh._core.live
        assert live is not None
        admission = live.inbound.default.admission
        assert admission is not None
        assert admission.active.count == 0
    assert (inbound_context.current.get(), deadlines.current.get(), serving.get()) == (None, None, None)
    assert calls() <= before
