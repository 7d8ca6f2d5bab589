"""One attempt: what goes on the wire, where to, and how long it may take. Made once by the runtime and handed on."""

from __future__ import annotations

from collections.abc import Callable

from meshlib.engine.call import NO_TIMEOUTS, CallerTimeouts
from meshlib.transport.protocol.raw_head import Headers
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.upstream.target import Target, smaller
from meshlib.transport.upstream.trace import Trace

BreakOff = Callable[[], None]
Watch = Callable[[BreakOff], None]


class Attempt:
    """``request_target`` as in the request line; ``headers`` with Host, a list or a raw head. ``head_timeout``: seconds from
    the first byte sent to the whole head of the response, None: no limit; less what was waited for the connection slot.
    ``deadline``: when all must be over, on the clock of the runtime that made this (threads: the mesh's; asyncio: the loop's).
    ``caller``: the limits of one step that the caller set: ``connect`` (TCP and TLS together), ``pool`` (the wait for a
    connection slot of the client's own limits), ``write`` and ``read`` (the longest silence in the middle of a body).
    ``trace`` is told what happens; ``watch`` is given what breaks the attempt off, as soon as there is something.
    """

    __slots__ = (
        "body",
        "caller",
        "deadline",
        "head_timeout",
        "headers",
        "method",
        "request_target",
        "target",
        "trace",
        "watch",
    )

    def __init__(
        self,
        method: bytes,
        request_target: bytes,
        headers: Headers,
        body: bytes | ReplayBody | None,
        target: Target,
        head_timeout: float | None = None,
        deadline: float | None = None,
        caller: CallerTimeouts = NO_TIMEOUTS,
        trace: Trace | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.method = method
        self.request_target = request_target
        self.headers = headers
        self.body = body
        self.target = target
        self.head_timeout = head_timeout
        self.deadline = deadline
        self.caller = caller
        self.trace = trace
        self.watch = watch

    @property
    def connect_limit(self) -> float | None:
        """Seconds that making a connection may take: the strictest of the target's, the caller's and the attempt's."""
        return smaller(smaller(self.target.connect_timeout, self.caller.connect), self.head_timeout)

    @property
    def slot_limit(self) -> float | None:
        """Seconds that it may wait for a connection slot."""
        return smaller(self.caller.pool, self.head_timeout)
