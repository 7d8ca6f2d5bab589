"""What the mesh's own connections need of a request beside what policy does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.engine.message import Request
from meshlib.transport.protocol.raw_head import Headers

if TYPE_CHECKING:
    from meshlib.transport.protocol.request_body import ReplayBody
    from meshlib.transport.upstream.trace import Trace


class NetworkRequest(Request, Protocol):
    """``body``: all of it, or what keeps it while it is sent, None without one. ``trace`` is told what happens on the wire."""

    @property
    def body(self) -> bytes | ReplayBody | None: ...
    @property
    def trace(self) -> Trace | None: ...
    def attempt_headers(self, attempt: int) -> Headers:
        """The headers with the number of the attempt."""
        ...
