"""mTLS of the mesh in tests: an authority, identities that rotate by hand, servers that remember what they were shown."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Self

from meshlib.alarms import Alarms
from meshlib.clock import Clock, SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.identity.identity import Identity
from meshlib.identity.source import Publish, Report
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.support.fake_clock import FakeClock
from tests.support.listening import stop_accepting

NOW = float(int(SystemClock.time()))
"""OpenSSL goes by the machine's clock, so certificates of tests do, too."""
DOMAIN = "cluster.local"
ROOT = Authority.root(DOMAIN, NOW)
OTHER_ROOT = Authority.root(DOMAIN, NOW)
BUNDLES = TrustBundles({DOMAIN: (ROOT.root_der,)})
CLIENT = f"spiffe://{DOMAIN}/ns/default/sa/client"
REVIEWS = f"spiffe://{DOMAIN}/ns/default/sa/reviews"
RATINGS = f"spiffe://{DOMAIN}/ns/default/sa/ratings"
SERVER_OFFER = ("h2", "http/1.1")


class WallClock(FakeClock):
    """Moves when told, from the machine's present on; ``jump`` moves the wall alone, as an operator's ``date -s`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def time(self) -> float:
        return NOW + self.now - 1000.0 + self.jumped

    def jump(self, seconds: float) -> None:
        self.jumped += seconds


class ByHand:
    """A source that tells what the test tells it."""

    what = "the test's hand"

    def __init__(self, *first: object) -> None:
        self.first = first

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        self.publish, self.report = publish, report
        if self.first:
            self.publish(*self.first)  # type: ignore[arg-type]

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def svid(identity: str = CLIENT, root: Authority = ROOT, *, ttl: float = 3600.0) -> Svid:
    """A new certificate, of an intermediate where ``root`` is one."""
    return root.issue(identity, NOW, ttl=ttl)


def bundles(*roots: Authority) -> TrustBundles:
    """Of one or more trust domains."""
    found: dict[str, tuple[bytes, ...]] = {}
    for root in roots:
        found[root.trust_domain] = (*found.get(root.trust_domain, ()), root.root_der)
    return TrustBundles(found)


def credentials(identity: str = REVIEWS, root: Authority = ROOT, trusts: TrustBundles = BUNDLES) -> Credentials:
    """Of a server that does not rotate."""
    return Credentials(svid(identity, root), trusts)


ALARMS = Alarms(FakeClock())
"""Of identities without a mesh: they ring never."""


def identity(
    first: Svid | None = None, trusts: TrustBundles = BUNDLES, *, start: bool = True
) -> tuple[Identity, ByHand]:
    """An identity and who rotates it; a mesh starts its own."""
    source = ByHand(*(() if first is None else (first, trusts)))
    made = Identity(source)
    if start:
        made.start(SystemClock(), ALARMS)
    return made, source


class Gate:
    """Stands for the ``SSLContext`` of a server: each connection takes the credentials that are current then. Remembers the
    handshakes: ``resumed`` (one flag each), ``refused`` (the errors), ``callers`` (leaf certificates), ``names`` (SNI)."""

    def __init__(self, shown: Credentials, offer: Sequence[str] = SERVER_OFFER, *, require_peer: bool = True) -> None:
        self.shown = shown
        self.offer = offer
        self.require_peer = require_peer
        self.versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None
        self.resumed: list[bool] = []
        self.selected: list[str | None] = []
        self.refused: list[OSError] = []
        self.callers: list[bytes | None] = []
        self.accepted: Callable[[ssl.SSLSocket], None] = lambda peer: None

    def wrap_socket(self, sock: socket.socket, server_side: bool = True) -> ssl.SSLSocket:
        context = self.shown.server_context(self.offer, require_peer=self.require_peer)
        if self.versions is not None:
            context.minimum_version, context.maximum_version = self.versions
        try:
            peer = context.wrap_socket(sock, server_side=server_side)
        except OSError as error:
            self.refused.append(error)
            raise
        self.resumed.append(bool(peer.session_reused))
        self.selected.append(peer.selected_alpn_protocol())
        self.callers.append(peer.getpeercert(True))
        self.accepted(peer)
        return peer


class MutualServer:
    """HTTP/1.1 over mTLS: 200 and a body of two bytes to each request, kept alive. ``received``: all application bytes of each
    connection. ``body``: may block, for a response that takes long."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.received: list[bytearray] = []
        self.connections = 0
        self.ended = 0
        self.respond: Callable[[ssl.SSLSocket], None] = lambda peer: peer.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        )
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._sock.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        stop_accepting(self._sock, self._threads[0])
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)

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
        received = bytearray()
        self.received.append(received)
        peer = sock
        self._open.add(peer)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = self.gate.wrap_socket(sock)
            self._open.add(peer)
            while data := peer.recv(65536):
                received += data
                if received.endswith(b"\r\n\r\n"):
                    self.respond(peer)
        except OSError:
            return
        finally:
            self._open -= {sock, peer}
            peer.close()
            self.ended += 1
