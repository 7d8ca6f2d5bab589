"""The responses of a connection whose requests were judged before they were forwarded: as its client gets them, with what a
proxy says of itself (``server_headers.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from meshlib.proxy.responder import Straight
from meshlib.proxy.server_headers import as_server

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.sidecar_headers import ProxyHeaders
    from meshlib.proxy.responder import StraightResponder
    from meshlib.transport.protocol.received_head import ReceivedHead
    from meshlib.transport.upstream.switched import AsyncSwitched


class ServedResponses(Straight):
    """``client``: whom they go to, one after another; ``settings`` are those of the request that is under way."""

    __slots__ = ("_client", "_clock", "settings")

    settings: ProxyHeaders

    def __init__(self, client: StraightResponder, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def pass_on(self, status: int, reason: bytes, head: ReceivedHead, more: bytes, whole: bytes) -> None:
        """As ``Straight``'s. ``more`` says how long it took, where that is to be said."""
        told = head.told
        if (
            told is None or told[0] is not self.settings or (made := told[1]) is None
        ):  # as ``as_server``, without a call
            made = cast("ReceivedHead", as_server(head, self.settings, self._clock))
        self._client.pass_on(status, reason, made, more, whole)

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """As ``Responder``'s, as are the others."""
        self._client.respond(status, reason, as_server(headers, self.settings, self._clock), whole, trailers)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        self._client.begin(status, reason, as_server(headers, self.settings, self._clock))

    def write(self, data: bytes) -> None:
        self._client.write(data)

    def end(self, trailers: RawHeaders | None) -> None:
        self._client.end(trailers)

    def cut(self) -> None:
        self._client.cut()

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        self._client.switch(status, reason, as_server(headers, self.settings, self._clock), upstream)

    @property
    def writable(self) -> bool:
        """Whether the client takes what is written."""
        return self._client.writable

    async def drained(self) -> None:
        """Until it does."""
        await self._client.drained()
