"""Calls of gRPC with one message each way are noted where the last one like them was, and told as all others are."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics, generate_latest

import meshlib
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.peer_metadata import PeerMetadata
from meshlib.telemetry import one_message
from meshlib.telemetry.metrics import Metrics
from meshlib.telemetry.observe import Telemetry
from meshlib.telemetry.one_message import OneMessage
from meshlib.telemetry.tables import CountSeries, LockedCountSeries
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from tests.support.fake_clock import FakeClock
from tests.support.grpc_echo import Message
from tests.telemetry.test_usual_calls import DESTINATIONS, HOSTS

PEER = PeerMetadata("reviews-v1", namespace="shop")
RULES = [SimpleNamespace(has_stat_prefix=False), None]


def outcome_of(rng: random.Random) -> Outcome | None:
    match rng.randrange(11):
        case 0:
            return None
        case 1:
            return Outcome(Failure.RESET)
        case 2:
            return GrpcOutcome(None, code=5, at_once=True)
        case 3:
            return GrpcOutcome(Message(text="x" * rng.randrange(9)))  # one whose bytes nobody has counted
        case 4:
            return GrpcOutcome(None)  # a stream
        case 5 | 6:  # as a proxy sees it
            outcome = Outcome(status=200, headers=[(b"a", b"b")] * rng.randrange(2), whole=b"x" * rng.randrange(3))
            outcome.size = rng.choice([0, 0, 9])
            return outcome
    outcome = GrpcOutcome(b"x" * rng.randrange(2))
    outcome.size = 5 + len(outcome.message)
    if rng.random() < 0.1:
        outcome.headers = [(b"a", b"b")]
        outcome.usual = False
    return outcome


def call(rng: random.Random, now: float) -> Any:
    destination = rng.choice(DESTINATIONS)
    outcome = outcome_of(rng)
    of_a_stream = type(outcome) is GrpcOutcome and outcome.message is None
    proxied = outcome is not None and outcome.whole is not None if type(outcome) is Outcome else False
    one = rng.random() < 0.8
    more = {"streamed": 12, "messages": 2} if of_a_stream else {"messages": rng.choice([1, 2])} if proxied else {}
    record = SimpleNamespace(
        destination=rng.choice([destination] * 9 + [None]),
        rule_object=rng.choice(RULES),
        endpoint=rng.choice(["10.0.0.1:80", "10.0.0.2:80"]),
        status=rng.choice([200] * 9 + [503]),
        flags=rng.choice([""] * 9 + ["DC"]),
        grpc_status=rng.choice([0] * 9 + [None, 14]),
        peer_metadata=rng.choice([None] * 9 + [PEER]),
        host=destination.host,
        started=now - rng.randrange(1024) / 1024,  # sums are exact, in whatever order
        virtual_host=HOSTS[destination.host],
        attempted=rng.choice([("10.0.0.1:80", 200, None, now)] * 9 + [None]),
    )
    sent = rng.choice([20, 21])
    messages = b"" if rng.random() < 0.9 else SimpleNamespace(seen=lambda: (3, 30))
    if proxied:
        messages = SimpleNamespace(seen=lambda: (1 if one else 3, 30))
    request = SimpleNamespace(protocol="grpc", sent_bytes=lambda: sent, scheme="http", messages=messages)
    if proxied:
        request.one_message = one
    live = SimpleNamespace(snapshot=SimpleNamespace(blocked=None), bound={})
    return SimpleNamespace(record=record, outcome=outcome, request=request, live=live, **more)


def usual() -> Any:
    """A call that is like nearly all."""
    made = call(random.Random(1), 1.0)
    made.outcome = GrpcOutcome(b"x")
    made.outcome.size = 6
    made.request.messages = b""
    made.record = SimpleNamespace(
        **{**vars(made.record), "destination": DESTINATIONS[0], "status": 200, "flags": "", "grpc_status": 0},
    )
    made.record.attempted = made.record.endpoint, 200, None, 1.0
    made.record.peer_metadata = None
    return made


def with_message(made: Any) -> bool:
    """Whether a driver of gRPC's calls would say so."""
    if made.outcome is None or not made.outcome.usual or type(made.request.messages) is not bytes:
        return False
    return (made.record.status, made.record.grpc_status) == (200, 0)


