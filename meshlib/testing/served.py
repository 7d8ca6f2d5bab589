"""Chaos of served requests: what goes wrong between the clients of a server and its mesh, and to which requests. ``doors.py``
and ``grpc_doors.py`` make it happen."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from meshlib.testing.rules import Chance, Nth, Rule, after_of, matches, path_of, seconds_of

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.testing.outage import Kind
    from meshlib.transport.core.mesh_core import MeshCore

INJECTED: Final = "injected by meshlib.testing"
BROKEN: Final = f"Connection reset by peer ({INJECTED})"
CUT: Final = f"the connection was closed in the middle of the response ({INJECTED})"
LEFT: Final = f"the client closed the connection in the middle of its request ({INJECTED})"


class Request(NamedTuple):
    """A request that is served: by which workload, and its path (of gRPC ``/package.Service/Method``)."""

    workload: str
    path: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one. ``latency``: seconds that it comes later; ``reset``: it does not come at all, its connection breaks;
    ``request``: bytes of its body (of gRPC: messages) after which its client leaves; ``response``: the same of what it gets,
    -1: not even a head; ``why`` is what is said of that. None: it does not happen."""

    latency: float = 0.0
    reset: bool = False
    request: int | None = None
    response: int | None = None
    why: str = BROKEN

    def and_then(self, other: Plan) -> Plan:
        """Both: of two that cut, the first counts."""
        return Plan(
            self.latency + other.latency,
            self.reset or other.reset,
            other.request if self.request is None else self.request,
            other.response if self.response is None else self.response,
            other.why if self.response is None else self.why,
        )


class ServedRule(Rule[Request]):
    """A rule of served requests."""

    events = "served requests"

    def __init__(
        self,
        seed: int,
        clock: Clock,
        where: Served,
        kind: Kind,
        number: int,
        plan: Callable[[random.Random], Plan],
    ) -> None:
        super().__init__(seed, clock, where, kind, number)
        self.plan = plan


class Planner(Protocol):
    """Plans served requests. Asked from any thread; what it raises reaches the server."""

    def plan_served(self, request: Request) -> Plan | None: ...


_planners: tuple[Planner, ...] = ()
_lock = threading.Lock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


@contextlib.contextmanager
def taking_part(planner: Planner, doors: Sequence[Callable[[bool], None]]) -> Iterator[None]:
    """Inside, ``planner`` plans each request that a mesh of this process serves: ``doors`` are told whether anybody plans."""
    _change(lambda now: (planner, *now), doors)
    try:
        yield
    finally:
        _change(lambda now: tuple(other for other in now if other is not planner), doors)


def _change(how: Callable[[tuple[Planner, ...]], tuple[Planner, ...]], doors: Sequence[Callable[[bool], None]]) -> None:
    global _planners
    with _lock:
        _planners = how(_planners)
        for stand_in in doors:
            stand_in(bool(_planners))


def plan_of(core: MeshCore, path: str) -> Plan | None:
    """What happens to a request to ``path`` that a mesh serves."""
    live = core.live
    request = Request("" if live is None else live.snapshot.workload.name, path)
    found = None
    for planner in _planners:
        plan = planner.plan_served(request)
        if plan is not None:
            found = plan if found is None else found.and_then(plan)
    return found


def gone(why: str) -> ConnectionResetError:
    """What servers raise whose client has gone."""
    return ConnectionResetError(errno.ECONNRESET, why)


Make = Callable[[Callable[[int], ServedRule]], ServedRule]


class Served(Chance):
    """Which served requests: made by ``chaos.served``; its methods say what happens to them. Each returns its rule."""

    def __init__(
        self,
        add: Make,
        seed: int,
        clock: Clock,
        path: str,
        workload: str | None,
        nth: Nth,
        rate: float,
        between: tuple[float, float] | None,
    ) -> None:
        super().__init__(nth, rate, between, clock.monotonic())
        path_of(path)
        self._add = add
        self._seed = seed
        self._clock = clock
        self.path = path
        self.workload = workload

    def latency(self, seconds: float, *, jitter: float = 0.0) -> ServedRule:
        """They come so many ``seconds`` later, more or less by up to ``jitter``, by the clock of the mesh that serves them."""
        seconds_of("seconds", seconds)
        seconds_of("jitter", jitter)
        return self._rule("latency", lambda rng: Plan(max(0.0, seconds + jitter * (2 * rng.random() - 1))))

    def reset(self, *, after: int | None = None) -> ServedRule:
        """The connection breaks: before the mesh has seen the request; or ``after`` so many bytes of the response's body (of
        gRPC: messages)."""
        plan = Plan(reset=True) if after is None else Plan(response=after_of(after))
        return self._rule("reset", lambda _: plan)

    def lost_response(self) -> ServedRule:
        """The application does its work, and the client has gone before the response begins."""
        return self._rule("lost_response", lambda _: Plan(response=-1))

    def partial_body(self, after: int = 0) -> ServedRule:
        """The client leaves after so many bytes of the response's body (of gRPC: messages)."""
        after_of(after)
        return self._rule("partial_body", lambda _: Plan(response=after, why=CUT))

    def partial_request(self, after: int = 0) -> ServedRule:
        """The client leaves after so many bytes of its own body (of gRPC: messages)."""
        after_of(after)
        return self._rule("partial_request", lambda _: Plan(request=after))

    def __str__(self) -> str:
        said = [repr(self.path)]
        said += [f"{name}={value!r}" for name in ("workload", "nth") if (value := getattr(self, name)) is not None]
        return f"chaos.served({', '.join(said + self._chances())})"

    def _rule(self, kind: Kind, plan: Callable[[random.Random], Plan]) -> ServedRule:
        return self._add(lambda number: ServedRule(self._seed, self._clock, self, kind, number, plan))

    def _about(self, request: Request) -> bool:
        return (self.workload is None or self.workload == request.workload) and matches(request.path, self.path)
