"""mTLS for gunicorn (>= 22; workers sync and gthread), by certificates that are followed. In ``gunicorn.conf.py``::

    from meshlib.gunicorn import ssl_context

    certfile, keyfile, ca_certs = "cert.pem", "key.pem", "bundle.pem"

gunicorn asks for a context for each connection that it accepts, so each has the certificate and the roots of that moment,
and a session of a root that was dropped does not resume. Clients must show a certificate of these roots. gunicorn speaks
TLS alone on a socket that has a certificate: that is STRICT, whatever PeerAuthentication says; ``meshlib serve`` speaks
both. The oldest TLS is the newest of what the meshes that the worker has made by then say
(MeshConfig's ``meshMTLS.minProtocolVersion``).
"""

from __future__ import annotations

import errno
import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from meshlib.alarms import Alarms
from meshlib.clock import SystemClock
from meshlib.identity.identity import Identity
from meshlib.problems import MeshError
from meshlib.serving.tls_connections import GRACE, why_over
from meshlib.serving.tls_minimum import strictest
from meshlib.serving.tls_peer import Chains, TlsPeer, peer_of, remember_sni

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from meshlib.identity.credentials import Credentials
    from meshlib.serving.tls_peer import HandshakeDone

__all__ = ["ssl_context"]

log = logging.getLogger("meshlib.gunicorn")

ALPN = ("http/1.1",)


class GunicornConfig(Protocol):
    """As much of gunicorn's as is asked for."""

    @property
    def certfile(self) -> str | None: ...
    @property
    def keyfile(self) -> str | None: ...
    @property
    def ca_certs(self) -> str | None: ...


def ssl_context(config: GunicornConfig, default_ssl_context_factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """gunicorn's hook of this name. Raises ``MeshError`` where ``certfile``, ``keyfile`` or ``ca_certs`` is not set, and
    ``ConnectionResetError``, which ends the connection, while there is no certificate that could be shown."""
    followed = _followed(config)
    credentials = followed.usable()
    if credentials is None:
        raise ConnectionResetError(errno.ECONNRESET, "we have no certificate to present")
    context = credentials.server_context(ALPN, minimum=_minimum())
    remember_sni(context)
    context.sslsocket_class = JudgedSocket
    setattr(context, OF, credentials)
    return context


def _minimum() -> ssl.TLSVersion:
    loaded = sys.modules.get("meshlib.mesh.alive")
    return strictest(() if loaded is None else loaded.cores())


OF = "_meshlib_credentials"
"""Whose context it is."""


class JudgedSocket(ssl.SSLSocket):
    """A connection on which nothing more is read when its peer has not been trusted for ``GRACE`` seconds: gunicorn takes
    that for a client that has gone. (Each request is judged by policies anyway.)"""

    _peer: TlsPeer | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As ``SSLSocket``'s; b"" when it is over."""
        return b"" if self._over() else super().recv(buflen, flags)

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        """The same."""
        return 0 if self._over() else super().recv_into(buffer, nbytes, flags)

    def _over(self) -> bool:
        followed = _current
        if followed is None or self._sslobj is None:  # type: ignore[attr-defined]
            return False
        if self._peer is None:
            if self.version() is None:
                return False  # no handshake yet
            credentials = getattr(self.context, OF, None)
            self._peer = (
                None if credentials is None else peer_of(cast("HandshakeDone", self), credentials, followed.chains)
            )
            if self._peer is None:
                return False
        return followed.over_for(self._peer) >= GRACE


class _Followed:
    """The files of one process."""

    def __init__(self, identity: Identity, files: tuple[str, ...]) -> None:
        self.pid = os.getpid()
        self.files = files
        self.chains = Chains()
        self._identity = identity
        self._clock = SystemClock()
        self._dropped: dict[bytes, float] = {}
        self._roots: frozenset[bytes] = frozenset()
        self._said = False
        identity.subscribe(self._rotated)
        identity.start(self._clock, Alarms(self._clock))

    def usable(self) -> Credentials | None:
        current = self._identity.current()
        if current is not None and current.svid.not_after > self._clock.time():
            self._said = False
            return current
        if not self._said:
            self._said = True
            log.error(
                "connections are reset: there is no certificate to present: %s",
                self._identity.problem or "it has expired",
            )
        return None

    def over_for(self, peer: TlsPeer) -> float:
        """Seconds since which this peer is not trusted; below 0: it is."""
        now = self._clock.time()
        if now >= peer.until:
            return now - peer.until
        if why_over(peer, self._identity.current(), now):
            return now - max((self._dropped.get(root, now) for root in peer.roots), default=now)
        return -1.0

    def _rotated(self, credentials: Credentials) -> None:
        roots = frozenset(credentials.bundles.roots)
        for root in self._roots - roots:
            self._dropped[root] = self._clock.time()
        for root in roots:
            self._dropped.pop(root, None)
        self._roots = roots


_current: _Followed | None = None
_lock = threading.Lock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


def _followed(config: GunicornConfig) -> _Followed:
    global _current
    found = _current
    files = (config.certfile or "", config.keyfile or "", config.ca_certs or "")
    if found is not None and found.pid == os.getpid() and found.files == files:
        return found
    with _lock:
        found = _current
        if found is None or found.pid != os.getpid() or found.files != files:
            names = ("certfile", "keyfile", "ca_certs")
            missing = [name for name, file in zip(names, files, strict=True) if not file]
            if missing:
                raise MeshError(
                    f"meshlib.gunicorn: set {', '.join(missing)} in gunicorn.conf.py, or on the command line"
                )
            found = _current = _Followed(Identity.from_files(*files, wait=True), files)
        return found