def telemetry(clock: FakeClock) -> tuple[Telemetry, CollectorRegistry]:
    registry = CollectorRegistry()
    return Telemetry(registry, None, meshlib.Workload("front"), clock.monotonic), registry


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each look was enough."""
    looks: list[bool] = []
    took = OneMessage.took

    def looked(self: OneMessage, call: Any, now: float) -> bool:
        looks.append(took(self, call, now))
        return looks[-1]

    monkeypatch.setattr(OneMessage, "took", looked)
    return looks


@pytest.fixture
def plain_time() -> Any:
    disable_created_metrics()
    yield
    enable_created_metrics()


@pytest.mark.parametrize("seed", range(20))
def test_both_ways_count_the_same(seed: int, short: list[bool], plain_time: None, monkeypatch: Any) -> None:
    told = []
    for way in (True, False):
        if not way:
            monkeypatch.setattr(OneMessage, "took", lambda *_: False)
        rng, clock = random.Random(seed), FakeClock()
        watcher, registry = telemetry(clock)
        for n in range(300):
            clock.advance(rng.randrange(16) / 1024)
            watcher.ended(call(rng, clock.monotonic()), None)
            if n == 150:
                watcher._metrics.forget_short_cuts()  # type: ignore[attr-defined]
        assert watcher.failures == 0
        told.append(generate_latest(registry))
    assert told[0] == told[1]
    assert short.count(True) > 10


@pytest.mark.parametrize("seed", range(20))
def test_whoever_knows_that_there_was_a_message_counts_the_same(seed: int, plain_time: None) -> None:
    told = []
    for way in (True, False):
        rng, clock = random.Random(seed), FakeClock()
        watcher, registry = telemetry(clock)
        metrics: Any = watcher._metrics
        for n in range(300):
            clock.advance(rng.randrange(16) / 1024)
            made = call(rng, clock.monotonic())
            (watcher.ended_with_message if way and with_message(made) else watcher.ended)(made, None)
            if n == 150:
                metrics.forget_short_cuts()
        assert watcher.failures == 0
        told.append(generate_latest(registry))
    assert told[0] == told[1]


def well(rng: random.Random, now: float) -> Any:
    """A call that has ended well, as a proxy sees it: one of gRPC with one message each way, or one without messages."""
    made, grpc = call(rng, now), rng.random() < 0.7
    whole = b"x" * rng.randrange(1, 3)
    made.outcome, made.messages = Outcome(status=200, headers=[], whole=whole), 1
    made.outcome.size = 9 + len(whole)
    sent = made.request.sent_bytes()
    messages = SimpleNamespace(seen=lambda: (1, 30))
    protocol = "grpc" if grpc else "http"
    made.request = SimpleNamespace(
        protocol=protocol, sent_bytes=lambda: sent, scheme="http", messages=messages, one_message=True
    )
    facts = {"destination": DESTINATIONS[rng.randrange(2)], "status": 200, "flags": "", "peer_metadata": None}
    facts |= {"grpc_status": 0 if grpc else None, "attempted": ("10.0.0.1:80", 200, None, now)}
    vars(made.record).update(facts)
    return made


def noted(watcher: Telemetry, made: Any, now: float) -> bool:
    record, grpc = made.record, made.request.protocol == "grpc"
    took = (now - record.started) * 1000.0
    return watcher.noted(record, grpc, took, made.request.sent_bytes(), made.outcome.size)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_knows_that_a_call_has_ended_well_counts_the_same(seed: int, plain_time: None) -> None:
    told, short_cuts = [], 0
    for way in (True, False):
        rng, clock = random.Random(seed), FakeClock()
        watcher, registry = telemetry(clock)
        metrics: Any = watcher._metrics
        for n in range(300):
            clock.advance(rng.randrange(16) / 1024)
            now = clock.monotonic()
            made = well(rng, now)
            ended = rng.random() < 0.7
            if not ended:  # but not so well
                what = rng.choice([("status", 503), ("flags", "DC"), ("peer_metadata", PEER), ("destination", None)])
                setattr(made.record, *what)
            if way and ended and noted(watcher, made, now):
                short_cuts += 1
            else:
                watcher.ended(made, None)
            if n == 150:
                metrics.forget_short_cuts()
        assert watcher.failures == 0
        told.append(generate_latest(registry))
    assert told[0] == told[1]
    assert short_cuts > 10


def test_what_ended_well_is_noted_only_where_the_last_one_was_like_it() -> None:
    watcher, _ = telemetry(FakeClock())
    rng = random.Random(1)
    first = well(rng, 1.0)
    assert not noted(watcher, first, 1.0), "nothing is known yet"
    watcher.ended(first, None)
    assert noted(watcher, first, 1.0)
    destination = first.record.destination
    first.record.destination = next(each for each in DESTINATIONS if each is not destination)
    assert not noted(watcher, first, 1.0), "by another rule"
    first.record.destination, first.request.protocol = destination, "http"
    assert not noted(watcher, first, 1.0), "one of gRPC says nothing of others"
    first.record.grpc_status, first.record.status = None, 404
    watcher.ended(first, None)
    assert not noted(watcher, first, 1.0), "the last one was no 200"
    first.record.status = 200
    watcher.ended(first, None)
    assert noted(watcher, first, 1.0)
    assert watcher.failures == 0


def test_what_is_noted_and_cannot_be_counted_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, _ = telemetry(FakeClock())
    made = well(random.Random(1), 1.0)
    watcher.ended(made, None)
    monkeypatch.setattr(watcher, "_one_message", None)
    assert noted(watcher, made, 1.0)
    assert watcher.failures == 1


def test_all_but_the_first_are_counted_without_a_look_at_all_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, registry = telemetry(FakeClock())
    looked: list[Any] = []
    finished = Metrics.finished
    monkeypatch.setattr(Metrics, "finished", lambda *given: (looked.append(given), finished(*given)))
    for _ in range(20):
        watcher.ended_with_message(usual(), None)
    assert len(looked) == 1
    counted = [s.value for f in registry.collect() for s in f.samples if s.name.endswith("_messages_total")]
    assert counted == [20.0, 20.0]


def test_a_registry_that_raises_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, _ = telemetry(FakeClock())
    monkeypatch.setattr(Metrics, "finished", lambda *_: 1 / 0)
    watcher.ended_with_message(usual(), None)
    assert watcher.failures == 1


def test_all_but_the_first_go_that_way(short: list[bool]) -> None:
    watcher, registry = telemetry(FakeClock())
    for _ in range(20):
        watcher.ended(usual(), None)
    assert short == [True] * 19
    counted = [s.value for f in registry.collect() for s in f.samples if s.name.endswith("_messages_total")]
    assert counted == [20.0, 20.0]


def test_those_that_a_proxy_passes_on_do_where_each_way_went_one_message(short: list[bool]) -> None:
    watcher, registry = telemetry(FakeClock())
    for received, sent in ((1, True), (1, True), (2, True), (1, False)):
        made = usual()
        made.outcome, made.messages = Outcome(status=200, headers=[(b"a", b"b")], whole=b"\0\0\0\0\1x"), received
        made.request.messages, made.request.one_message = SimpleNamespace(seen=lambda: (1, 6)), sent
        watcher.ended(made, None)
    assert short == [True, False, False]
    counted = [s.value for f in registry.collect() for s in f.samples if s.name.endswith("_messages_total")]
    assert counted == [4.0, 5.0]


def test_a_match_with_a_name_is_counted_by_it(short: list[bool]) -> None:
    watcher, _ = telemetry(FakeClock())
    for _ in range(3):
        made = usual()
        made.record.rule_object = SimpleNamespace(has_stat_prefix=True, matches=())
        watcher.ended(made, None)
    assert short == []


def test_other_configuration_forgets_where_they_were_counted(short: list[bool]) -> None:
    watcher, _ = telemetry(FakeClock())
    watcher.ended(usual(), None)
    watcher._metrics.forget_short_cuts()  # type: ignore[attr-defined]
    watcher.ended(usual(), None)
    assert short == []


def test_series_that_are_no_plain_numbers_of_this_process_have_no_such_way() -> None:
    served: Any = object()
    record, count = usual().record, CountSeries()
    assert one_message.one_message(record, served, count, count) is not None
    assert one_message.one_message(record, served, LockedCountSeries(), LockedCountSeries()) is None
    assert one_message.one_message(record, None, None, None) is None


def test_an_endpoint_has_one_place_however_many_there_were(short: list[bool]) -> None:
    metrics: Any = Metrics(CollectorRegistry(), meshlib.Workload("front"))
    for destination in DESTINATIONS * 2:
        made = usual()
        made.record.destination = destination
        metrics.finished(made, 2.0)
    assert short == [False] * 3
    assert len(metrics.one_message) == 1
