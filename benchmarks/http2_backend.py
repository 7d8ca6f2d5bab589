"""An HTTP/2 backend (prior knowledge) faster than any client measured here: asyncio and nghttp2, 64 bytes. Prints its port;
ends with stdin."""

from __future__ import annotations

import asyncio

import ngh2

from benchmarks.backend import serve

HEADERS = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"64")]
BODY = b"x" * 64


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.connection = ngh2.Connection(ngh2.Role.SERVER)
        self.connection.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 1000})
        self.write()

    def write(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self.transport.write(data)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, ngh2.events.RequestReceived):
                self.connection.send_response(event.stream_id, HEADERS)
                self.connection.send_data(event.stream_id, BODY, end_stream=True)
        self.write()


if __name__ == "__main__":
    serve(Answering)
