"""A response on its way: what its head and pieces tell of how it has ended."""

from __future__ import annotations

import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.inbound import NOTHING
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import CUT, InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.telemetry.observe import InboundTelemetry
from meshlib.transport.wsgi.response import BROKEN, Head
from tests.support.fake_clock import FakeClock
from tests.support.wsgi import Answered


def head(method: str = "GET") -> tuple[Head, InboundCall, Answered]:
    call = InboundCall(InboundRequest(method, "/"), NOTHING, FakeClock(), random.Random(1))
    answered = Answered()
    telemetry = InboundTelemetry(CollectorRegistry(), None, meshlib.Workload(), FakeClock().monotonic)
    return Head(call, answered.start_response, None, telemetry, None), call, answered


def test_a_head_has_gone_with_the_first_piece_and_not_before() -> None:
    made, call, _ = head()
    made("200 OK", [])
    assert call.sent == 0
    made.going(b"ab")
    made.going(b"c")
    assert (call.sent, call.response_bytes) == (200, 3)


def test_a_status_that_cannot_be_read_is_its_servers_to_refuse() -> None:
    made, _, answered = head()
    made("nonsense", [])
    assert (made.begun, answered.status) == (0, "nonsense")
    assert made.whole() == Ended(500)


def test_what_the_server_refuses_has_not_begun() -> None:
    made, _, _ = head()
    made("200 OK", [])
    with pytest.raises(AssertionError, match="begun twice"):
        made("404 Not Found", [])
    assert made.begun == 200


@pytest.mark.parametrize(
    ("method", "status", "headers", "gone", "ended"),
    [
        ("GET", "200 OK", [], 0, CUT),
        ("GET", "200 OK", [("Content-Length", "3")], 2, CUT),
        ("GET", "200 OK", [("Content-Length", "3")], 3, Ended(200)),
        ("GET", "200 OK", [("Content-Length", "x")], 3, CUT),
        ("GET", "200 OK", [("Content-Length", "0")], 0, CUT),  # its head has not gone
        ("HEAD", "200 OK", [("Content-Length", "3")], 0, Ended(200)),
        ("HEAD", None, [], 0, CUT),
        ("GET", "304 Not Modified", [], 0, Ended(304)),
    ],
)
def test_a_server_leaves_when_its_client_does_or_when_it_has_all_that_it_needs(
    method: str, status: str | None, headers: Any, gone: int, ended: Ended
) -> None:
    made, _, _ = head(method)
    if status is not None:
        made(status, headers)
    if gone:
        made.going(b"a" * gone)
    assert made.left() == ended


def test_an_application_that_fails_has_sent_what_it_has_sent() -> None:
    made, _, _ = head()
    assert made.failed() == Ended(500)
    made("201 Created", [])
    assert made.failed() == Ended(500)
    made.going(b"a")
    assert made.failed() == Ended(201, None, BROKEN)
