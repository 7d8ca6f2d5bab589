"""What upstreams of all protocols have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Self

from meshlib.testing.seam import Plan
from meshlib.testing.upstreams.script import PATIENCE, Gate, Request, S, Script

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.engine.effects import Send
    from meshlib.engine.outcome import Outcome
    from meshlib.testing.upstreams.listener import Listener, LoopThread

TOKEN: Final = "x-meshlib-attempt"
"""The header by which an upstream knows which step was reserved for a request. It is sent to nobody else, nor recorded."""
TOKEN_BYTES: Final = TOKEN.encode()


class Upstream(Generic[S]):
    """A server on loopback: an endpoint of ``host`` and ``subset``, at ``address``. ``requests`` lists what has arrived."""

    def __init__(self, thread: LoopThread, clock: Clock, host: str, subset: str, default: S) -> None:
        self.host = host
        self.subset = subset
        self._thread = thread
        self._clock = clock
        self._script: Script[S] = Script(default)
        self._gates: list[Gate] = []
        self.failures: list[Exception] = []
        """What functions of the test have raised while it served."""
        self._listener: Listener

    @property
    def name(self) -> str:
        """``host/subset``, or the host alone."""
        return f"{self.host}/{self.subset}" if self.subset else self.host

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self._listener.port

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, as ``endpoints=`` takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """In the order in which they arrived."""
        return self._script.requests

    @property
    def left(self) -> int:
        """Steps of the script that no request has come for yet."""
        return self._script.left

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.address}: {len(self.requests)} requests>"

    def gate(self) -> Gate:
        """A new ``Gate``, to hold responses with (``gate=``). When the test ends, what it holds is broken off."""
        made = Gate()
        self._gates.append(made)
        return made

    def wait_for_requests(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """Block until so many requests have arrived in all. Raises TimeoutError after ``seconds`` of the machine's time."""
        self._script.until(count, seconds)

    async def wait_for_requests_async(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """The same for a task."""
        await self._script.until_async(count, seconds)

    def stop(self) -> Self:
        """It dies: open connections are reset, new ones refused."""
        self._thread.run(self._listener.stop())
        return self

    def start(self) -> Self:
        """It is revived, at the same port."""
        self._thread.run(self._listener.start())
        return self

    def plan(self, send: Send) -> Plan | None:
        """A delay is waited for by whoever calls through a mesh, on the mesh's own clock, and the server does not sleep."""
        if not self._listener.listens:
            return None
        script, request = self._script, send.call.request
        token, step = script.reserve()
        request.headers = [
            *(pair for pair in request.headers if pair[0].lower() != TOKEN_BYTES),
            (TOKEN_BYTES, token.encode()),
        ]
        shown = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers[:-1])
        seen = Request(request.method, request.target.decode("latin-1"), shown, abandoned=True)

        def gave_up() -> None:
            script.take(token)
            script.record(seen)

        def sent(outcome: Outcome) -> None:
            if outcome.failure is not None:
                script.put_back(token)  # it may not have arrived: then the step is still there

        return Plan(latency=step.delay, gave_up=gave_up, sent=sent)

    def close(self) -> None:
        """For good."""
        self._thread.run(self._listener.close())
        for gate in self._gates:
            gate.open()
