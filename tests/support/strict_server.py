"""An honest HTTP/1.1 server that reads requests with h11, answers each with its own path, and keeps connections alive."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Self

import h11

from tests.support.listening import stop_accepting


@dataclass
class Seen:
    """A request as h11 read it; ``whole`` when its body has ended."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = False


@dataclass
class StrictServer:
    """``requests`` in the order of their heads; ``broken`` what h11 refused to read."""

    requests: list[Seen] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._sock.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        stop_accepting(self._sock, self._threads[0])
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(60)

    @property
    def whole(self) -> list[bytes]:
        """The targets of the requests that came to their end."""
        return [seen.target for seen in self.requests if seen.whole]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        peer = h11.Connection(h11.SERVER)
        seen = Seen(b"", [])
        with contextlib.suppress(OSError), sock:
            while True:
                try:
                    event = peer.next_event()
                except h11.RemoteProtocolError as error:
                    self.broken.append(str(error))
                    return
                if event is h11.NEED_DATA:
                    if peer.they_are_waiting_for_100_continue:
                        sock.sendall(peer.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                    peer.receive_data(sock.recv(65536))
                elif isinstance(event, h11.Request):
                    seen = Seen(event.target, list(event.headers))
                    self.requests.append(seen)
                elif isinstance(event, h11.Data):
                    seen.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    seen.whole = True
                    answer = b"answer to " + seen.target
                    head = h11.Response(status_code=200, headers=[("content-length", str(len(answer)))])
                    for part in (head, h11.Data(data=answer), h11.EndOfMessage()):
                        sock.sendall(peer.send(part) or b"")
                    if peer.our_state is h11.MUST_CLOSE:
                        return
                    peer.start_next_cycle()
                else:
                    return
