"""A request on its way to the wire: what the driver writes, attempt after attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.engine.call import CallerTimeouts
    from meshlib.transport.view import HttpxView

ATTEMPT_COUNT = b"x-envoy-attempt-count"


class Wire:
    """``Call.wire`` for HTTP. ``request`` is the httpx request (an inner transport wants it), ``body`` None, bytes or a
    ``ReplayBody``."""

    __slots__ = ("base_headers", "body", "request", "target", "timeouts")

    def __init__(self, request: Any, view: HttpxView, body: Any, timeouts: CallerTimeouts) -> None:
        self.request = request
        self.target = view.target  # rewritten by the rule, if it says so
        self.base_headers = view.raw_headers
        self.body = body
        self.timeouts = timeouts

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body."""
        body = self.body
        return body is None or type(body) is bytes or bool(body.replayable)

    def headers(self, attempt: int) -> list[tuple[bytes, bytes]]:
        """The request's headers with the attempt's number, which tells a server (and a mesh behind it) of retries."""
        return [*self.base_headers, (ATTEMPT_COUNT, b"%d" % attempt)]
