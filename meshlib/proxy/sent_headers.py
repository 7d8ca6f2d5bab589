"""The headers of a response as its client gets them: the outcome's, less and more by ``proxyHeaders.envoyDebugHeaders``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.transport.protocol.received_head import SERVICE_TIME, ReceivedHead

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.header_ops import Headers
    from meshlib.proxy.request import ProxyRequest

OVERLOADED = b"x-envoy-overloaded"


def took_line(took: int) -> bytes:
    """How long the upstream has taken to respond, in milliseconds, as a line of a head."""
    return b"%b: %d\r\n" % (SERVICE_TIME, took)


TOOK = {each: took_line(each) for each in range(100)}
"""``took_line`` of what most take."""


def sent_headers(call: Call[ProxyRequest], outcome: Outcome, local: bool) -> Headers:
    """``local``: the response is of our own making, which took no upstream any time."""
    if not call.live.snapshot.inbound.default.mesh.proxy_headers.debug:
        return [pair for pair in outcome.headers if pair[0].lower() != OVERLOADED] if local else outcome.headers
    if local:
        return outcome.headers
    headers, took = outcome.headers, b"%d" % (call.record.upstream_ms or 0)
    # in place of what a proxy behind this one has said, as Envoy sets it
    if type(headers) is ReceivedHead:
        return headers.without(SERVICE_TIME).plus(SERVICE_TIME, took)
    return [*untimed(headers), (SERVICE_TIME, took)]


def untimed(headers: Headers) -> list[tuple[bytes, bytes]]:
    """``headers`` without what a proxy behind this one says of how long it took."""
    return [pair for pair in headers if pair[0].lower() != SERVICE_TIME]
