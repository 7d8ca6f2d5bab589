"""Whom responses go to: each of them hears all that may be said."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from meshlib.proxy.http1_downstream import Http1Downstream
from meshlib.proxy.inbound_serving import Serving
from meshlib.proxy.responder import Responder, Streaming, mesh_closed

HEARD = [name for name in vars(Responder) if not name.startswith("_")]


@pytest.mark.parametrize("name", HEARD)
def test_a_response_may_go_to_a_client_or_to_a_request_that_is_served(name):
    assert hasattr(Http1Downstream(Mock()), name)
    assert hasattr(Serving, name)


def test_where_the_mesh_is_closed_that_is_what_is_said():
    said = []

    class Client:
        def respond(self, status, reason, headers, whole, trailers):
            said.append((status, trailers))

    mesh_closed(Client())  # type: ignore[arg-type]
    assert said == [(503, None)]


def test_a_body_gives_up_its_connection_once():
    left = []
    body = Streaming(lambda: left.append(1))
    body.abort()
    body.abort()
    assert left == [1]
