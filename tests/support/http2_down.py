"""A client's connection over HTTP/2 without sockets: its transport, loop and listener only note what they are told."""

from __future__ import annotations

import asyncio
import random

from hyperframe.frame import SettingsFrame

from meshlib.policy.request_ids import RequestIds
from meshlib.proxy.http2_downstream import Http2Downstream
from meshlib.transport.protocol.http2_client_frames import PREFACE
from tests.support.http2_client import GET, Client


class Transport(asyncio.Transport):
    """A socket; ``waiting``: bytes that the client has not read."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.waiting = 0

    def write(self, data) -> None:
        self.said.append("write")

    def set_protocol(self, protocol) -> None:
        """It goes on as another's."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.said.append("eof")

    def close(self) -> None:
        self.said.append("close")

    def abort(self) -> None:
        self.said.append("abort")

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def is_closing(self) -> bool:
        return "close" in self.said or "abort" in self.said

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Loop:
    """Time and timers."""

    def __init__(self) -> None:
        self.at = 0.0
        self.timers: list[tuple[float, object]] = []
        self.soon: list[object] = []

    def time(self) -> float:
        return self.at

    def call_later(self, seconds, call):
        self.timers.append((self.at + seconds, call))

    def call_soon(self, call, *args):
        self.soon.append(call)


class Listener:
    def __init__(self) -> None:
        self.forwarder = self
        self.loop = Loop()
        self.draining = False
        self.proto = b"x-forwarded-proto: http\r\n"
        self.core = self
        self.live = None
        self.said: list[str] = []
        self.refusals: list[int] = []

    def refused(self, refused, client, asked) -> None:
        self.refusals.append(refused.status)

    def broken(self, why, bug, client, flood=False) -> None:
        self.said.append(f"{'bug' if bug else 'broken'}: {why}")

    def opened(self, connection) -> None:
        self.said.append("opened")

    def closed(self, connection) -> None:
        self.said.append("closed")


def connected(draining: bool = False):
    listener = Listener()
    listener.draining = draining
    down, transport = Http2Downstream(listener), Transport()  # type: ignore[arg-type]
    down.connection_made(transport)
    return down, transport, listener


class Forwarding:
    def __init__(self) -> None:
        self.said: list[object] = []

    def client_takes(self, writable: bool) -> None:
        self.said.append(writable)

    def cancel(self, refused=None) -> None:
        self.said.append("cancel")


def called(respond=None):
    """A connection with one request for a body of any length, and what forwards it."""
    down, transport, listener = connected()
    forwarding, calls = Forwarding(), []
    listener.ids = RequestIds(random.Random(1))

    def forward(request, responder):
        calls.append(responder)
        if respond is not None:
            respond(responder)
        return forwarding

    listener.forward = forward
    client = Client(greet=False)
    head = client.head(1, GET).serialize()
    down.data_received(PREFACE + SettingsFrame(0).serialize() + head)
    return down, transport, listener, forwarding, calls
