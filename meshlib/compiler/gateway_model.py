"""What a gateway listens on, compiled: ports, what tells their connections apart, and where these lead. Immutable, as all that
a ``Snapshot`` has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.routes import NO_TABLE

if TYPE_CHECKING:
    from meshlib.compiler.routes import PortTable, VirtualHost

ALPN = ("h2", "http/1.1")
"""Istio's, of every server that ends TLS."""


@dataclass(frozen=True, slots=True)
class GatewayChoice:
    """Which Gateways a process serves: those of ``names`` (namespace/name); none given: all whose selector fits the labels of
    its workload."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain, and its key: PEM, or the files that have them. ``source``: the Secret, by which it is known
    again when its content is another."""

    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    certificate_file: str = ""
    key_file: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class GatewayTls:
    """How a server ends TLS (``tls`` of a Gateway's server). Two that are equal are the same to clients: what is made of one
    serves for the other. ``mode`` is SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL; ``minimum`` and ``maximum`` are Istio's
    names of versions."""

    mode: str
    pairs: tuple[KeyPair, ...] = ()
    ca: bytes = field(default=b"", repr=False)
    ca_file: str = ""
    crl: bytes = field(default=b"", repr=False)
    crl_file: str = ""
    minimum: str = "TLSV1_2"
    maximum: str = "TLSV1_3"
    ciphers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """One of which (subjectAltNames) a client's certificate must have; none: any."""
    hashes: tuple[str, ...] = ()
    """SHA-256 of certificates, hex in lower case: that of a client must be one of these, or its key one of ``keys``."""
    keys: tuple[str, ...] = ()
    """SHA-256 of public keys (SPKI), in base64."""

    @property
    def asks_clients(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.mode != "SIMPLE"

    @property
    def needs_clients(self) -> bool:
        """Whether a client without one is refused."""
        return self.mode in ("MUTUAL", "ISTIO_MUTUAL")


@dataclass(frozen=True, slots=True, eq=False)
class Hosts:
    """The virtual hosts of a server's requests: of those that came over ``http`` (as X-Forwarded-Proto has it) and over
    ``https``, which httpsRedirect leaves alone."""

    plain: PortTable = NO_TABLE
    secure: PortTable = NO_TABLE


@dataclass(frozen=True, slots=True, eq=False)
class GatewayChain:
    """Connections that are served alike (a filter chain of Envoy). ``name`` stays the same from one configuration to the next:
    istiod's name of the routes, or of the rule. ``snis``: the server names that it is for, empty: any. ``alpn``: one of which a
    client must offer, empty: it need not. ``tls`` None: it is not ended here. ``http`` None: its bytes go where ``path`` leads.
    ``refusal``: why nobody is served, "" when they are. ``judged``: AuthorizationPolicies count for its connections."""

    name: str
    server: str  # Gateway/namespace/name servers[0]
    snis: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    tls: GatewayTls | None = None
    http: Hosts | None = None
    path: VirtualHost | None = None
    refusal: str = ""
    judged: bool = True


class GatewayPort:
    """A port that is listened on. ``number`` is that of the process (Istio's targetPort), ``server_port`` that of the Gateway;
    ``bind`` the address, "" for all. ``tls``: connections begin with TLS, and are told apart by what the first message
    names; ``plain`` is the one chain of a port that does not."""

    __slots__ = (
        "_any",
        "_exact",
        "_suffixes",
        "bind",
        "by_name",
        "chains",
        "number",
        "place",
        "plain",
        "server_port",
        "tls",
    )

    def __init__(
        self,
        number: int,
        server_port: int,
        bind: str,
        chains: Sequence[GatewayChain],
        *,
        tls: bool,
        place: str = "",
    ) -> None:
        self.number = number
        self.server_port = server_port
        self.bind = bind
        self.tls = tls
        self.chains = tuple(chains)
        self.place = place
        """Where it is written, for people: the server, with file and line."""
        self.plain = None if tls else chains[0] if chains else None
        self.by_name: Mapping[str, GatewayChain] = {chain.name: chain for chain in chains}
        self._exact: dict[str, GatewayChain] = {}
        self._suffixes: dict[str, GatewayChain] = {}
        self._any: GatewayChain | None = None
        for chain in chains if tls else ():
            self._add(chain)

    def _add(self, chain: GatewayChain) -> None:
        if not chain.snis or "*" in chain.snis:
            self._any = self._any or chain
            return
        for name in chain.snis:
            if name.startswith("*."):
                self._suffixes.setdefault(name[1:], chain)
            else:
                self._exact.setdefault(name, chain)

    def find(self, sni: str, alpn: Sequence[str] = ()) -> GatewayChain | None:
        """The chain of a connection over TLS that asks for ``sni`` ("" for none) and offers ``alpn``: of the exact name, else
        of the longest wildcard, else of those that are for any. None: nothing is for it."""
        name = sni.lower()
        found = self._exact.get(name)
        if found is None and name:
            at = name.find(".")
            while at >= 0 and found is None:
                found = self._suffixes.get(name[at:])
                at = name.find(".", at + 1)
        found = found or self._any
        if found is not None and found.alpn and not any(each in found.alpn for each in alpn):
            return None
        return found


Place = tuple[str, int]
"""Of a port: the address it is bound to ("" for all) and its number."""
