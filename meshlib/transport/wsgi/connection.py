"""What a WSGI server tells of the connection: who is at its other end, and where it came to.

gunicorn hands its socket to applications (``gunicorn.socket``), and with it the certificate that the peer has shown;
of other servers every peer is unauthenticated. ``REMOTE_ADDR`` is the peer's address unless somebody has put another
there: what werkzeug's ``ProxyFix`` and the PROXY protocol write over is undone here, because ``ipBlocks`` means the
peer.
"""

from __future__ import annotations

import functools
import ssl
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from meshlib.identity.shown_chain import shown_chain
from meshlib.policy.client_address import PLAIN, ShownAddresses, ip_of

if TYPE_CHECKING:
    from meshlib.identity.peers import Peers
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.transport.wsgi.contracts import Environ

SOCKET = "gunicorn.socket"
PROXY_FIX = "werkzeug.proxy_fix.orig"
PROXIED = "PROXY_PROTOCOL"
MOST_REMEMBERED = 1024
"""Certificates, and sockets."""
WILDCARDS = frozenset(("0.0.0.0", "::"))


Peer: TypeAlias = "tuple[SpiffeId | None, bool, bool]"
"""Identity, whether it has shown a certificate that was verified, whether the connection is TLS."""


def peers_of(peers: Peers) -> Callable[[object], Peer]:
    """What a door asks who is at the other end of a socket, as ``peers`` judges it. It keeps, by their certificates, those who
    have an identity."""
    remembered: dict[bytes, SpiffeId] = peers.memo()
    return lambda sock: peer_of(sock, peers, remembered)


def peer_of(sock: object, peers: Peers, remembered: dict[bytes, SpiffeId] | None = None) -> Peer:
    """The peer at the other end of ``sock``. ``remembered``: identities by certificate, emptied when they may have changed."""
    ask = getattr(sock, "getpeercert", None)
    if ask is None:
        return None, False, False
    context = getattr(sock, "context", None)
    if context is not None and getattr(context, "verify_mode", None) == ssl.CERT_NONE:
        return None, False, True  # nobody has verified what it shows
    try:
        certificate = ask(binary_form=True)
    except (ValueError, OSError):  # no handshake yet, or no connection any more
        return None, False, True
    if not certificate:
        return None, False, True
    known = None if remembered is None else remembered.get(certificate)
    if known is None:
        version = peers.version
        known = peers.known(certificate) or peers.identity_of(certificate, shown_chain(sock))
        if remembered is not None and known is not None:
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
            remembered[certificate] = known
            if peers.version != version:  # a rotation meanwhile
                remembered.pop(certificate, None)
    return known, True, True


def is_tls(sock: object) -> bool:
    """Whether the connection is TLS."""
    return hasattr(sock, "getpeercert")


def sni_of(sock: object) -> str:
    """The name that the client asked TLS for, where the server's ``sni_callback`` keeps it as ``server_hostname``;
    else ""."""
    name = getattr(sock, "server_hostname", None)
    return name if isinstance(name, str) else ""


def peer_address(environ: Environ) -> str:
    """``127.0.0.1:4711``, ``[::1]:4711``; "" of a unix socket."""
    if PROXIED in environ:
        return _named(environ.get(SOCKET), "getpeername")
    told: Mapping[str, object] = environ
    if PROXY_FIX in environ:
        told = environ[PROXY_FIX]
    host = told.get("REMOTE_ADDR")
    return _address(host, environ.get("REMOTE_PORT")) if isinstance(host, str) else ""


addresses = ShownAddresses()
"""By REMOTE_ADDR and REMOTE_PORT."""


def plain_address(environ: Environ) -> str | None:
    """``peer_address``; None: it needs escapes."""
    if PROXY_FIX in environ or PROXIED in environ:  # of whom an application may have told since it came
        found = peer_address(environ)
        return None if PLAIN(found) is None else found
    told: tuple[object, object] | None = None
    try:
        told = environ["REMOTE_ADDR"], environ["REMOTE_PORT"]
        return addresses[told]
    except (KeyError, TypeError):
        found = peer_address(environ)
        if told is None or type(told[0]) is not str or type(told[1]) is not str:
            return None if PLAIN(found) is None else found
        return addresses.keep(told, found)


def local_ip_of(environ: Environ) -> str:
    """The IP that the connection came to, "" when nothing says so."""
    sock = environ.get(SOCKET)
    if not _tells(sock):
        name = _before_proxies(environ).get("SERVER_NAME")
        found = ip_of(name) if isinstance(name, str) else ""
        return "" if found in WILDCARDS else found
    return ip_of(_named(sock, "getsockname"))


Where: TypeAlias = tuple[str, str]
"""What decides where a connection came to, and the server name that TLS was asked for."""
_where: dict[int, tuple[weakref.ref[object], Where]] = {}
"""By the ``id`` of a socket, as long as it is that one: what it says does not change, and to ask is a call into the system."""


def local_facts(sock: object) -> Where:
    """Of a connection on which a request has come: so TLS is there."""
    kept = _where.get(id(sock))
    if kept is not None and kept[0]() is sock:
        return kept[1]
    name = _asked(sock, "getsockname")
    found = str(name), sni_of(sock) if is_tls(sock) else ""
    if name is None:  # closed by now
        return found
    try:
        who = weakref.ref(sock)
    except TypeError:  # what stands for a socket in tests
        return found
    if len(_where) >= MOST_REMEMBERED:
        _where.clear()
    _where[id(sock)] = who, found
    return found


def local_port_of(environ: Environ) -> int:
    """The port that the connection came to; 0 when nothing says so that its client could not have made up."""
    if ("REMOTE_PORT" not in environ or PROXIED in environ) and _tells(environ.get(SOCKET)):
        # perhaps a unix socket: gunicorn makes a port of Host then
        name = _asked(environ[SOCKET], "getsockname")
        return name[1] if isinstance(name, tuple) and isinstance(name[1], int) else 0
    port = environ.get(PROXY_FIX, environ).get("SERVER_PORT")
    return _port(port) if isinstance(port, str) else 0


def _tells(sock: object) -> bool:
    """Whether it says where it is. (What stands for a socket in tests may know the peer's certificate alone.)"""
    return getattr(sock, "getsockname", None) is not None


def _before_proxies(environ: Environ) -> Mapping[str, object]:
    found: Mapping[str, object] = environ.get(PROXY_FIX, environ)
    return found


@functools.lru_cache(256)
def _port(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536 else 0


def _address(host: str, port: object) -> str:
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{port}" if port else host


def _named(sock: object, question: str) -> str:
    name = _asked(sock, question)
    return _address(str(name[0]), name[1]) if isinstance(name, tuple) else ""


def _asked(sock: object, question: str) -> object:
    ask = getattr(sock, question, None)
    try:
        return None if ask is None else ask()
    except OSError:
        return None
