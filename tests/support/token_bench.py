"""RequestAuthentications at work without a network: keys come from a script, time from a fake clock."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.drivers import run
from meshlib.engine.effects import Deliver, Serve, Sleep
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.inbound_state import InboundState
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.refusal import Refusal
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.fake_clock import FakeClock
from tests.support.tokens import Issuer, issuer

IDP = "https://idp.example.com"
KEYS = f"{IDP}/keys"


def request_authentication(
    *rules: dict[str, Any], name: str = "jwt", namespace: str = "default", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"jwtRules": list(rules), **spec},
    }


class Idp:
    """Answers for what is asked: by URL an Outcome, a Failure, a status, bytes, or a list of such, the last of which repeats.
    ``slow``: seconds that an answer takes."""

    def __init__(self, **documents: Any) -> None:
        self.documents: dict[str, Any] = documents
        self.asked: list[str] = []
        self.requests: list[Any] = []
        self.open = 0
        self.slow = 0.0

    def ask(self, request: Any, timeout: float | None) -> Generator[Any, None, None]:
        self.asked.append(f"{request.scheme}://{request.authority}{request.full_path}")
        self.requests.append((request, timeout))
        return self._answer(self.asked[-1])

    def _answer(self, url: str) -> Generator[Any, None, None]:
        self.open += 1
        try:
            if self.slow:
                yield Sleep(self.slow)
            made = self.documents.get(url, 404)
            if isinstance(made, list):
                made = made.pop(0) if len(made) > 1 else made[0]
            if isinstance(made, bytes):
                made = Outcome(status=200, whole=made)
            elif isinstance(made, Failure):
                made = Outcome(made, made.name.lower())
            elif isinstance(made, int):
                made = Outcome(status=made, whole=b"canary of the response")
            yield Deliver(made)
        finally:
            self.open -= 1


class Runtime:
    """Sleeps by the clock and runs what is spawned when the test says so."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.spawned: list[Any] = []

    def sleep(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def spawn(self, exchange: Any) -> None:
        self.spawned.append(exchange)

    def run_spawned(self) -> None:
        while self.spawned:
            exchange = self.spawned.pop(0)
            run(exchange, self)  # type: ignore[arg-type]
            exchange.close()


class TokenBench:
    """The servers of one mesh. ``send`` gives the request, as checks have left it, and what refused it."""

    def __init__(self, *resources: dict[str, Any], workload: Workload | None = None, **documents: Any) -> None:
        self.clock = FakeClock()
        self.idp = Idp(**documents)
        self.state = InboundState(self.clock, self.idp.ask)
        self.runtime = Runtime(self.clock)
        self.workload = workload or Workload()
        self.problems: list[Any] = []
        self.configure(*resources)

    def configure(self, *resources: dict[str, Any]) -> None:
        result = load_objects(resources)
        assert not result.errors, result.errors
        snapshot = compile_snapshot(result.resources, self.workload)
        self.problems = list(snapshot.problems)
        self.bound = self.state.take(snapshot.inbound)

    def check(self, request: InboundRequest) -> Generator[Any, None, None]:
        """The checks of a request as an exchange, for tests that step it."""
        for check in self.bound.of(request.port).checks:
            refusal = check(request)
            if isinstance(refusal, Generator):
                refusal = yield from refusal
            if refusal is not None:
                yield Serve(refusal)
                return
        yield Serve()

    def send(
        self,
        token: str | None = None,
        *headers: tuple[str, str],
        method: str = "GET",
        path: str = "/",
        query: str = "",
        **more: Any,
    ) -> tuple[InboundRequest, Refusal | None]:
        bearer = [] if token is None else [("authorization", f"Bearer {token}")]
        request = InboundRequest(method, path, [*bearer, *headers], query=query, authority="shop", **more)
        return request, run(self.check(request), self.runtime).refusal  # type: ignore[arg-type]

    def outcome(self, token: str | None = None, *headers: tuple[str, str], **more: Any) -> str:
        """The principal, "nobody", or why not."""
        request, refusal = self.send(token, *headers, **more)
        if refusal is not None:
            return f"{refusal.status} {refusal.text}"
        return request.request_principal or "nobody"

    def token(self, by: Issuer | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """One that is good for an hour."""
        given = {"iss": IDP, "sub": "jane", "exp": int(self.clock.time()) + 3600, **claims}
        return (by or issuer("ES256")).token({k: v for k, v in given.items() if v is not None}, header)
