"""``Chaos``: what goes wrong between a mesh and its endpoints, as a test says: the third attempt to reviews v2, one in ten to
ratings, everything for a minute. The same seed and the same calls have the same things go wrong, in every runtime."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import warnings
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from meshlib.testing import injections
from meshlib.testing.asserts import names
from meshlib.testing.outage import Kind
from meshlib.testing.seam import Plan, taking_part

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meshlib.clock import Clock
    from meshlib.engine.effects import Send
    from meshlib.engine.outcome import Outcome
    from meshlib.testing.outage import Outage

KEPT: Final = 10_000
"""Injections that ``Chaos.injected`` remembers."""
SHOWN: Final = 20


class ChaosUnused(UserWarning):
    """What was to go wrong was about no attempt at all."""


Nth = int | Container[int] | None


@dataclass(frozen=True, slots=True)
class Injected:
    """One thing that was made go wrong. ``nth``: which of the attempts that its rule is about; ``attempt``: its number within
    the call, from 1."""

    kind: Kind
    host: str
    subset: str
    endpoint: str
    nth: int
    attempt: int

    def __str__(self) -> str:
        where = f"{self.host}/{self.subset}" if self.subset else self.host
        again = f" (attempt {self.attempt} of its call)" if self.attempt > 1 else ""
        return f"{self.kind}: no. {self.nth} to {where} at {self.endpoint}{again}"


class Rule:
    """Something that goes wrong until ``end()``, or until the ``with`` block that it stands in is left. ``seen`` counts the
    attempts that it is about, ``times`` those that it has happened to."""

    def __init__(self, chaos: Chaos, where: Where, kind: Kind, number: int) -> None:
        self._chaos = chaos
        self._where = where
        self._random = f"{chaos.seed}/{number}"
        self.kind: Kind = kind
        self.seen = 0
        self.times = 0
        self.ended = False

    def end(self) -> None:
        """It happens no more: an endpoint that was down is up again."""
        self.ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<chaos: {self}>"

    def __str__(self) -> str:
        return f"{self._where}.{self.kind}(): {self.times} of {self.seen} attempts{', ended' if self.ended else ''}"

    def _happens(self, send: Send) -> random.Random | None:
        """The random numbers of this time; None: not to this attempt. Under the lock of ``chaos``."""
        where = self._where
        if self.ended or not where._about(send) or not where._now(self._chaos.clock.monotonic()):
            return None
        self.seen += 1
        # by the number of the attempt: in which order others come does not matter
        rng = random.Random(f"{self._random}/{self.seen}")
        if not where._nth_is(self.seen) or rng.random() >= where.rate:
            return None
        return rng

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
        called = getattr(send.call.request, "method_called", None)
        if called is not None and called.streaming:
            raise TypeError(
                f"chaos cannot do {self.kind} to {send.call.request.path}: its responses are a stream, which grpcio hands to "
                "the caller itself; use an upstream: upstreams.grpc(...).reset(after=...)"
            )
        return Plan(change=self._change(send))


class Where:
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
        self._chaos = chaos
        self.host = host
        self.subset = subset
        self.endpoint = endpoint
        self.path = path
        self.nth = nth
        self.rate = rate
        self._between = between
        self._made = chaos.clock.monotonic()

    def latency(self, seconds: float, *, jitter: float = 0.0) -> Rule:
        """They arrive so many ``seconds`` later, more or less by up to ``jitter``; one that would be later than its timeout
        allows times out. The mesh's own clock waits, so that on a fake one nobody does."""
        return self._chaos._add(lambda number: _Late(self._chaos, self, "latency", number, seconds, jitter))

    def reset(self, *, after: int | None = None) -> Rule:
        """The connection breaks: before the server has seen the request; or ``after`` so many bytes of the response's body (of
        a gRPC call: when the server has begun to respond)."""
        if after is None:
            return self._failing("reset", injections.reset)
        return self._changing("reset", lambda _: injections.cut(after, clean=False))

    def lost_response(self) -> Rule:
        """The server gets the request and does its work, and the connection breaks before the response begins."""
        return self._changing("lost_response", injections.lose)

    def partial_body(self, after: int = 0) -> Rule:
        """The server closes the connection ``after`` so many bytes of the response's body."""
        return self._changing("partial_body", lambda _: injections.cut(after, clean=True))

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
        said += [f"rate={self.rate:g}"] if self.rate < 1 else []
        said += [f"between={self._between}"] if self._between is not None else []
        return f"chaos.on({', '.join(said)})"

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
        if self.path is not None and not _matches(request.path, self.path):
            return False
        if self.host == "*":
            return True
        namespace = send.call.live.snapshot.workload.namespace
        return names(spec.host, self.host, namespace) or request.dialled.partition(":")[0] == self.host

    def _now(self, now: float) -> bool:
        if self._between is None:
            return True
        start, end = self._between
        return start <= now - self._made < end

    def _nth_is(self, number: int) -> bool:
        return self.nth is None or (number == self.nth if isinstance(self.nth, int) else number in self.nth)


def _matches(path: str, wanted: str) -> bool:
    return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted


class Chaos:
    """The fixture ``chaos``. ``chaos.on(...)`` says where, its methods what::

        chaos.on("reviews", "v2", nth=3).reset()            # the third attempt to reviews v2
        chaos.on("ratings", rate=0.1).reset()               # one in ten
        chaos.on("reviews").latency(2.0)
        with chaos.on("reviews", "v1").down(): ...          # dead; revived at the end of the block

    ``chaos(7)`` begins anew with the seed 7; by default it is the test's (``mesh_seed``). ``injected`` lists what has happened.
    ``clock`` is what ``between`` and outages go by; latency goes by the clock of the mesh that makes the call.

    Where there is no fixture: ``with Chaos(seed, clock) as chaos``. It is for the calls of all meshes of this process, inside.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self.seed = seed
        self.clock = clock
        self._taking_part = contextlib.ExitStack()
        self._begin()

    def __enter__(self) -> Self:
        self._taking_part.enter_context(taking_part(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._taking_part.close()

    def _begin(self) -> None:
        self.rules: list[Rule] = []
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
        count. Raises ValueError for a rate that is not between 0 and 1."""
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate {rate} is not between 0 and 1: one in ten is 0.1")
        return Where(self, host, subset, endpoint, path, nth, rate, between)

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
    def unused(self) -> list[Rule]:
        """Rules that were about no attempt at all: their host may be written wrong, or the test makes no such call."""
        return [rule for rule in self.rules if not rule.seen]

    def warn_of_unused(self) -> None:
        """Warn with ``ChaosUnused`` if there are any."""
        for rule in self.unused:
            warnings.warn(
                ChaosUnused(f"{rule}: no attempt went there; is its host written as it should be?"), stacklevel=2
            )

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
                rng = rule._happens(send)
                if rng is None:
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

    def _add(self, make: Callable[[int], Rule]) -> Rule:
        with self._lock:
            rule = make(next(self._numbers))
            self.rules.append(rule)
            return rule
