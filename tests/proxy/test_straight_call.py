"""A call that goes straight to its application is what a server would make of the same request."""

from __future__ import annotations

import meshlib
from meshlib.engine.inbound import InboundCall
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.request import ProxyRequest
from meshlib.proxy.straight_call import StraightCall


def request() -> ServedRequest:
    lines = b"Host: a\r\n"
    sent = ProxyRequest(b"GET", b"a", b"/", lines, b"\r\n" + lines.lower(), None)
    return ServedRequest(sent, "10.0.0.7:4711", "10.0.0.1", 9080, "", False)


def test_it_is_what_a_server_would_make_of_the_same_request() -> None:
    with meshlib.Mesh.from_resources([], seed=1, access_log="stdout") as mesh:
        server, asked = mesh._server(), request()
        bound = mesh._core.live.inbound.default  # type: ignore[union-attr]
        made, usual = StraightCall(asked, bound, server), server.call(asked)
        for name in vars(InboundCall):
            if not name.startswith("_") and not callable(getattr(usual, name)) and name != "started":
                assert getattr(made, name) == getattr(usual, name), name
        for name in vars(usual):
            assert getattr(made, name) == getattr(usual, name), name
        assert made.tells
        assert made.started > 0.0 == usual.started
