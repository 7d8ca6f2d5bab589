"""A connection of a client: requests that are laid out as those before them are taken at once (``head_layout.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.proxy.destination import SEEN
from meshlib.proxy.http1_downstream import Http1Downstream
from meshlib.proxy.laid_out_request import laid_out
from meshlib.transport.protocol.head_layout import layout_of
from meshlib.transport.protocol.http1_head import RequestHead
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Port
    from meshlib.transport.protocol.head_layout import HeadLayout

LOOKED_AT = 16
"""One in so many requests that nothing was known of is, the first among them, for what it has in common with others."""


class Http1LaidOut(Http1Downstream):
    """A connection of ``listener``."""

    __slots__ = ("_authority", "_host", "_layout")

    def __init__(self, listener: Port) -> None:
        super().__init__(listener)
        self._layout: HeadLayout | None = None  # of some of the requests before
        self._host: bytes | None = None  # what the last of them said
        self._authority = ""  # the same

    def _next(self) -> None:
        """As ``Http1Downstream``'s, for nearly all: with what is known of requests that are laid out so."""
        layout, reader = self._layout, self._reader
        if layout is None or reader.seen:  # a head that comes in pieces is not matched from its start at each
            Http1Downstream._next(self)
            return
        data = reader.rest
        found = layout.match(data)
        if (
            found is None
            or ((host := found[layout.host]) != self._host and not self._knows(host))
            or (target := found[1]).find(b"/.") >= 0
            or target.find(b"//") >= 0
            or not reader.takes(data)
        ):
            Http1Downstream._next(self)
            return
        lines, proto = data[layout.before + len(target) : -2], self._listener.proto
        request = None
        try:
            self._busy = True
            self._turn += 1
            self._to_head = layout.method == b"HEAD"
            if not proto:  # whoever serves it says that, and which request it is
                request = laid_out(layout, found, self._authority, lines, 0)
            elif layout.has_id or not self._mesh.proxy_headers.request_id:
                request = laid_out(layout, found, self._authority, lines + proto, 1)
            else:
                named = b"x-request-id: %b\r\n%b" % (self._listener.ids.take(), proto)
                request = laid_out(layout, found, self._authority, lines + named, 2)
            forwarding = self._forwarder.forward(request, self)
            if self._busy:  # the response may have been sent already
                self._forwarding = forwarding
        except Exception:  # noqa: BLE001 (a bug of ours or of a policy: the client gets a response, we the traceback)
            lower = b"\r\n" + lines.lower()
            self._broken(RequestHead(layout.method, target, lines, lower, host, layout.special))

    def _knows(self, host: bytes) -> bool:
        """Whether it is one that was found to be a host."""
        if host not in SEEN:
            return False
        self._host, self._authority = host, host.decode("latin-1")
        return True

    def _request_of(self, head: RequestHead) -> ProxyRequest:
        """Raises ``Refused``."""
        request = Http1Downstream._request_of(self, head)
        if self._turn % LOOKED_AT == 1 and not PLAIN:
            self._layout = layout_of(head) or self._layout
        return request
