"""The three drivers run the same exchange with the same effects."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.engine.drivers import CallbackDriver, finish, run_async
from meshlib.engine.outcome import Failure
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.scripted import Bench, Script

RESOURCES = [
    service("reviews"),
    pod("reviews", "v1", 1),
    pod("reviews", "v1", 2),
    destination_rule("reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}}),
    virtual_service(
        "reviews",
        {
            "route": [to("reviews", "v1")],
            "retries": {"attempts": 3, "retryOn": "5xx,connect-failure"},
            "fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 50}}},
        },
    ),
]
V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
OUTCOMES = (Failure.CONNECT_FAILED, 503, 200)


class AsyncScript:
    def __init__(self, script: Script) -> None:
        self.script = script

    async def send(self, effect):
        await asyncio.sleep(0)
        return self.script.send(effect)

    async def sleep(self, seconds):
        self.script.sleep(seconds)

    async def acquire(self, effect):
        return self.script.acquire(effect)

    def spawn(self, exchange):
        self.script.spawn(exchange)


class CallbackScript:
    """Effects end later, when ``pump`` runs: no task, no thread."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.later = []
        self.cancelled = 0

    def _begin(self, action, done):
        entry = (action, done)
        self.later.append(entry)

        def cancel():
            self.cancelled += 1
            self.later.remove(entry)

        return cancel

    def send(self, effect, done):
        return self._begin(lambda: self.script.send(effect), done)

    def sleep(self, seconds, done):
        return self._begin(lambda: self.script.sleep(seconds), done)

    def after(self, seconds, ring):
        return self.sleep(seconds, ring)

    def acquire(self, effect, done):
        return self._begin(lambda: self.script.acquire(effect), done)

    def spawn(self, exchange):
        self.script.spawn(exchange)

    def pump(self):
        while self.later:
            action, done = self.later.pop(0)
            done(action())


def trace(script: Script, status: int) -> tuple:
    return (status, script.tried, script.sleeps)


def blocking(seed: int) -> tuple:
    b = Bench(*RESOURCES, seed=seed)
    script = b.script(*OUTCOMES)
    outcome, _ = b.call(script)
    return trace(script, outcome.status)


def on_asyncio(seed: int) -> tuple:
    b = Bench(*RESOURCES, seed=seed)
    script = b.script(*OUTCOMES)
    _, exchange = b.begin()
    delivered = asyncio.run(run_async(exchange, AsyncScript(script)))
    finish(exchange)
    return trace(script, delivered.outcome.status)


def from_callbacks(seed: int) -> tuple:
    b = Bench(*RESOURCES, seed=seed)
    script = b.script(*OUTCOMES)
    _, exchange = b.begin()
    runtime = CallbackScript(script)
    delivered = []
    CallbackDriver(exchange, runtime, delivered.append, pytest.fail).start()
    assert not delivered
    runtime.pump()
    finish(exchange)
    return trace(script, delivered[0].outcome.status)


@pytest.mark.parametrize("seed", range(6))
def test_all_drivers_make_the_same_calls_for_the_same_seed(seed):
    assert blocking(seed) == on_asyncio(seed) == from_callbacks(seed)
    assert blocking(seed)[0] == 200


def test_a_cancelled_callback_driver_stops_what_is_under_way_and_gives_everything_back():
    b = Bench(*RESOURCES)
    script = b.script(*OUTCOMES)
    _, exchange = b.begin()
    runtime = CallbackScript(script)
    driver = CallbackDriver(exchange, runtime, pytest.fail, pytest.fail)
    driver.start()
    while not any(s for s in runtime.later) or b.state(V1).active == 0:
        action, done = runtime.later.pop(0)
        done(action())
    driver.cancel()
    assert runtime.cancelled == 1
    assert runtime.later == []
    assert (b.state(V1).active, b.state(V1).slots.in_use) == (0, 0)


def test_an_error_in_a_runtime_reaches_on_error_and_gives_everything_back():
    b = Bench(*RESOURCES)
    script = b.script(lambda effect: 1 / 0)
    _, exchange = b.begin()
    runtime = CallbackScript(script)

    def send(effect, done):
        raise ZeroDivisionError

    runtime.send = send
    errors = []
    CallbackDriver(exchange, runtime, pytest.fail, errors.append).start()
    runtime.pump()
    assert [type(e) for e in errors] == [ZeroDivisionError]
    assert b.state(V1).active == 0


async def test_a_cancelled_task_closes_the_exchange():
    b = Bench(*RESOURCES)
    _, exchange = b.begin()
    entered = asyncio.Event()

    class Hanging(AsyncScript):
        async def send(self, effect):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run_async(exchange, Hanging(b.script(200))))
    await entered.wait()
    assert b.state(V1).active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (b.state(V1).active, b.state(V1).slots.in_use) == (0, 0)


def test_finish_insists_that_the_exchange_is_over():
    def endless():
        yield None
        yield None

    exchange = endless()
    next(exchange)
    with pytest.raises(RuntimeError, match="must end"):
        finish(exchange)
