"""Rates that are counted elsewhere, through the library limits (its storage in memory stands for Redis, where there is none):
in time, or the request is let through; Redis killed, hanging or lying; reload, fork and cancellation."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import threading
from typing import Any

import pytest

from benchmarks.free_ports import free_port
from meshlib.compiler.inbound_protection import RateLimit, SharedCount
from meshlib.engine.drivers import finish, run_async
from meshlib.engine.effects import Ended, Wait
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.request_key import RequestKey
from meshlib.policy.token_bucket import Rate
from meshlib.transport.core import shared_limits
from meshlib.transport.core.shared_limits import RedisCounter, SharedLimits, counting
from tests.support.evil_server import EvilServer
from tests.support.fake_clock import FakeClock
from tests.support.protection import Door, protection

CANARY = "s3cret-canary"


def limit(url: str = "memory://", requests: int = 2, per: float = 3600.0, timeout: float = 30.0) -> RateLimit:
    shared = SharedCount(url, timeout=timeout)
    return RateLimit("p quotas[0]", "quotas", (), RequestKey(), Rate(requests, per, requests), False, shared)


def asked(counter: RedisCounter, wanted: RateLimit, key: str = "") -> Any:
    """What it says, waited for by this thread."""
    counting_ = counter.count(wanted, key)
    try:
        wait = next(counting_)
    except StopIteration as end:
        return end.value
    assert type(wait) is Wait
    landed = threading.Event()
    if wait.flight.board(landed.set):
        assert wait.timeout is not None
        landed.wait(wait.timeout)
    try:
        next(counting_)
    except StopIteration as end:
        return end.value
    raise AssertionError("it asks for more")


def test_whole_windows_are_counted_key_by_key():
    counter = RedisCounter("memory://", FakeClock())
    found = [asked(counter, limit(), key) for key in ("a", "a", "a", "b")]
    assert [taken.allowed for taken in found] == [True, True, False, True]
    assert [taken.remaining for taken in found] == [1, 0, 0, 1]
    counter.close()


def test_who_is_refused_is_told_when_the_window_ends():
    import time

    class Now(FakeClock):
        def time(self) -> float:
            return time.time()

    count = counting("memory://", Now())
    wanted = limit(requests=1)
    assert count(wanted, "").allowed
    refused = count(wanted, "")
    assert not refused.allowed
    assert 3000 < refused.retry_after <= 3600


def test_neither_keys_nor_urls_are_shown_to_others():
    from limits.storage import MemoryStorage

    seen: list[str] = []

    class Seeing(MemoryStorage):
        def incr(self, key: str, *more: Any, **named: Any) -> int:
            seen.append(key)
            return super().incr(key, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limits.storage.storage_from_string", lambda _url, **_options: Seeing())
        counting("memory://", FakeClock())(limit(), CANARY)
    assert len(seen) == 1
    assert CANARY not in seen[0]
    assert CANARY not in repr(limit(f"redis://:{CANARY}@redis:6379"))


@pytest.mark.parametrize("fault", ["killed", "hanging", "lying"])
def test_a_redis_that_does_not_say_lets_through_is_counted_and_let_alone_for_a_while(fault, monkeypatch, caplog):
    monkeypatch.setattr(shared_limits, "TIMEOUT", 0.2)
    clock = FakeClock()
    with EvilServer([b"+PONG\r\n$5\r\nxx"] if fault == "lying" else [30.0]) as server:
        port = free_port() if fault == "killed" else server.port
        counter = RedisCounter(f"redis://:{CANARY}@127.0.0.1:{port}/0", clock)
        with caplog.at_level(logging.WARNING):
            assert asked(counter, limit()) is None
        assert counter.errors == 1
        assert asked(counter, limit()) is None
        assert counter.errors == 1, "nobody was asked"
        clock.advance(shared_limits.AWAY + 0.1)
        assert asked(counter, limit()) is None
        assert counter.errors == 2
        assert caplog.text.count("work without Redis") == 1
        assert CANARY not in caplog.text
        counter.close()


def test_nobody_waits_longer_than_the_limit_says():
    counter = RedisCounter("memory://", FakeClock())
    counter._thread = threading.current_thread()  # which answers nobody
    assert asked(counter, limit(timeout=0.001)) is None
    assert counter._questions.get().abandoned


def test_a_line_that_is_too_long_is_not_joined(monkeypatch):
    monkeypatch.setattr(shared_limits, "MOST_WAITING", 3)
    counter = RedisCounter("memory://", FakeClock())
    counter._thread = threading.current_thread()
    assert [asked(counter, limit(timeout=0.001)) for _ in range(5)] == [None] * 5
    assert counter._questions.qsize() == 3


def test_a_request_that_is_dropped_abandons_its_question():
    counter = RedisCounter("memory://", FakeClock())
    counter._thread = threading.current_thread()
    rng = random.Random(2)
    for _ in range(200):
        counting_ = counter.count(limit(), "k")
        if rng.random() < 0.8:
            next(counting_)
        counting_.close()
    while not counter._questions.empty():
        assert counter._questions.get().abandoned


def test_a_question_that_nobody_waits_for_any_more_counts_nothing():
    counter = RedisCounter("memory://", FakeClock())
    counter._thread = threading.current_thread()
    for _ in range(5):
        assert asked(counter, limit(timeout=0.001)) is None
    counter._thread = None
    assert asked(counter, limit()).remaining == 1, "the first that counts"
    counter.close()


def test_without_the_library_the_log_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "limits", None)
    counter = RedisCounter("redis://127.0.0.1:1", FakeClock())
    with caplog.at_level(logging.WARNING):
        assert asked(counter, limit()) is None
    assert "pip install 'sidecarless[redis]'" in caplog.text
    counter.close()


def test_a_child_of_a_fork_has_a_conversation_of_its_own():
    limits = SharedLimits(FakeClock())
    counter = limits.counter(SharedCount("memory://"))
    assert counter is limits.counter(SharedCount("memory://"))
    assert asked(counter, limit()).allowed
    child = os.fork()
    if child == 0:
        limits.after_fork()
        os._exit(0 if asked(counter, limit()).allowed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    limits.close()


# -- as a policy ------------------------------------------------------------------------------------------------------


def quota(url: str, timeout: str = "20ms") -> dict[str, Any]:
    storage = {"redis": {"url": url}, "timeout": timeout}
    return protection(quotas=[{"requests": 2, "per": "24h", "key": {"claim": "sub"}, "storage": storage}])


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_quota_is_kept_over_a_reload_on_threads_and_on_loops(runtime, monkeypatch):
    made = counting("memory://", FakeClock())
    monkeypatch.setattr(shared_limits, "counting", lambda _url, _clock: made)

    async def served(door: Door) -> int:
        request = InboundRequest("GET", "/")
        request.claims = {"sub": "ann"}
        call = door.server.call(request)
        exchange = door.server.exchange(call)
        refusal = (await run_async(exchange, door.server.awaited)).refusal
        finish(exchange, None if refusal is not None else Ended(200))
        return call.status

    def status(door: Door) -> int:
        if runtime == "asyncio":
            return asyncio.run(served(door))
        refusal = door.ask(claims={"sub": "ann"})
        return 200 if refusal is None else refusal.status

    with Door(quota("redis://redis:6379", "30s")) as door:
        assert [status(door), status(door)] == [200, 200]
        door.apply(quota("redis://redis:6379", "29s"), protection("other", "elsewhere", maxConcurrent=3))
        assert status(door) == 429
        assert door.counts == {"quotas: refused": 1}


def test_a_redis_that_is_gone_lets_through_and_is_counted():
    with Door(quota(f"redis://127.0.0.1:{free_port()}")) as door:
        assert door.statuses(3) == [0, 0, 0]
        assert door.counts == {"quotas: failed open": 3}
        assert door.mesh.status()["protection"]["redis_failures"] <= 3
