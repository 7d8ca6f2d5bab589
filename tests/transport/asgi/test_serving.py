"""What HTTP requests and WebSockets have in common: each ends once, and is recorded then."""

from __future__ import annotations

import pytest

from meshlib.engine.effects import Ended
from meshlib.engine.inbound import inbound
from meshlib.transport.asgi.serving import Serving
from tests.support.asgi import Served, http_scope, request_of


@pytest.fixture
def served():
    made = Served()
    yield made
    made.mesh.close()


def serving(served):
    server, scope = served.mesh._server(), http_scope("/a?b")
    call = server.call(request_of(scope, None))
    exchange = inbound(call)
    span = server.telemetry.began(call)
    next(exchange)
    return Serving(call, exchange, server.telemetry, span, scope, None, None)


def test_the_first_end_counts(served):
    made = serving(served)
    made.end(Ended(201))
    made.end(Ended(500))
    made.drop()
    made.raised(ValueError())
    assert served.counted() == [("201", "-")]
    assert served.sample("istio_request_bytes_sum") == len("GET/a?bhostshop.test")


def test_a_client_that_has_gone_is_what_counts(served):
    made = serving(served)
    made.gone = True
    made.end(Ended(200))
    assert served.counted() == [("0", "DC")]


def test_one_that_is_dropped_is_noted_and_recorded_later(served):
    made = serving(served)
    made.raised(GeneratorExit())
    assert len(served.mesh._telemetry_of_servers()._closed) == 1
    assert served.counted() == [("0", "DC")]


@pytest.mark.parametrize(
    ("error", "sent", "wanted"),
    [
        (ValueError(), 0, ("500", "-")),
        (ValueError(), 200, ("200", "UC")),
        (KeyboardInterrupt(), 0, ("0", "DC")),
        (SystemExit(), 204, ("204", "DC")),
    ],
)
def test_an_application_that_raises_has_broken_its_response_and_a_task_that_is_ended_has_lost_its_client(
    served, error, sent, wanted
):
    made = serving(served)
    made.call.responding(sent)
    made.raised(error)
    assert served.counted() == [wanted]
