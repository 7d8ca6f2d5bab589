"""A refusal, as a WSGI server sends it."""

from __future__ import annotations

import random

import pytest

from meshlib.compiler.inbound import NOTHING
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from meshlib.transport.wsgi.refusals import refused, status_line
from tests.support.fake_clock import FakeClock
from tests.support.wsgi import Answered


@pytest.mark.parametrize(
    ("status", "line"),
    [(403, "403 Forbidden"), (429, "429 Too Many Requests"), (499, "499 Unknown"), (599, "599 Unknown")],
)
def test_a_status_has_its_phrase(status: int, line: str) -> None:
    assert status_line(status) == line


@pytest.mark.parametrize(("method", "body"), [("GET", [b"no"]), ("HEAD", [])])
def test_headers_of_the_refusal_and_of_the_checks_before_it_are_the_callers(method: str, body: list[bytes]) -> None:
    call = InboundCall(InboundRequest(method, "/"), NOTHING, FakeClock(), random.Random(1))
    call.request.for_caller.append((b"x-limit", b"0"))
    answered = Answered()
    pieces = refused(
        call, Refusal(429, "no", headers=((b"retry-after", b"1"),), detail="ours"), answered.start_response
    )
    assert list(pieces) == body
    assert answered.begun == [
        (
            "429 Too Many Requests",
            [("retry-after", "1"), ("content-type", "text/plain"), ("content-length", "2"), ("x-limit", "0")],
            False,
        )
    ]
    assert (call.sent, call.response_bytes) == (429, sum(map(len, body)))


def test_without_a_body_there_is_no_type() -> None:
    call = InboundCall(InboundRequest("GET", "/"), NOTHING, FakeClock(), random.Random(1))
    answered = Answered()
    assert list(refused(call, Refusal(503), answered.start_response)) == []
    assert answered.headers == [("content-length", "0")]
