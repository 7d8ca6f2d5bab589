"""One request on an HTTP/2 connection of a client, its response, and who is told of it."""

from __future__ import annotations

from typing import Any, Protocol

from meshlib.engine.shared_keys import share_keys
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_request import RequestHead


@share_keys
class ServerStream:
    """One request and its response. Whoever serves it may derive from it what is made in its place (``streams`` of a
    session)."""

    # No slots: as ``http2_stream.Stream``.
    response_over = False

    def __init__(self, number: int, head: RequestHead, request_over: bool, began: float) -> None:
        self.id = number
        self.head = head
        self.request_over = request_over
        """Nothing more will come of the request."""
        self.began = began
        self.response_begun = False
        self.unread = 0
        """Bytes of the body that were told and not consumed yet."""


class Sink(Protocol):
    """Who is told what the client sends, in its order, stream by stream. It may give commands while it is told.
    ``stream`` is what the session makes of them."""

    def on_request(self, stream: Any) -> None:
        """A request has begun; ``stream.head.refused`` says why it must go no further, ``stream.request_over`` that it has no
        body."""

    def on_whole(self, stream: Any, data: bytes) -> None:
        """A request and all of its body, which is no more than a frame and is given back already: as ``on_request``,
        ``on_body`` and ``on_end`` in one, but that ``stream.request_over`` is true already."""

    def on_malformed(self) -> None:
        """There was a head that is none; its stream is reset."""

    def on_body(self, stream: Any, data: bytes) -> None:
        """A piece of its body, to be given back with ``consumed``."""

    def on_trailers(self, stream: Any, trailers: Head) -> None:
        """After the body."""

    def on_end(self, stream: Any) -> None:
        """Of the request, after ``on_request`` when that had not said so."""

    def on_reset(self, stream: Any, why: str) -> None:
        """The stream is over before its end: the client has given it up, has broken the protocol, or is gone."""

    def on_room(self, stream: Any) -> None:
        """There may be room for more of its response, of which ``send`` had not taken all."""
