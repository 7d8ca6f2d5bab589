"""A response may be a raw head: its list of headers is made when somebody goes through it, and not before."""

from __future__ import annotations

import pytest

from meshlib.engine.outcome import Outcome
from meshlib.transport.protocol.raw_head import RawHead
from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

LINES = b"content-type: text/plain\r\nX-Odd: a\r\nx-odd: b\r\ncontent-length: 0\r\n"
PAIRS = [(b"content-type", b"text/plain"), (b"X-Odd", b"a"), (b"x-odd", b"b"), (b"content-length", b"0")]


def bench(**rule) -> Bench:
    return Bench(
        service("reviews", 9080),
        pod("reviews", "v1", 9080),
        virtual_service("reviews", {"route": [to("reviews")], **rule}),
    )


def response(status: int = 200, lines: bytes = LINES) -> Outcome:
    made = Outcome(status=status, whole=b"")
    made.headers = RawHead(lines)
    return made


def unmade(outcome: Outcome) -> bool:
    assert isinstance(outcome.headers, RawHead)
    return outcome.headers._pairs is None


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    "retries", [None, {"attempts": 2, "retryOn": "5xx,envoy-ratelimited,unavailable,retriable-4xx"}]
)
def test_policies_look_for_what_they_need_without_making_the_list(status, retries):
    made = bench(**({"retries": retries} if retries else {}))
    outcome, call = made.call(made.script(response(status)))
    assert outcome.status == status
    assert unmade(outcome)
    assert list(outcome.headers) == PAIRS
    assert len(call.record.attempts) == (3 if retries and status == 500 else 1)


@pytest.mark.parametrize(
    ("retry_on", "lines", "attempts"),
    [
        ("unavailable", b"Grpc-Status: 14\r\n", 2),
        ("unavailable", b"grpc-status: 13\r\n", 1),
        ("unavailable", b"x-grpc-status: 14\r\n", 1),
        ("5xx", b"x-envoy-ratelimited: true\r\n", 1),
        ("5xx,envoy-ratelimited", b"X-Envoy-Ratelimited: true\r\n", 2),
    ],
)
def test_retries_are_decided_by_a_raw_head_as_by_a_list(retry_on, lines, attempts):
    status = 200 if "unavailable" in retry_on else 503
    made = bench(retries={"attempts": 1, "retryOn": retry_on})
    pairs = [tuple(line.split(b": ")) for line in lines.split(b"\r\n")[:-1]]
    for head in (response(status, lines), Outcome(status=status, whole=b"", headers=pairs)):
        outcome, call = made.call(made.script(head))
        assert len(call.record.attempts) == attempts
        if outcome.headers is not pairs:
            assert unmade(outcome)


def test_header_operations_make_the_list_and_leave_the_head_as_it_came():
    made = bench(headers={"response": {"remove": ["x-odd"], "add": {"x-new": "1"}}})
    head = response()
    raw = head.headers
    outcome, _ = made.call(made.script(head))
    assert outcome.headers == [PAIRS[0], PAIRS[3], (b"x-new", b"1")]
    assert raw.lines == LINES
