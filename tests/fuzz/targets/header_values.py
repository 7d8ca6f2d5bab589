"""Header and metadata values of strangers, in every parser that reads one: a value or nothing, never an exception."""

from __future__ import annotations

import random
from typing import Any

from meshlib.compiler.snapshot import split_authority
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.deadlines import seconds_left
from meshlib.engine.drivers import finish
from meshlib.engine.drivers import run as drive
from meshlib.engine.effects import Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.explain import explain
from meshlib.engine.inbound import CUT, InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.outcome import Outcome
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.policy import deadline
from meshlib.policy.consistent_hash import cookie_value, hash_of
from meshlib.policy.fault import FaultPolicy, by_headers
from meshlib.policy.retry import RetryPolicy, asked_timeouts, merge_request_headers, should_retry
from meshlib.policy.unsigned import UINT32, UINT64, unsigned
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.outcome import ended, failure_of
from meshlib.transport.grpcio.client.request import GrpcRequest
from meshlib.transport.grpcio.metadata import from_raw, to_raw
from meshlib.transport.grpcio.server.served import address
from tests.fuzz.raw_input import RawInput
from tests.support.inbound import admitted
from tests.support.scripted import Bench
from tests.support.strangers import HOST, NUMBERS, READ, reading_everything

HEADER_FAULT = FaultPolicy(delay_share=10**6, abort_share=10**6, header_delay=True, header_abort=True)
PATHS = ("/", "/redirected/a?b", "/answered", "/rewritten/x")
_benches: list[Bench] = []


def bench() -> Bench:
    if not _benches:
        _benches.append(Bench(*reading_everything()))
    return _benches[0]


def run(data: bytes) -> None:
    raw = RawInput(data)
    choice = raw.below(4)
    path = raw.pick(PATHS)
    headers: list[tuple[str, Any]] = []
    while raw.left and len(headers) < 16:
        name = raw.pick(READ) if raw.flag() else raw.text()
        kind = raw.below(4)
        value: Any = raw.pick(NUMBERS) if kind == 0 else raw.wire_text() if kind == 1 else raw.text()
        if kind == 3 and choice != 1:
            value = value.encode("utf-8", "surrogatepass")
        headers.append((name, value))
    if choice == 0:
        values([value if isinstance(value, str) else value.decode("latin-1") for _, value in headers])
    elif choice == 1:
        explained(path, headers)
    elif choice == 2:
        called(tuple(headers))
    else:
        served(headers)


def values(texts: list[str]) -> None:
    """Each parser by itself."""
    for text in texts:
        value(text)


def value(text: str) -> None:
    for most in (UINT32, UINT64):
        number = unsigned(text, most)
        body = text.strip(" \t\n\v\f\r").removeprefix("+").lstrip("0") if number is not None else ""
        assert number is None or ((body or "0") == str(number) and number <= most)
    for header in (deadline.GRPC_TIMEOUT, "x-request-deadline"):
        left = deadline.read(header, text)
        assert left is None or 0 <= left <= deadline.LONGEST
        assert left is None or text.isascii()
    whole, per_try = asked_timeouts(lambda _: text)
    assert whole == per_try
    assert whole is None or 0 <= whole <= 10**8
    asked = merge_request_headers(RetryPolicy(), lambda _: text)
    assert 0 <= asked.attempts <= UINT32
    assert all(0 <= code <= UINT32 for code in asked.retry_on.codes)
    fault = by_headers(HEADER_FAULT, lambda _: text)
    assert 0 <= fault.delay <= 10**8
    assert fault.abort_status == 0 or 200 <= fault.abort_status < 600
    assert 0 <= fault.delay_share <= 10**6
    host, port = split_authority(text)
    assert 0 <= port <= 99_999
    assert len(host) <= len(text)
    assert cookie_value(text, "user") in text
    assert 0 <= hash_of(text) < 2**64
    assert seconds_left({"grpc-timeout": text}, ()) is None or text.strip()[-1:] in "HMSmun"
    assert isinstance(address(text), str)
    failure_of(14, text, True)
    assert ended(14, text, None, None, None, True) is not None
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        return
    should_retry(asked, failure=None, status=503, headers=[(b"grpc-status", raw), (b"x-envoy-ratelimited", raw)])


def explained(path: str, headers: list[tuple[str, str]]) -> None:
    scene = bench()
    assert scene.live is not None
    view = PlainRequest(headers[0][1] if headers else "GET", "http", HOST, path, dict(headers))
    assert explain(scene.live, view, scene.clock.now).to_dict()["host"] == HOST


def called(metadata: tuple[tuple[str, Any], ...]) -> None:
    scene = bench()
    assert scene.live is not None
    method = Method("unary_unary", "/pkg.Svc/Method", None, None)
    request = GrpcRequest(method, b"", "http", HOST, HOST, metadata, 1.0)
    call = Call(request, scene.live, scene.clock, scene.rng, NO_TIMEOUTS)
    call.record = route(scene.live.snapshot, request)
    exchange = exchange_of(call)
    answers = [Outcome(status=503, headers=to_raw(metadata)), Outcome(status=200, whole=b"", headers=to_raw(metadata))]
    runtime = scene.script(*answers, took=0.001)
    drive(exchange, runtime)
    finish(exchange)
    for sent in runtime.sends:
        assert isinstance(sent, Send)
    from_raw(call.request.headers)
    call.request.metadata(2)


def served(headers: list[tuple[str, Any]]) -> None:
    scene = bench()
    assert scene.live is not None
    request = InboundRequest("POST", "/pkg.Svc/Method", headers, protocol="grpc")
    now = scene.clock.monotonic()
    call = InboundCall(request, scene.live.snapshot.inbound.default, scene.clock, random.Random(1), now + 1)
    exchange = inbound(call)
    if admitted(exchange, scene.clock.sleep) is None:
        finish(exchange, CUT)
