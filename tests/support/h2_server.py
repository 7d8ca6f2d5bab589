"""A small HTTP/2 server on h2 and threads, one per connection. Tests say what it answers and how it misbehaves.

``answer(peer, request)`` is called when a request has ended (``early=True``: when its head is there) and uses the methods
of ``Peer``, from any thread and at any time. Frames that h2 would refuse to send go out with ``Peer.raw``.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame

from tests.support.listening import stop_accepting

CODES = h2.errors.ErrorCodes
SETTINGS = h2.settings.SettingCodes


class Request:
    """A request as the server saw it."""

    def __init__(self, stream: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.stream = stream
        self.headers = [(bytes(name), bytes(value)) for name, value in headers]
        self.body = bytearray()
        self.ended = False

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    @property
    def path(self) -> str:
        return (self.header(b":path") or b"").decode()


class Peer:
    """One connection of the server."""

    def __init__(self, server: H2Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.lock = threading.RLock()
        config = h2.config.H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=dict(server.settings))
        self.requests: dict[int, Request] = {}
        self.resets: list[tuple[int, int]] = []  # what the client reset: stream and code
        self.goodbye: h2.events.ConnectionTerminated | None = None
        self.pings = 0
        self._fences: dict[bytes, Callable[[], None]] = {}
        self._sending: dict[int, tuple[bytes, list[tuple[bytes, bytes]] | None]] = {}

    # -- answers ----------------------------------------------------------------------------------------------------

    def respond(
        self,
        request: Request,
        body: bytes = b"ok",
        status: int = 200,
        headers: Iterable[tuple[bytes, bytes]] = (),
        trailers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """A whole answer; the body goes as the client's windows allow."""
        with self.lock, contextlib.suppress(h2.exceptions.StreamClosedError):  # the client may have reset it meanwhile
            self.head(request, status, headers, end=not body and trailers is None)
            if body or trailers is not None:
                self.data(request, body, trailers)

    def head(
        self, request: Request, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), end: bool = False
    ) -> None:
        """Only the head."""
        with self.lock:
            self.h2.send_headers(request.stream, [(b":status", b"%d" % status), *headers], end_stream=end)
            self.flush()

    def data(self, request: Request, body: bytes, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """All of the body, and the end."""
        with self.lock:
            self._sending[request.stream] = (body, trailers)
            self.push()

    def some(self, request: Request, data: bytes) -> None:
        """A piece of the body that is known to fit the windows, and no end."""
        with self.lock:
            self.h2.send_data(request.stream, data)
            self.flush()

    def push(self) -> None:
        """Go on with the bodies that wait for the client's windows."""
        for stream, (body, trailers) in list(self._sending.items()):
            try:
                while body:
                    size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
                    if size <= 0:
                        break
                    self.h2.send_data(stream, body[:size], end_stream=size == len(body) and trailers is None)
                    body = body[size:]
                if not body:
                    del self._sending[stream]
                    if trailers is not None:
                        self.h2.send_headers(stream, trailers, end_stream=True)
                else:
                    self._sending[stream] = (body, trailers)
            except (h2.exceptions.ProtocolError, KeyError):
                self._sending.pop(stream, None)  # the client has reset it
        self.flush()

    def reset(self, request: Request, code: int = CODES.INTERNAL_ERROR) -> None:
        """RST_STREAM."""
        with self.lock, contextlib.suppress(h2.exceptions.ProtocolError):
            self.h2.reset_stream(request.stream, code)
            self.flush()

    def refuse(self, request: Request) -> None:
        """RST_STREAM with REFUSED_STREAM."""
        self.reset(request, CODES.REFUSED_STREAM)

    def goaway(self, last: int = 2**31 - 1, code: int = 0) -> None:
        """GOAWAY, after which the connection goes on with the streams up to ``last`` (h2's own would end it)."""
        self.frames(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def settings(self, **values: int) -> None:
        """Change settings: ``settings(MAX_CONCURRENT_STREAMS=1)``."""
        with self.lock:
            self.h2.update_settings({SETTINGS[name]: value for name, value in values.items()})
            self.flush()

    def once_read(self, act: Callable[[], None]) -> None:
        """``act`` when the client has read all that was sent so far: it answers a PING."""
        with self.lock:
            number = (self.pings + len(self._fences)).to_bytes(8, "big")
            self._fences[number] = act
            self.h2.ping(number)
            self.flush()

    def frames(self, *frames: Frame) -> None:
        """Any frames at all."""
        self.raw(b"".join(frame.serialize() for frame in frames))

    def raw(self, data: bytes) -> None:
        """Any bytes at all."""
        with self.lock:
            self.flush()
            self._write(data)

    def flush(self) -> None:
        with self.lock:
            data = self.h2.data_to_send()
            if data:
                self._write(data)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def close(self) -> None:
        """FIN."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """RST, as when the process dies."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.shutdown(socket.SHUT_RD)
            self.sock.close()

    # -- what comes -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        if self.server.greeting is None:
            self.h2.initiate_connection()
            self.flush()
        else:
            self.h2.initiate_connection()
            self.h2.data_to_send()
            self._write(self.server.greeting)
        if self.server.on_connect is not None:
            self.server.on_connect(self)
        while True:
            data = self.sock.recv(65536)
            if not data:
                return
            if self.server.greeting is not None:
                continue
            with self.lock:
                for event in self.h2.receive_data(data):
                    self._handle(event)
                self.push()

    def _handle(self, event: Any) -> None:
        server = self.server
        if isinstance(event, h2.events.RequestReceived):
            request = self.requests[event.stream_id] = Request(event.stream_id, event.headers)
            server.requests.append(request)
            server.most = max(server.most, self.h2.open_inbound_streams)
            if server.early:
                server.answer(self, request)
        elif isinstance(event, h2.events.DataReceived):
            self.requests[event.stream_id].body += event.data
            if not server.hold_windows and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.requests[event.stream_id].ended = True
            if not server.early:
                server.answer(self, self.requests[event.stream_id])
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append((event.stream_id, int(event.error_code)))
            server.changed.set()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goodbye = event
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1
            act = self._fences.pop(event.ping_data, None)
            if act is not None:
                with contextlib.suppress(h2.exceptions.ProtocolError):  # the client has reset the stream meanwhile
                    act()


def answer_ok(peer: Peer, request: Request) -> None:
    """What the request was, in its answer."""
    peer.respond(request, b"%s %s" % (request.header(b":method"), request.path.encode()))


class H2Server:
    """``with H2Server(answer) as server: server.port``. ``settings`` are the server's SETTINGS; ``greeting`` replaces all
    that it ever says; ``hold_windows`` keeps what it received out of its windows."""

    def __init__(
        self,
        answer: Callable[[Peer, Request], None] = answer_ok,
        *,
        settings: dict[Any, int] | None = None,
        tls: ssl.SSLContext | None = None,
        greeting: bytes | None = None,
        on_connect: Callable[[Peer], None] | None = None,
        hold_windows: bool = False,
        early: bool = False,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.settings = {SETTINGS.MAX_CONCURRENT_STREAMS: 1000, **(settings or {})}
        self.tls = tls
        self.greeting = greeting
        self.on_connect = on_connect
        self.hold_windows = hold_windows
        self.early = early
        self.peers: list[Peer] = []
        self.requests: list[Request] = []
        self.most = 0  # streams open at a time on one connection
        self.connections = 0
        self.broken: list[Exception] = []  # what h2 held against clients, whose connection was closed for it
        self.changed = threading.Event()
        self._sock = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._sock.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def stop_listening(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._threads:
            stop_accepting(self._sock, self._threads[0])
        self._sock.close()

    def __exit__(self, *exc: object) -> None:
        self.stop_listening()
        for peer in list(self.peers):
            peer.close()
        for thread in self._threads:
            thread.join(60)

    @property
    def open_streams(self) -> int:
        """How many streams are open, as the server counts, over all connections."""
        total = 0
        for peer in list(self.peers):
            with peer.lock:
                total += peer.h2.open_inbound_streams
        return total

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        peer = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            peer = Peer(self, sock)
            self.peers.append(peer)
            peer.serve()
        except (OSError, ssl.SSLError):
            return
        except h2.exceptions.ProtocolError as error:
            self.broken.append(error)
        finally:
            if peer is not None:
                self.peers.remove(peer)
            sock.close()


def rst(stream: int, code: int) -> RstStreamFrame:
    """A RST_STREAM frame."""
    return RstStreamFrame(stream, error_code=code)
