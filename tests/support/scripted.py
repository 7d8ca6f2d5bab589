"""An exchange without a network: outcomes come from a script, time from a fake clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.call import NO_TIMEOUTS, Call, CallerTimeouts
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Acquire, Deliver, Send
from meshlib.engine.exchange import exchange_of
from meshlib.engine.live import Live
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock


class FakeRequest(PlainRequest):
    def __init__(self, *args: Any, replayable: bool = True) -> None:
        super().__init__(*args)
        self.replayable = replayable
        self.deadlines: list[tuple[str, float]] = []

    def set_deadline(self, header: str, seconds: float) -> None:
        self.deadlines.append((header, round(seconds, 6)))


class Script:
    """A runtime whose ``send`` answers with the next of ``outcomes`` (a status, a Failure, or an Outcome; the last repeats)
    after ``took`` seconds."""

    def __init__(self, clock: FakeClock, *outcomes: Any, took: float = 0.01) -> None:
        self.clock = clock
        self.outcomes = list(outcomes)
        self.took = took
        self.sends: list[Send] = []
        self.sleeps: list[float] = []
        self.acquired: list[Acquire] = []
        self.on_acquire: Callable[[Acquire], bool | None] = lambda effect: True

    def send(self, effect: Send) -> Outcome:
        self.sends.append(effect)
        made = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if callable(made):
            made = made(effect)
        took = self.took
        if made is Failure.TIMEOUT:
            took = effect.timeout if effect.timeout is not None else took
        self.clock.advance(took)
        if isinstance(made, Outcome):
            return made
        if isinstance(made, Failure):
            return Outcome(made, made.name.lower())
        return Outcome(status=made, whole=b"")

    def race(self, effect: Any) -> None:
        """In virtual time: each try as long as ``send`` makes it take; the first to win, else the last to end."""
        began = self.clock.now
        ended: list[tuple[float, Send, Outcome]] = []
        send, start = effect.first, began
        while send is not None:
            self.clock.now = start
            outcome = self.send(send)
            ended.append((self.clock.now, send, outcome))
            best = min((e for e in ended if effect.tries.wins(e[2])), default=None, key=lambda e: e[0])
            start += effect.delay
            if (best is not None and best[0] <= start) or all(at <= start for at, _, _ in ended):
                break
            send = effect.tries.another()
        best = min((e for e in ended if effect.tries.wins(e[2])), default=None, key=lambda e: e[0])
        at, winner, outcome = best or max(ended, key=lambda e: e[0])
        for _, other, _ in ended:
            if other is not winner:
                effect.tries.lost(other)
        self.clock.now = at
        effect.winner, winner.outcome = winner, outcome

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.clock.advance(seconds)

    def acquire(self, effect: Acquire) -> bool | None:
        self.acquired.append(effect)
        return self.on_acquire(effect)

    def spawn(self, exchange: Any) -> None:
        raise AssertionError("nothing is spawned here")

    @property
    def tried(self) -> list[str]:
        return [effect.endpoint.key for effect in self.sends]


class Bench:
    """A mesh without transports: resources, fake clock, calls one by one."""

    def __init__(self, *resources: dict[str, Any], seed: int = 7, workload: Workload | None = None) -> None:
        self.clock = FakeClock()
        self.rng = random.Random(seed)
        self.workload = workload or Workload()
        self.live: Live | None = None
        self.apply(*resources)

    def apply(self, *resources: dict[str, Any]) -> None:
        result = load_objects(resources)
        assert not result.errors, result.errors
        snapshot = compile_snapshot(result.resources, self.workload)
        self.live = Live(snapshot, self.clock.now, self.live)

    def begin(
        self,
        url: str = "http://reviews:9080/",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        *,
        replayable: bool = True,
        timeouts: CallerTimeouts = NO_TIMEOUTS,
        wait: Any = None,
    ) -> tuple[Call, Any]:
        scheme, _, rest = url.partition("://")
        authority, slash, target = rest.partition("/")
        request = FakeRequest(method, scheme, authority, slash + target or "/", headers or {}, replayable=replayable)
        assert self.live is not None
        call = Call(request, self.live, self.clock, self.rng, timeouts, wait)
        call.record = route(self.live.snapshot, request)
        return call, exchange_of(call)

    def call(self, script: Script, *args: Any, **kwargs: Any) -> tuple[Outcome, Call]:
        """One whole call: the delivered outcome and the call with its record."""
        call, exchange = self.begin(*args, **kwargs)
        delivered: Deliver = run(exchange, script)
        finish(exchange)
        return delivered.outcome, call

    def script(self, *outcomes: Any, took: float = 0.01) -> Script:
        return Script(self.clock, *outcomes, took=took)

    def state(self, cluster: str) -> Any:
        assert self.live is not None
        return self.live.cluster(cluster).state
