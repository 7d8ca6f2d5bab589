"""What callers do next: drawn from a seed, so that a run can be repeated as far as its servers and threads allow."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

HTTP_HOSTS = {
    "steady.test": 4,
    "narrow.test": 4,
    "default.test": 3,
    "once.test": 3,
    "flap.test": 3,
    "moving.test": 2,
    "mirrored.test": 2,
    "guarded.test": 3,
    "outside": 2,
    "h2.test": 4,
    "h2default.test": 2,
    "h2once.test": 2,
}
METHODS = {"GET": 10, "POST": 8, "PUT": 2, "DELETE": 1}
FAULTS = {"": 80, "refuse": 2, "cut": 2, "503": 3, "midbody": 1, "slow": 6, "trickle": 3, "close": 3, "idle-close": 1}
WISHES = {"": 86, "cancel": 5, "timeout": 3, "abandon": 4, "drop": 2}
SIZES = (0, 0, 300, 3_000, 15_000)
BODIES = (0, 10, 1_000, 70_000)
BROKEN_ON_HTTP2 = {"close", "idle-close"}


@dataclass(slots=True)
class Plan:
    """One HTTP call."""

    id: str
    method: str
    host: str
    url: str
    headers: dict[str, str]
    body: bytes = b""
    streamed: bool = False
    size: int = 0
    asked: str = ""
    patience: float = 0.0  # seconds until the caller cancels or times out
    pieces: list[bytes] = field(default_factory=list)

    def content(self) -> bytes | Iterator[bytes] | None:
        """The body as a blocking client takes it."""
        if self.streamed:
            return iter(self.pieces)
        return self.body or None

    def content_async(self) -> bytes | AsyncIterator[bytes] | None:
        """The body as an asyncio client takes it."""
        if not self.streamed:
            return self.body or None

        async def pieces() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece

        return pieces()


def drawn(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


class Planner:
    """The calls of one worker."""

    def __init__(self, seed: int, worker: str, ports: list[int]) -> None:
        self.random = random.Random(f"{seed} {worker}")
        self._worker = worker
        self._ports = ports
        self._numbers = itertools.count()

    def name(self) -> str:
        """The next id; another in a forked child."""
        return f"{self._worker}-{os.getpid()}-{next(self._numbers)}"

    def plain(self, host: str, method: str = "GET", size: int = 300) -> Plan:
        """A call that nobody disturbs on purpose."""
        call = self.name()
        url = f"http://{host}/{call}"
        if host == "outside":
            port = self.random.choice(self._ports)
            url = f"http://{self.random.choice(['127.0.0.1', '127.0.0.2', 'flap-a.internal'])}:{port}/{call}"
        body = b"" if method in ("GET", "DELETE") else call.encode()
        return Plan(call, method, host, url, {"x-soak-id": call, "x-soak-size": str(size)}, body, size=size)

    def next(self, *, asynchronous: bool) -> Plan:
        rng = self.random
        plan = self.plain(drawn(rng, HTTP_HOSTS), drawn(rng, METHODS), rng.choice(SIZES))
        if plan.body:
            plan.body = (plan.id * 2 + "b" * rng.choice(BODIES)).encode()
            plan.streamed = rng.random() < 0.3
            if plan.streamed:
                cut = rng.randrange(len(plan.body))
                plan.pieces = [plan.body[:cut], plan.body[cut : cut + 5], plan.body[cut + 5 :]]
        if rng.random() < 0.5:
            plan.headers["x-half"] = "yes"
        asked = drawn(rng, WISHES)
        if asked:
            if asked == "cancel" and not asynchronous:
                asked = "timeout"
            plan.asked = asked
            plan.patience = rng.choice((0.0, 0.0005, 0.002, 0.005, 0.02, 0.06))
            if asked == "timeout":
                plan.patience = max(plan.patience, 0.0005)
            fault = rng.choice(("", "slow", "trickle"))
        else:
            fault = drawn(rng, FAULTS)
            if plan.host.startswith("h2") and fault in BROKEN_ON_HTTP2:
                fault = ""
            plan.asked = fault if fault in ("refuse", "cut", "503", "midbody") else ""
        if fault:
            plan.headers["x-soak-fault"] = fault
        return plan
