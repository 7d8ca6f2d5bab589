"""A request on its way to the wire: what the driver writes, attempt after attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.engine.call import NO_TIMEOUTS
from meshlib.engine.wire_headers import ATTEMPT_COUNT, shadow_host
from meshlib.policy.deadline import write as write_deadline

if TYPE_CHECKING:
    from meshlib.engine.call import CallerTimeouts
    from meshlib.engine.outcome import RawHeaders
    from meshlib.transport.httpx.view import HttpxView


class Wire:
    """``Call.wire`` for HTTP. ``request`` is the httpx request (an inner transport wants it), ``body`` None, bytes or a
    ``ReplayBody``."""

    __slots__ = ("base_headers", "body", "counted", "request", "target", "timeouts", "trace")

    protocol = "http"
    multiplexed = False
    """Whether any number of calls share a connection whatever the cluster says, so that none waits for a slot."""

    def __init__(self, request: Any, view: HttpxView, body: Any, timeouts: CallerTimeouts) -> None:
        self.request = request
        self.target = view.target  # rewritten by the rule, if it says so
        self.base_headers = view.raw_headers
        self.counted = False  # whether base_headers hold the number of the first attempt
        self.body = body
        self.timeouts = timeouts
        self.trace: Any = None  # the caller's trace extension, see transport/upstream/trace.py

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, where Envoy puts it: before what rules add."""
        self.counted = True
        return [*self.base_headers, (ATTEMPT_COUNT, b"1")]

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.base_headers if pair[0].lower() != name]
        self.base_headers = [*rest, (name, write_deadline(header, seconds).encode())]

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body."""
        body = self.body
        return body is None or type(body) is bytes or bool(body.replayable)

    @property
    def whole(self) -> bool:
        """Whether all of the body is at hand already."""
        body = self.body
        return body is None or type(body) is bytes or bool(body.ended)

    @property
    def sent(self) -> bool:
        """Whether all of the body has been seen by now, so that a copy of it can be sent elsewhere."""
        return self.whole

    def shadow(self) -> Wire:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        copy = Wire.__new__(Wire)
        copy.request, copy.timeouts, copy.body, copy.target = self.request, NO_TIMEOUTS, self.body, self.target
        copy.counted = self.counted
        copy.trace = None
        copy.base_headers = [
            (name, shadow_host(value)) if name.lower() == b"host" else (name, value)
            for name, value in self.base_headers
        ]
        return copy

    def headers(self, attempt: int) -> list[tuple[bytes, bytes]]:
        """The request's headers with the attempt's number, which tells a server (and a mesh behind it) of retries."""
        if not self.counted:
            return [*self.base_headers, (ATTEMPT_COUNT, b"%d" % attempt)]
        if attempt == 1:
            return self.base_headers
        return [pair if pair[0] != ATTEMPT_COUNT else (ATTEMPT_COUNT, b"%d" % attempt) for pair in self.base_headers]
