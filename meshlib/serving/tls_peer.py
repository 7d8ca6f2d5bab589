"""What a handshake has told of the peer: its certificate, what stands behind it, and until when it counts."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from meshlib.transport.upstream.told_certificates import told_of

if TYPE_CHECKING:
    import asyncio

    from meshlib.alarms import Cancellable
    from meshlib.identity.credentials import Credentials

MOST_CHAINS = 4096
"""Chains that are remembered for sessions that resume, of one acceptor."""
NEVER = float("inf")


class HandshakeDone(Protocol):
    """An ``ssl.SSLObject`` or ``ssl.SSLSocket`` after its handshake."""

    @property
    def context(self) -> ssl.SSLContext: ...
    def getpeercert(self, binary_form: bool = ...) -> object: ...
    def version(self) -> str | None: ...
    def cipher(self) -> tuple[str, str, int] | None: ...
    def selected_alpn_protocol(self) -> str | None: ...


class Judged:
    """An open connection, as long as its peer is judged again (``tls_connections.py``). ``known``: the peer had an identity at
    the beginning; ``alarm``: when it is broken off."""

    __slots__ = ("alarm", "known", "transport")

    def __init__(self, transport: asyncio.Transport, known: bool) -> None:
        self.transport = transport
        self.known = known
        self.alarm: Cancellable | None = None


class TlsPeer:
    """``leaf``: what the peer has shown, DER; ``chain``: the intermediates between it and its root, as far as Python tells.
    ``roots``: those of which one has vouched for it, all that were trusted where Python does not tell which. ``until``:
    seconds since the epoch when the first certificate that it stands on ends, ours too. ``sni``: the name that it asked
    for."""

    __slots__ = (
        *("__weakref__", "alpn", "chain", "cipher", "credentials", "judged", "leaf", "roots", "sni", "until"),
        "version",
    )

    def __init__(
        self,
        credentials: Credentials,
        leaf: bytes,
        chain: Sequence[bytes] = (),
        roots: Sequence[bytes] = (),
        until: float = NEVER,
        sni: str = "",
    ) -> None:
        self.credentials = credentials
        self.leaf = leaf
        self.chain = tuple(chain)
        self.roots = frozenset(roots or credentials.bundles.roots)
        self.until = until
        self.sni = sni
        self.version = ""
        self.alpn = ""
        self.cipher = 0  # IANA's number; 0: not known
        self.judged: Judged | None = None  # for as long as who serves it keeps this

    def __repr__(self) -> str:
        return f"<TlsPeer {self.version} {self.alpn}>"


class Chains:
    """What was verified in full handshakes, by leaf: a session that resumes tells the leaf alone. Bounded; of one
    acceptor."""

    __slots__ = ("_by_leaf",)

    def __init__(self) -> None:
        self._by_leaf: dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...], float]] = {}

    def keep(self, leaf: bytes, chain: tuple[bytes, ...], roots: tuple[bytes, ...], until: float) -> None:
        """The intermediates, the root and the end of a leaf's chain."""
        if len(self._by_leaf) >= MOST_CHAINS:
            self._by_leaf.clear()
        self._by_leaf[leaf] = chain, roots, until

    def of(self, leaf: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...], float]:
        """What was kept; nothing but the leaf where nothing was."""
        return self._by_leaf.get(leaf, ((), (), NEVER))


def peer_of(done: HandshakeDone, credentials: Credentials, chains: Chains) -> TlsPeer | None:
    """The peer of a connection whose handshake has ended; None when it has shown no certificate."""
    leaf = done.getpeercert(True)
    if not isinstance(leaf, bytes) or not leaf:
        return None
    verified = _verified_chain(done)
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    if len(verified) > 1 and verified[0] == leaf:
        chain, roots = verified[1:-1], (verified[-1],)
        until = _end_of(done, verified)
        chains.keep(leaf, chain, roots, until)
    else:  # a session that has resumed, or a Python that does not tell
        chain, roots, until = chains.of(leaf)
    if until == NEVER:  # else the leaf was among those that were read
        until = _not_after(told_of(done, leaf) or {})  # raises ValueError of names that are not text
    until = min(until, credentials.svid.not_after)
    peer = TlsPeer(credentials, leaf, chain, roots, until, getattr(done, SNI, ""))
    peer.version = done.version() or ""
    peer.alpn = done.selected_alpn_protocol() or ""
    chosen = done.cipher()
    peer.cipher = 0 if chosen is None else _number(done.context, chosen[0])
    return peer


SNI = "_meshlib_sni"


def remember_sni(context: ssl.SSLContext) -> None:
    """Have the name that clients ask for kept at their connection, for ``peer_of``. It decides nothing: which context a
    connection has was settled when it was accepted (docs/architecture-servers.md says why)."""
    if context.sni_callback is None:
        context.sni_callback = _keep


def _keep(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
    setattr(connection, SNI, name or "")
    if name is not None and isinstance(connection, ssl.SSLSocket):
        connection.server_hostname = name  # where servers of WSGI look for it


MOST_ENDS = 1024
_ends: dict[bytes, float] = {}
"""When certificates end, by all of their bytes; seconds since the epoch. A date is no verdict: it is compared with the clock
each time."""


def _end_of(done: HandshakeDone, verified: Sequence[bytes]) -> float:
    """When the first of them ends."""
    try:
        return min(map(_ends.__getitem__, verified))
    except KeyError:
        pass
    infos = [get_info() for each in _asked(done) if (get_info := getattr(each, "get_info", None)) is not None]
    until = min(map(_not_after, infos), default=NEVER)
    if len(infos) == len(verified):
        if len(_ends) >= MOST_ENDS:
            _ends.clear()
        _ends.update(zip(verified, map(_not_after, infos), strict=True))
    return until


def _verified_chain(done: HandshakeDone) -> tuple[bytes, ...]:
    """DER, from the leaf to the root; nothing where Python does not tell."""
    found = []
    for each in _asked(done):
        if isinstance(each, bytes):
            found.append(each)
        else:
            der = getattr(each, "public_bytes", None)
            if der is None:
                return ()
            found.append(der(ENCODING_DER))
    return tuple(found)


ENCODING_DER = 2
"""``_ssl.ENCODING_DER``."""


def _asked(done: HandshakeDone) -> Sequence[object]:
    """CPython tells it since 3.10, in public (and as bytes) since 3.13; its inner object has more to tell."""
    inner = getattr(done, "_sslobj", done)
    ask = getattr(inner, "get_verified_chain", None) or getattr(done, "get_verified_chain", None)
    try:
        return (ask() if ask is not None else ()) or ()
    except (ValueError, ssl.SSLError):  # no handshake, or no certificate
        return ()


def _not_after(told: dict[str, object]) -> float:
    text = told.get("notAfter")
    return _seconds(text) if isinstance(text, str) else NEVER


@functools.lru_cache(maxsize=MOST_CHAINS)
def _seconds(text: str) -> float:
    """Since the epoch. Remembered: the same roots and intermediates stand behind nearly all clients, and to read a date takes
    as long as the rest of what ``peer_of`` does."""
    return float(ssl.cert_time_to_seconds(text))


_numbers: dict[str, int] = {}
"""Of cipher suites, by OpenSSL's names."""


def _number(context: ssl.SSLContext, name: str) -> int:
    if name not in _numbers:
        for each in context.get_ciphers():
            number = each.get("id")
            if isinstance(number, int):
                _numbers[str(each["name"])] = number & 0xFFFF
    return _numbers.get(name, 0)
