"""A connection that begins with a header of the PROXY protocol: who its client is, says the load balancer before us."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.proxy.first_words import FirstWords, Waits
from meshlib.proxy.listener import where
from meshlib.proxy.splice import DIRECT
from meshlib.transport.protocol.proxy_protocol import NotProxied, header_of

if TYPE_CHECKING:
    from collections import Counter

    from meshlib.proxy.responder import Downstream
    from meshlib.transport.protocol.proxy_protocol import ProxyHeader

log = logging.getLogger("meshlib.proxy")

_AS_BELOW = (
    *(
        "write",
        "writelines",
        "close",
        "abort",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "is_reading",
        "write_eof",
    ),
    *("can_write_eof", "get_write_buffer_size", "get_write_buffer_limits", "set_write_buffer_limits"),
    *("get_protocol", "set_protocol"),
)


class Addressed(asyncio.Transport):
    """``below`` with the addresses that ``header`` tells; all else is its own, at no cost."""

    def __init__(self, below: asyncio.Transport, header: ProxyHeader) -> None:
        super().__init__()
        self._below = below
        self._told = {
            "peername": header.source,
            "sockname": header.destination,
            DIRECT: below.get_extra_info("peername"),
        }
        for name in _AS_BELOW:
            setattr(self, name, getattr(below, name, None))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = self._told.get(name)
        return self._below.get_extra_info(name, default) if found is None else found


class Gate(Waits, Protocol):
    """A listener behind a load balancer."""

    counts: Counter[str]

    def passed_on(self, connection: Downstream, /) -> None: ...
    def behind(self) -> asyncio.Protocol: ...


class Proxied(FirstWords["Gate"]):
    """Until its header is there."""

    def data_received(self, data: bytes) -> None:
        self._first += data
        try:
            header = header_of(self._first)
        except NotProxied as error:
            self._listener.counts["not_proxied"] += 1
            log.debug("a connection of %s is closed: %s", where(self.transport.get_extra_info("peername")), error)
            self._listener.greeted(self)
            self.transport.abort()
            return
        if header is not None:
            self._go_on(header)

    def _go_on(self, header: ProxyHeader) -> None:
        listener, below = self._listener, self.transport
        listener.greeted(self)
        listener.passed_on(self)
        transport = below if header.source is None else Addressed(below, header)
        protocol = listener.behind()
        below.set_protocol(protocol)
        protocol.connection_made(transport)
        rest = self._first[header.size :]
        if rest and not below.is_closing():
            below.get_protocol().data_received(rest)
