"""``Chaos``: what goes wrong between a mesh and its endpoints, as a test says: the third attempt to reviews v2, one in ten to
ratings, everything for a minute. The same seed and the same calls have the same things go wrong, in every runtime."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import random
import threading
import warnings
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeVar

from meshlib.testing import injections
from meshlib.testing.asserts import names
from meshlib.testing.outage import Kind
from meshlib.testing.rules import Chance, Nth, after_of, matches, path_of, seconds_of
from meshlib.testing.rules import Rule as AnyRule
from meshlib.testing.seam import Plan, taking_part
from meshlib.testing.served import Plan as ServedPlan
from meshlib.testing.served import Request, Served, ServedRule
from meshlib.testing.served import taking_part as serving_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meshlib.clock import Clock
    from meshlib.engine.effects import Send
    from meshlib.engine.outcome import Outcome
    from meshlib.testing.outage import Outage

Made = TypeVar("Made", bound="Rule | ServedRule")
KEPT: Final = 10_000
"""Injections that ``Chaos.injected`` remembers."""
SHOWN: Final = 20


class ChaosUnused(UserWarning):
    """What was to go wrong was about no attempt at all, or waited for one that never came."""


@dataclass(frozen=True, slots=True)
class Injected:
    """One thing that was made go wrong. ``nth``: which of the attempts that its rule is about; ``attempt``: its number within
    the call, from 1. Of a request that was served ``host`` is the workload, ``endpoint`` the path, and ``attempt`` 0."""

    kind: Kind
    host: str
    subset: str
    endpoint: str
    nth: int
    attempt: int

    def __str__(self) -> str:
        if not self.attempt:
            return f"{self.kind}: no. {self.nth} to {self.endpoint}, served by {self.host}"
        where = f"{self.host}/{self.subset}" if self.subset else self.host
        again = f" (attempt {self.attempt} of its call)" if self.attempt > 1 else ""
        return f"{self.kind}: no. {self.nth} to {where} at {self.endpoint}{again}"


class Rule(AnyRule["Send"]):
    """A rule of attempts of calls."""

    def __init__(self, chaos: Chaos, where: Where, kind: Kind, number: int) -> None:
        super().__init__(chaos.seed, chaos.clock, where, kind, number)
        self._at = where

    @property
    def named(self) -> str:
        """What of it may be written wrong, as the end of a question: ``are its host and path written as they``."""
        more = [name for name in ("subset", "endpoint", "path") if getattr(self._at, name) is not None]
        return f"are its {' and '.join(['host', *more])} written as they" if more else "is its host written as it"

    def _plan(self, send: Send, rng: random.Random) -> Plan:
        raise NotImplementedError


class _Failing(Rule):
    def __init__(self, chaos: Chaos, where: Where, kind: Kind, number: int, outcome: Callable[[Send], Outcome]) -> None:
        super().__init__(chaos, where, kind, number)
        self._outcome = outcome

    def _plan(self, send: Send, _rng: random.Random) -> Plan:
        return Plan(instead=self._outcome(send))


class _Late(Rule):
    def __init__(self, chaos: Chaos, where: Where, kind: Kind, number: int, seconds: float, jitter: float) -> None:
        super().__init__(chaos, where, kind, number)
        self._seconds = seconds
        self._jitter = jitter

    def _plan(self, _send: Send, rng: random.Random) -> Plan:
        return Plan(latency=max(0.0, self._seconds + self._jitter * (2 * rng.random() - 1)))


class _Changing(Rule):
    def __init__(
        self,
        chaos: Chaos,
        where: Where,
        kind: Kind,
        number: int,
        change: Callable[[Send], Callable[[Outcome], Outcome]],
    ) -> None:
        super().__init__(chaos, where, kind, number)
        self._change = change

    def _plan(self, send: Send, _rng: random.Random) -> Plan:
        return Plan(change=self._change(send))


class Where(Chance):
    """Which attempts: made by ``chaos.on``; its methods say what happens to them. Each returns its ``Rule``."""

    def __init__(
        self,
        chaos: Chaos,
        host: str,
        subset: str | None,
        endpoint: str | None,
        path: str | None,
        nth: Nth,
        rate: float,
        between: tuple[float, float] | None,
    ) -> None:
        super().__init__(nth, rate, between, chaos.clock.monotonic())
        if endpoint is not None and (not isinstance(endpoint, str) or ":" not in endpoint):
            raise ValueError(f"endpoint={endpoint!r}: it is an address with its port, 127.0.0.1:9081")
        if path is not None:
            path_of(path)
        self._chaos = chaos
        self.host = host
        self.subset = subset
        self.endpoint = endpoint
        self.path = path

    def latency(self, seconds: float, *, jitter: float = 0.0) -> Rule:
        """They arrive so many ``seconds`` later, more or less by up to ``jitter``; one that would be later than its timeout
        allows times out. The mesh's own clock waits, so that on a fake one nobody does."""
        seconds_of("seconds", seconds)
        seconds_of("jitter", jitter)
        return self._chaos._add(lambda number: _Late(self._chaos, self, "latency", number, seconds, jitter))

    def reset(self, *, after: int | None = None) -> Rule:
        """The connection breaks: before the server has seen the request; or ``after`` so many bytes of the response's body (of
        a gRPC call: when the server has begun to respond; of a stream of gRPC so many messages)."""
        if after is None:
            return self._failing("reset", injections.reset)
        messages = after_of(after)
        return self._changing("reset", lambda send: injections.cut(messages, False, send))

    def lost_response(self) -> Rule:
        """The server gets the request and does its work, and the connection breaks before the response begins."""
        return self._changing("lost_response", injections.lose)

    def partial_body(self, after: int = 0) -> Rule:
        """The server closes the connection ``after`` so many bytes of the response's body (of a stream of gRPC: messages)."""
        after_of(after)
        return self._changing("partial_body", lambda send: injections.cut(after, True, send))

    def down(self) -> Rule:
        """The endpoint is dead: connections are refused. ``rule.end()`` revives it."""
        return self._failing("down", injections.down)

    def dns_failure(self) -> Rule:
        """The endpoint's name is not found."""
        return self._failing("dns_failure", injections.dns_failure)

    def expired_certificate(self) -> Rule:
        """The TLS handshake fails because the server's certificate has expired."""
        return self._failing("expired_certificate", injections.expired_certificate)

    def __str__(self) -> str:
        said = [repr(self.host)]
        said += [
            f"{name}={value!r}"
            for name in ("subset", "endpoint", "path", "nth")
            if (value := getattr(self, name)) is not None
        ]
        return f"chaos.on({', '.join(said + self._chances())})"

    def _failing(self, kind: Kind, outcome: Callable[[Send], Outcome]) -> Rule:
        return self._chaos._add(lambda number: _Failing(self._chaos, self, kind, number, outcome))

    def _changing(self, kind: Kind, change: Callable[[Send], Callable[[Outcome], Outcome]]) -> Rule:
        return self._chaos._add(lambda number: _Changing(self._chaos, self, kind, number, change))

    def _about(self, send: Send) -> bool:
        spec = send.cluster.spec
        if self.subset is not None and spec.subset != self.subset:
            return False
        if self.endpoint is not None and send.endpoint.key != self.endpoint:
            return False
        request = send.call.request
        if self.path is not None and not matches(request.path, self.path):
            return False
        if self.host == "*":
            return True
        namespace = send.call.live.snapshot.workload.namespace
        return names(spec.host, self.host, namespace) or request.dialled.partition(":")[0] == self.host


