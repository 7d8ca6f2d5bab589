"""The cases through meshlib: its own loader, compiler, router and exchange; only the network is replaced by an echo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.call import Call
from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Send
from meshlib.engine.live import Live
from meshlib.engine.outbound import outbound
from meshlib.engine.outcome import Outcome
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.workload import Workload
from tests.differential.referee.answers import Answer, request_headers, response_headers
from tests.differential.referee.generate import Case, Request, infrastructure
from tests.support.fake_clock import FakeClock


class Echo:
    """A runtime whose upstream answers at once with what Envoy's echo answers."""

    def __init__(self) -> None:
        self.sent: Send | None = None

    def send(self, effect: Send) -> Outcome:
        self.sent = effect
        headers = [(b"x-resp", b"1"), (b"access-control-allow-origin", b"up"), (b"content-length", b"0")]
        return Outcome(status=200, headers=headers, whole=b"")

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")

    acquire = spawn = sleep  # type: ignore[assignment]


def url_of(request: Request) -> Any:
    """As httpx makes it, for a fraction of the time."""
    host, _, port = request.authority.partition(":")
    return SimpleNamespace(
        scheme="http",
        raw_path=request.target.encode(),
        host=host,
        raw_host=host.encode(),
        port=int(port) if port else None,
        netloc=request.authority.encode(),
    )


class MeshSide:
    """Asks meshlib about any resources, as any client."""

    def __init__(self, resources: Sequence[dict[str, Any]], workload: Workload, seed: int = 0) -> None:
        result = load_objects(resources)
        assert not result.errors, [str(error) for error in result.errors]
        self._clock = FakeClock()
        self._rng = random.Random(seed)
        self._live = Live(compile_snapshot(result.resources, workload), self._clock.now)

    def ask(self, request: Request) -> Answer:
        """One request through the whole exchange."""
        raw = [(b"Host", request.authority.encode())]
        raw += [(name.encode(), value.encode()) for name, value in request.headers]
        if request.method in ("POST", "PUT", "PATCH"):
            raw.append((b"content-length", b"0"))
        seen: Any = SimpleNamespace(
            method=request.method,
            url=url_of(request),
            headers=SimpleNamespace(raw=raw),
            extensions={},
        )
        sent = HttpxRequest(seen, None)
        call = Call(sent, self._live, self._clock, self._rng)
        call.record = route(self._live.snapshot, sent)
        exchange = outbound(call)
        echo = Echo()
        delivered = run(exchange, echo)
        finish(exchange)
        outcome = delivered.outcome
        record = call.record
        name = record.rule_name if record.rule_object is not None else ""
        back = response_headers([(n.decode(), v.decode("utf-8", "surrogateescape")) for n, v in outcome.headers])
        if echo.sent is None:
            body = "" if request.method == "HEAD" else (outcome.whole or b"").decode()
            return Answer(name, outcome.status, body=body, response_headers=back)
        headers = [(n.decode(), v.decode("utf-8", "surrogateescape")) for n, v in sent.attempt_headers(1)]
        return Answer(
            name,
            outcome.status,
            echo.sent.cluster.spec.key,
            sent.method,
            sent.target.decode(),
            next((v for n, v in headers if n.lower() == "host"), ""),
            request_headers(headers),
            "",
            back,
        )


class OurSide(MeshSide):
    """Asks meshlib about the referee's cases."""

    def __init__(self, cases: Sequence[Case], seed: int = 0) -> None:
        super().__init__([*infrastructure(), *(case.service for case in cases)], Workload(), seed)
