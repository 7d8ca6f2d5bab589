"""One exchange system: a proxy's way of a request, inbound -> Serve -> outbound, on one request object, in every runtime;
checks that ask, wait, and fail."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from meshlib.compiler.inbound import Inbound, InboundPorts
from meshlib.engine.call import Call
from meshlib.engine.check_failures import CheckFailures
from meshlib.engine.drivers import CallbackDriver, finish, run, run_async
from meshlib.engine.effects import Ask, Deliver, Ended, Send, Serve, Wait
from meshlib.engine.exchange import exchange_of
from meshlib.engine.flights import Flights
from meshlib.engine.inbound import InboundCall, inbound
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.policy.refusal import Refusal
from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

RESOURCES = [
    service("reviews"),
    pod("reviews", "v1", 1),
    virtual_service(
        "reviews",
        {
            "route": [to("reviews")],
            "headers": {"request": {"set": {"x-by": "the mesh"}}},
            "retries": {"attempts": 2, "retryOn": "5xx"},
        },
    ),
    service("keys"),
    pod("keys", "v1", 2),
]
NOT_YOU = Refusal(403, "not you")


class Body:
    """A body that comes in pieces, of threads and of tasks alike."""

    def __init__(self, *pieces: bytes, cut: Failure | None = None) -> None:
        self.pieces = pieces
        self.aborted = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    def abort(self) -> None:
        self.aborted = True


class Upstream:
    """Answers by host; what came of each attempt is looked up when it is made."""

    def __init__(self, **responses: Any) -> None:
        self.responses = {host: list(given) for host, given in responses.items()}
        self.sent: list[tuple[str, Any]] = []

    def answer(self, effect: Send[Any]) -> Outcome:
        host = effect.cluster.spec.host.partition(".")[0]
        request = effect.call.request
        self.sent.append((host, request.attempt_headers(effect.attempt)))
        given = self.responses[host]
        made = given.pop(0) if len(given) > 1 else given[0]
        return made if isinstance(made, Outcome) else Outcome(status=made, whole=b"")

    @staticmethod
    def whole(outcome: Outcome, pieces: list[bytes], limit: int) -> Outcome:
        if sum(map(len, pieces)) > limit:
            assert outcome.body is not None
            outcome.body.abort()
            return Outcome(Failure.PROTOCOL_ERROR, "too long")
        outcome.whole, outcome.body = b"".join(pieces), None
        return outcome


class Threads(Upstream):
    def send(self, effect: Send[Any]) -> Outcome:
        return self.answer(effect)

    def sleep(self, _seconds: float) -> None:
        pass

    def read(self, outcome: Outcome, limit: int) -> Outcome:
        return self.whole(outcome, list(outcome.body), limit)  # type: ignore[call-overload]

    def wait(self, effect: Wait) -> bool:
        landed = threading.Event()
        if effect.flight.board(landed.set):
            landed.wait(effect.timeout)
        return effect.flight.landed


class Tasks(Upstream):
    async def send(self, effect: Send[Any]) -> Outcome:
        await asyncio.sleep(0)
        return self.answer(effect)

    async def sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0)

    async def read(self, outcome: Outcome, limit: int) -> Outcome:
        return self.whole(outcome, [piece async for piece in outcome.body], limit)  # type: ignore[union-attr]

    async def wait(self, effect: Wait) -> bool:
        landed = asyncio.Event()
        if effect.flight.board(landed.set):
            await asyncio.wait_for(landed.wait(), effect.timeout)
        return effect.flight.landed


class Callbacks(Upstream):
    """``later`` holds what is to happen when the test says so."""

    def __init__(self, **responses: Any) -> None:
        super().__init__(**responses)
        self.later: list[Callable[[], None]] = []

    def _begin(self, what: Callable[[], None]) -> Callable[[], None]:
        self.later.append(what)
        return lambda: self.later.remove(what) if what in self.later else None

    def send(self, effect: Send[Any], done: Any) -> Callable[[], None]:
        return self._begin(lambda: done(self.answer(effect)))

    def sleep(self, _seconds: float, done: Any) -> Callable[[], None]:
        return self._begin(lambda: done(None))

    def read(self, outcome: Outcome, limit: int, done: Any) -> Callable[[], None]:
        return self._begin(lambda: done(self.whole(outcome, list(outcome.body), limit)))  # type: ignore[call-overload]

    def wait(self, effect: Wait, done: Any) -> Callable[[], None]:
        if not effect.flight.board(lambda: done(True)):
            return self._begin(lambda: done(True))
        return lambda: None

    def turn(self) -> None:
        while self.later:
            self.later.pop(0)()


def drive(kind: type[Upstream], exchange: Any, runtime: Any) -> Any:
    """The last effect of an exchange."""
    if kind is Threads:
        return run(exchange, runtime)
    if kind is Tasks:
        return asyncio.run(run_async(exchange, runtime))
    ends: list[Any] = []
    CallbackDriver(exchange, runtime, ends.append, ends.append).start()
    runtime.turn()
    (end,) = ends
    if isinstance(end, BaseException):
        raise end
    return end


@pytest.fixture(params=[Threads, Tasks, Callbacks], ids=["threads", "asyncio", "callbacks"])
def kind(request: Any) -> Any:
    return request.param


@pytest.fixture
def bench() -> Bench:
    return Bench(*RESOURCES)


def arrived(**more: Any) -> InboundRequest:
    headers = [(b"Host", b"reviews:9080"), (b"X-Trace", b"a\xe9"), (b"x-trace", b"b")]
    return InboundRequest("GET", "/reviews/0", headers, authority="reviews:9080", query="a=1", **more)


def inbound_call(
    bench: Bench, request: InboundRequest, *checks: Any, failures: CheckFailures | None = None
) -> InboundCall:
    call = InboundCall(request, InboundPorts().of(request.port), bench.clock, random.Random(1), None, True, failures)
    call.checks = checks
    return call


def outbound_call(bench: Bench, request: Any) -> Call[Any]:
    assert bench.live is not None
    call = Call(request, bench.live, bench.clock, bench.rng)
    call.record = route(bench.live.snapshot, request)
    return call


def asks(bench: Bench, path: str = "/keys", limit: int = 1000) -> Ask[PlainRequest]:
    return Ask(exchange_of(outbound_call(bench, PlainRequest("GET", "http", "keys:9080", path, {}))), limit)


def idle(bench: Bench) -> bool:
    assert bench.live is not None
    return not any(bound.state.active for bound in bench.live.bound.values())


# -- a proxy ----------------------------------------------------------------------------------------------------------


def test_what_comes_in_is_served_by_sending_the_same_request_on(bench, kind):
    request = arrived(peer="127.0.0.1:4711")
    served = inbound_call(bench, request)
    coming = inbound(served)
    runtime = kind(reviews=[503, Outcome(status=200, headers=[(b"x", b"y")], whole=b"text")])

    serve = drive(kind, coming, runtime)
    assert (type(serve), serve.refusal) == (Serve, None)
    call = outbound_call(bench, request)
    going = exchange_of(call)
    delivered = drive(kind, going, runtime)
    assert type(delivered) is Deliver
    outcome = delivered.outcome
    finish(going)
    finish(coming, Ended(outcome.status))

    assert call.request is request is served.request
    assert (outcome.status, outcome.whole, served.status, served.flags) == (200, b"text", 200, "")
    assert [a.status for a in call.record.attempts] == [503, 200]
    (_, first), (_, second) = runtime.sent
    kept = [(b"Host", b"reviews:9080"), (b"X-Trace", b"a\xe9"), (b"x-trace", b"b")]
    assert first == [*kept, (b"x-envoy-attempt-count", b"1"), (b"x-by", b"the mesh")]
    assert second == [*kept, (b"x-envoy-attempt-count", b"2"), (b"x-by", b"the mesh")]
    assert (request.target, request.header("x-trace")) == (b"/reviews/0?a=1", "a\xe9,b")
    assert idle(bench)


def test_what_is_refused_is_not_sent_on(bench, kind):
    served = inbound_call(bench, arrived(), lambda seen: None if seen.principal else NOT_YOU)
    runtime = kind(reviews=[200])
    exchange = inbound(served)
    assert drive(kind, exchange, runtime).refusal is NOT_YOU
    finish(exchange)
    assert (served.status, runtime.sent) == (403, [])


# -- checks that ask ----------------------------------------------------------------------------------------------------


def test_a_response_that_comes_with_its_head_is_bounded_too(bench, kind):
    seen = []

    def check(_request: InboundRequest) -> Any:
        asked = asks(bench, limit=3)
        yield asked
        seen.append((asked.outcome.failure, asked.outcome.whole))
        return NOT_YOU

    for text, wanted in ((b"abc", (None, b"abc")), (b"abcd", (Failure.PROTOCOL_ERROR, None))):
        exchange = inbound(inbound_call(bench, arrived(), check))
        drive(kind, exchange, kind(keys=[Outcome(status=200, headers=[], whole=text)]))
        finish(exchange)
        assert seen.pop() == wanted
    assert idle(bench)


def test_a_check_may_ask_through_the_mesh_and_reads_the_whole_response(bench, kind):
    seen = []

    def check(request: InboundRequest) -> Any:
        asked = asks(bench)
        yield asked
        seen.append((asked.outcome.status, asked.outcome.whole))
        request.claims = {"sub": "jane"}
        return None

    request = arrived()
    exchange = inbound(inbound_call(bench, request, check))
    runtime = kind(keys=[Outcome(status=200, body=Body(b"o", b"ne"))])
    assert drive(kind, exchange, runtime).refusal is None
    finish(exchange, Ended(200))
    assert (seen, request.claims) == ([(200, b"one")], {"sub": "jane"})
    assert [host for host, _ in runtime.sent] == ["keys"]
    assert idle(bench)


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (Outcome(Failure.PROTOCOL_ERROR, "no HTTP"), Failure.PROTOCOL_ERROR),
        (Outcome(status=200, body=Body(b"x" * 2000)), Failure.PROTOCOL_ERROR),
    ],
    ids=["failed", "too long"],
)
def test_a_failure_of_what_is_asked_is_a_value(bench, kind, response, failure):
    def check(_request: InboundRequest) -> Any:
        asked = asks(bench)
        yield asked
        return NOT_YOU if asked.outcome.failure is failure else None

    exchange = inbound(inbound_call(bench, arrived(), check))
    assert drive(kind, exchange, kind(keys=[response])).refusal is NOT_YOU
    finish(exchange)
    assert idle(bench)


@pytest.mark.parametrize("asking", [False, True])
def test_a_check_that_raises_refuses_is_counted_and_reported_once(bench, kind, asking):
    def plain(_request: InboundRequest) -> Any:
        raise LookupError("no such rule")

    def check(_request: InboundRequest) -> Any:
        yield asks(bench)
        raise LookupError("no such rule")

    failures, reported = CheckFailures(), []
    failures.report = reported.append
    for _ in range(3):
        call = inbound_call(bench, arrived(), check if asking else plain, failures=failures)
        exchange = inbound(call)
        refusal = drive(kind, exchange, kind(keys=[200])).refusal
        finish(exchange)
        assert (refusal.status, refusal.grpc, call.status) == (500, 13, 500)
    assert (failures.count, len(reported)) == (3, 1)
    assert idle(bench)


def test_a_check_that_is_dropped_while_it_asks_gives_everything_back(bench):
    def check(_request: InboundRequest) -> Any:
        yield asks(bench)

    runtime: Any = Callbacks(keys=[200])
    call = inbound_call(bench, arrived(), check)
    driver: Any = CallbackDriver(inbound(call), runtime, lambda _: None, lambda _: None)
    driver.start()
    assert not idle(bench)
    driver.cancel()
    assert (idle(bench), runtime.later, call.flags) == (True, [], "DC")


def test_a_thread_that_is_interrupted_while_a_check_asks_gives_everything_back(bench):
    class Interrupted(Threads):
        def send(self, effect: Send[Any]) -> Outcome:
            raise KeyboardInterrupt

    def check(_request: InboundRequest) -> Any:
        yield asks(bench)

    call = inbound_call(bench, arrived(), check)
    runtime: Any = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(inbound(call), runtime)
    assert (idle(bench), call.flags) == (True, "DC")


# -- checks that wait for another's flight ------------------------------------------------------------------------------


def keyed(bench: Bench, flights: Flights[bytes]) -> Any:
    def fetch() -> Any:
        asked = asks(bench)
        yield asked
        return asked.outcome.whole or None

    def check(_request: InboundRequest) -> Any:
        keys = yield from flights.fetch("keys", fetch)
        return None if keys else NOT_YOU

    return check


def test_many_requests_wait_for_one_fetch(bench):
    check = keyed(bench, Flights())
    runtime: Any = Callbacks(keys=[Outcome(status=200, whole=b"keys")])
    ends: list[Any] = []
    for _ in range(5):
        driver: Any = CallbackDriver(inbound(inbound_call(bench, arrived(), check)), runtime, ends.append, ends.append)
        driver.start()
    assert ends == []
    runtime.turn()
    assert [end.refusal for end in ends] == [None] * 5
    assert [host for host, _ in runtime.sent] == ["keys"]


async def test_those_who_wait_are_not_left_when_the_one_who_fetches_is_cancelled(bench):
    check = keyed(bench, Flights())

    class Slow(Tasks):
        async def send(self, effect: Send[Any]) -> Outcome:
            await asyncio.sleep(60)
            raise AssertionError

    runtime: Any = Slow()
    first, second = (
        asyncio.create_task(run_async(inbound(inbound_call(bench, arrived(), check)), runtime)) for _ in range(2)
    )
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await asyncio.wait_for(second, 30)).refusal is NOT_YOU
    assert idle(bench)


# -- by port --------------------------------------------------------------------------------------------------------------


def test_what_happens_at_a_port_is_the_ports_own():
    default, own = Inbound(service="a"), Inbound(service="a", checks=(lambda _: NOT_YOU,))
    ports = InboundPorts(default, {8080: own})
    assert (ports.of(8080), ports.of(9090), ports.of(0)) == (own, default, default)
    moved = ports.serving("b", ports.declared)
    assert (moved.service, moved.of(8080).service, moved.of(8080).checks) == ("b", "b", own.checks)
