"""mTLS of the mesh on a connection that is made: our certificate is shown, the server's is judged after the handshake, before a
byte is sent, and sessions are resumed where that opens no hole.

A session is kept for one target and one version of our credentials (whose ``SSLContext`` OpenSSL binds it to), so that it dies
with the version; a resumed handshake verifies nothing, so the server is judged again by what was verified when the session
was made.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.identity.credentials import Credentials
from meshlib.identity.servers import Servers, Vouched
from meshlib.transport.upstream.refused_certificates import note_handshake

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster

HTTP1_OFFER = ("istio-http/1.1", "istio", "http/1.1")
HTTP2_OFFER = ("istio-h2", "istio", "h2")
OPAQUE_OFFER = ("istio",)
"""Of connections whose bytes are no HTTP: the server's sidecar forwards them unread."""
"""ALPN, as Istio's sidecars offer it."""

WORTHLESS = "the certificates of the mTLS connection are no longer valid: a root was removed, or one has expired"
"""Why a call is cut."""

FUTILE = 8
"""Sessions in a row that were offered to a server and that it has not resumed, after which no more are kept nor offered: to
copy one costs half a handshake, and CPython before 3.13 never frees one of the two copies that it makes. (A server without
tickets, as nginx has it, gives sessions over TLS 1.3 all the same, and knows them no more. Handshakes that offered nothing
do not count: a server may give a ticket now and then, as ``serving/tickets.py`` does.)"""

_NOTE = "_meshlib_vouched"
_OFFERED = "_meshlib_offered"


class _Kept(NamedTuple):
    """A session of one handshake's context, and how its server was judged."""

    session: ssl.SSLSession
    vouched: Vouched


class MutualTls:
    """Of one target. ``allowed``: the SPIFFE IDs that its server may have; ``wanted_by``: the resource that requires it;
    ``told`` is called with what each connection stands on."""

    __slots__ = ("_counted", "_futile", "_kept", "_servers", "allowed", "told", "wanted_by")

    def __init__(
        self, servers: Servers, allowed: tuple[str, ...], wanted_by: str, told: Callable[[Vouched], None] | None = None
    ) -> None:
        self._servers = servers
        self.allowed = allowed
        self.wanted_by = wanted_by
        self.told = told
        self._kept: dict[ssl.SSLContext, _Kept] = {}  # contexts are those of one version and offer
        self._counted: Credentials | None = None
        self._futile = 0  # sessions of these that were offered and not resumed, since the last that was

    def begin(self, http2: bool, opaque: bool = False) -> Handshake:
        """A handshake by the current credentials, for HTTP or for bytes of whatever kind. Raises ``NoCertificate``."""
        credentials = self._servers.credentials(self.wanted_by)
        context = credentials.client_context(OPAQUE_OFFER if opaque else HTTP2_OFFER if http2 else HTTP1_OFFER)
        return Handshake(self, credentials, context, self._kept.get(context))

    def judge(self, peer: ssl.SSLObject, credentials: Credentials, kept: _Kept | None) -> Vouched:
        """Who the server is, the handshake being done. Raises ``ServerRefused``."""
        leaf = peer.getpeercert(True)
        if peer.session_reused:
            assert kept is not None
            return self._servers.judge_again(leaf, kept.vouched, self.allowed)
        return self._servers.judge(leaf, verified_chain(peer), self.allowed, credentials)

    def keep_session(self, peer: ssl.SSLObject, vouched: Vouched) -> None:
        """Of a connection that no other thread uses at this moment: the next handshake may resume its session. Tickets come
        after the handshake, so ask once a response has been read."""
        context = peer.context
        if peer.session_reused:
            self._futile = 0
        else:
            if self._counted is not vouched.credentials:
                self._counted, self._futile = vouched.credentials, 0
            offered = peer.__dict__.get(_OFFERED)
            if offered is not None and self._kept.get(context) is offered:  # once, however many handshakes offered it
                self._futile += 1
                self._kept.pop(context, None)  # to offer it costs a fifth of a handshake, each time
            if self._futile >= FUTILE:
                return
        if context in self._kept:
            return  # its ticket may be used again, and to copy a session takes Python as long as half a handshake
        try:
            session = peer.session
        except (OSError, ValueError):
            return
        if session is None or not session.has_ticket:
            return
        for other, kept in list(self._kept.items()):
            if kept.vouched.credentials is not vouched.credentials:
                self._kept.pop(other, None)
        self._kept[context] = _Kept(session, vouched)

    def forget_sessions(self) -> None:
        """The server was refused: connections made with it before do not speak for it."""
        self._kept.clear()


def asked_by(cluster: Cluster) -> str:
    """What requires mTLS to the endpoints of a cluster, for people: its DestinationRule, unless that leaves it to auto mTLS."""
    rule = cluster.destination_rule if cluster.tls is not None else ""
    return rule or f"auto mTLS for {cluster.host}"


class Handshake:
    """Of one connection. Stands where asyncio wants an ``SSLContext``, as ``tls.Offering`` does."""

    __slots__ = ("_credentials", "_kept", "_tls", "context")

    def __init__(self, tls: MutualTls, credentials: Credentials, context: ssl.SSLContext, kept: _Kept | None) -> None:
        self._tls = tls
        self._credentials = credentials
        self._kept = kept
        self.context = context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As ``SSLContext.wrap_bio``."""
        session = None if self._kept is None else self._kept.session
        if isinstance(server_hostname, str):
            server_hostname = _encoded(server_hostname)
        return self.context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def done(self, peer: ssl.SSLObject) -> None:
        """The handshake is: judge the server, and note what the connection stands on. Raises ``ServerRefused``; not a byte may
        have been sent."""
        try:
            vouched = self._tls.judge(peer, self._credentials, self._kept)
        except BaseException:
            self._tls.forget_sessions()
            raise
        # on the object itself: between the handshake and the pool nobody else has a place for it
        peer.__dict__[_NOTE] = vouched
        if self._kept is not None and not peer.session_reused:
            peer.__dict__[_OFFERED] = self._kept
        if self._tls.told is not None:
            self._tls.told(vouched)
        note_handshake(peer)


@functools.lru_cache(1024)
def _encoded(name: str) -> bytes:
    """As ``ssl`` does for each connection anew, in 170 steps. Raises UnicodeError."""
    return name.encode("idna")


def vouched_of(peer: object) -> Vouched | None:
    """What was noted of a connection; None of one that is not mTLS of the mesh."""
    found = getattr(peer, _NOTE, None)
    return found if isinstance(found, Vouched) else None


def keep_session(tls: object, peer: object) -> None:
    """Of a connection whose ``tls`` is that of its target; nothing of one that is not mTLS of the mesh."""
    vouched = vouched_of(peer)
    if vouched is not None and isinstance(tls, MutualTls) and isinstance(peer, ssl.SSLObject):
        tls.keep_session(peer, vouched)


def verified_chain(peer: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain (DER) as OpenSSL has verified it, the leaf first and the root last; empty where it verified none."""
    public = getattr(peer, "get_verified_chain", None)
    if public is not None:  # since Python 3.13
        return tuple(public())
    import _ssl

    inner: Any = getattr(peer, "_sslobj", None)
    found = None if inner is None else inner.get_verified_chain()
    return tuple(each.public_bytes(_ssl.ENCODING_DER) for each in found or ())
