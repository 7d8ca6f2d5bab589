"""A mesh whose server is asked request by request, by a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import meshlib
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from meshlib.transport.runtimes.serving import Server
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock

REVIEWS = Workload("reviews-v1", labels={"app": "reviews"})


def protection(
    name: str = "reviews", namespace: str = "default", spec: dict[str, Any] | None = None, **inbound: Any
) -> dict[str, Any]:
    """A ResiliencePolicy with ``spec.inbound``."""
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**(spec or {}), "inbound": inbound},
    }


class Door:
    """A door of servers without a protocol."""

    def __init__(self, *resources: dict[str, Any], workload: Workload = REVIEWS, **options: Any) -> None:
        self.clock = FakeClock()
        self.workload = workload
        self.mesh = meshlib.Mesh.from_resources(list(resources), workload=workload, clock=self.clock, **options)
        self.server = Server(self.mesh._core, self.mesh._telemetry_of_servers())

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.mesh.close()

    def apply(self, *resources: dict[str, Any]) -> None:
        """Other resources."""
        self.mesh.apply(list(resources))

    @property
    def state(self) -> Any:
        return self.mesh._core.inbound.protection

    @property
    def counts(self) -> dict[str, int]:
        """What mechanisms decided."""
        found: dict[str, int] = self.state.status()["counts"]
        return found

    def begin(self, path: str = "/", method: str = "GET", headers: Any = (), late: float = 0.0, queued: float = 0.0,
              claims: dict[str, Any] | None = None, **view: Any) -> tuple[InboundCall, Any, Refusal | None]:  # fmt: skip
        """A request up to its application: the call, its exchange, and what refused it (all is over then)."""
        request = InboundRequest(method, path, headers, **view)
        request.claims = claims
        call = self.server.call(request)
        call.late, call.queued = late, queued
        exchange = self.server.exchange(call)
        refusal = run(exchange, self.server.blocking).refusal
        if refusal is not None:
            finish(exchange)
        return call, exchange, refusal

    def ask(self, path: str = "/", **view: Any) -> Refusal | None:
        """A whole request that ends at once: what refused it."""
        _, exchange, refusal = self.begin(path, **view)
        if refusal is None:
            finish(exchange, Ended(200))
        return refusal

    def statuses(self, times: int, path: str = "/", **view: Any) -> list[int]:
        """Of so many requests, 0 when the application was called."""
        return [0 if (refusal := self.ask(path, **view)) is None else refusal.status for _ in range(times)]