class Chaos:
    """The fixture ``chaos``. ``chaos.on(...)`` says where, its methods what::

        chaos.on("reviews", "v2", nth=3).reset()            # the third attempt to reviews v2
        chaos.on("ratings", rate=0.1).reset()               # one in ten
        chaos.on("reviews").latency(2.0)
        with chaos.on("reviews", "v1").down(): ...          # dead; revived at the end of the block
        chaos.served("/reviews/*").latency(2.0)             # what this process serves comes late

    ``chaos(7)`` begins anew with the seed 7; by default it is the test's (``mesh_seed``). ``injected`` lists what has happened.
    ``clock`` is what ``between`` and outages go by; latency goes by the clock of the mesh that makes the call.

    Where there is no fixture: ``with Chaos(seed, clock) as chaos``. It is for the calls of all meshes of this process, inside.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self.seed = seed
        self.clock = clock
        self._taking_part = contextlib.ExitStack()
        self._inside = self._serves = False
        self._begin()

    def __enter__(self) -> Self:
        self._taking_part.enter_context(taking_part(self))
        self._inside = True
        self._come_in()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._inside = self._serves = False
        self._taking_part.close()

    def _begin(self) -> None:
        self.rules: list[Rule | ServedRule] = []
        self.injected: deque[Injected] = deque(maxlen=KEPT)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, seed: int) -> Self:
        """Begin anew, with this seed and without any rules."""
        self.seed = seed
        self._begin()
        return self

    def on(
        self,
        host: str = "*",
        subset: str | None = None,
        *,
        endpoint: str | None = None,
        path: str | None = None,
        nth: Nth = None,
        rate: float = 1.0,
        between: tuple[float, float] | None = None,
    ) -> Where:
        """The attempts to a ``host`` (any of its names; "*": all), a ``subset``, an ``endpoint`` (``127.0.0.1:9081``), a
        ``path`` (of gRPC ``/package.Service/Method``; with a ``*`` at its end a prefix).

        Of these: the ``nth`` alone, counted from 1 (``nth=3``, ``nth={3, 5}``, ``nth=range(3, 6)``); a random part,
        ``rate=0.1``; those ``between=(start, end)`` seconds from now. An attempt is one try of a call: retries and hedges
        count. Raises ValueError for what no attempt can be: a rate that is not between 0 and 1, an ``nth`` that never comes, a
        ``between`` that ends before it begins, a path without ``/``, an endpoint without its port."""
        return Where(self, host, subset, endpoint, path, nth, rate, between)

    def served(
        self,
        path: str = "*",
        *,
        workload: str | None = None,
        nth: Nth = None,
        rate: float = 1.0,
        between: tuple[float, float] | None = None,
    ) -> Served:
        """The requests to a ``path`` (of gRPC ``/package.Service/Method``; with a ``*`` at its end a prefix) that this
        process serves with a mesh, or with the mesh of one ``workload``: through MeshASGIMiddleware (WebSockets too),
        MeshWSGIMiddleware and the interceptors of gRPC servers. The rest is as of ``on``."""
        return Served(self._add_served, self.seed, self.clock, path, workload, nth, rate, between)

    def play(self, outages: Iterable[Outage]) -> list[Rule]:
        """Have these happen, each at its time from now; see ``meshlib.testing.scenarios`` and ``strategies``."""
        rules = []
        for outage in outages:
            where = self.on(
                outage.host,
                outage.subset,
                endpoint=outage.endpoint,
                rate=outage.rate,
                between=(outage.start, outage.end),
            )
            rules.append(where.latency(outage.latency) if outage.kind == "latency" else getattr(where, outage.kind)())
        return rules

    def end(self) -> None:
        """Nothing goes wrong any more."""
        for rule in self.rules:
            rule.end()

    @property
    def unused(self) -> list[Rule | ServedRule]:
        """Rules that were about no attempt at all: their host may be written wrong, or the test makes no such call."""
        return [rule for rule in self.rules if not rule.seen]

    def warn_of_unused(self) -> None:
        """Warn with ``ChaosUnused`` if there are any, and of rules whose ``nth`` has never come."""
        for rule in self.rules:
            if rule.missed:
                why = f"none was its nth; does the test make that many {rule.events}?"
            elif rule.seen:
                continue
            elif isinstance(rule, ServedRule):
                why = "no such request was served; is its path written as it should be?"
            else:
                why = f"no attempt went there; {rule.named} should be?"
            warnings.warn(ChaosUnused(f"{rule}: {why}"), stacklevel=2)

    def __str__(self) -> str:
        left_out = len(self.injected) - SHOWN
        lines = list(map(str, self.rules))
        lines += [f"... {left_out} more"] if left_out > 0 else []
        lines += [f"  {injected}" for injected in list(self.injected)[-SHOWN:]]
        return "\n".join(lines)

    def plan(self, send: Send) -> Plan | None:
        """What happens to an attempt. See ``seam.Planner``."""
        plan: Plan | None = None
        with self._lock:
            for rule in self.rules:
                rng = rule._happens(send) if isinstance(rule, Rule) else None
                if rng is None or not isinstance(rule, Rule):
                    continue
                if plan is not None and plan.instead is not None:
                    continue  # it fails already
                rule.times += 1
                added = rule._plan(send, rng)
                spec = send.cluster.spec
                self.injected.append(
                    Injected(rule.kind, spec.host, spec.subset, send.endpoint.key, rule.seen, send.attempt)
                )
                plan = added if plan is None else plan.and_then(added)
        return plan

    def plan_served(self, request: Request) -> ServedPlan | None:
        """What happens to a request that is served. See ``doors.Planner``."""
        plan: ServedPlan | None = None
        with self._lock:
            for rule in self.rules:
                rng = rule._happens(request) if isinstance(rule, ServedRule) else None
                if rng is None or not isinstance(rule, ServedRule) or (plan is not None and plan.reset):
                    continue
                rule.times += 1
                added = rule.plan(rng)
                self.injected.append(Injected(rule.kind, request.workload, "", request.path, rule.seen, 0))
                plan = added if plan is None else plan.and_then(added)
        return plan

    def _add(self, make: Callable[[int], Made]) -> Made:
        with self._lock:
            rule = make(next(self._numbers))
            self.rules.append(rule)
            return rule

    def _add_served(self, make: Callable[[int], ServedRule]) -> ServedRule:
        rule = self._add(make)
        self._come_in()
        return rule

    def _come_in(self) -> None:
        """Stand between servers and their clients, once there is a rule of that."""
        if self._inside and not self._serves and any(isinstance(rule, ServedRule) for rule in self.rules):
            from meshlib.testing import doors

            standing = [doors.stand_in]
            if importlib.util.find_spec("grpc") is not None:  # else there are no such servers
                from meshlib.testing import grpc_doors

                standing.append(grpc_doors.stand_in)
            self._serves = True
            self._taking_part.enter_context(serving_with(self, standing))
