"""Credentials of grpcio's servers that follow a mesh's identity: each handshake is made with the version that is current.

gRPC core asks for a configuration at the first handshake, or when the port is added, and again at each handshake. Without a
certificate of ours there is no configuration to give, and a port cannot be added without one: until there is a certificate,
it has one of a throw-away authority that nobody has the key of, so that every handshake fails.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

if TYPE_CHECKING:
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity

NOBODY = "spiffe://nobody.invalid/nobody"


def server_credentials(
    identity: Identity, now: float, *, one_port: bool = False, closed: Callable[[], bool] = lambda: False
) -> grpc.ServerCredentials:
    """For ``add_secure_port``: mTLS alone, TLS 1.2 or newer. Callers must show a certificate of one of our roots; whether
    it is valid by the rules of SPIFFE the mesh's interceptors judge, call by call.

    ``now``: seconds since the epoch. ``one_port``: they are for one port alone, where gRPC core keeps what it has made of a
    version (of a second port, nothing would respond to its first question). ``closed``: whether no handshake may succeed
    now; not with ``one_port``."""
    found = identity.current()
    none = nobody(now)
    first = none if found is None or closed() else configuration(found)
    fetch: Any = (
        _Fetch(identity, found) if one_port else functools.partial(_always, identity, none, closed)
    )  # may give None
    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)


def configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    """What gRPC core makes handshakes of."""
    svid = credentials.svid
    return grpc.ssl_server_certificate_configuration(
        [(svid.key_pem, svid.chain_pem)], root_certificates=credentials.bundles.pem.encode()
    )


def nobody(now: float) -> grpc.ServerCertificateConfiguration:
    """One with which no handshake succeeds: no key of its root is kept."""
    authority = Authority.root("nobody.invalid", now)
    svid = authority.issue(NOBODY, now)
    roots = TrustBundles({"nobody.invalid": (Authority.root("nobody.invalid", now).root_der,)})
    return grpc.ssl_server_certificate_configuration(
        [(svid.key_pem, svid.chain_pem)], root_certificates=roots.pem.encode()
    )


class _Fetch:
    """A configuration when there is another than last time."""

    __slots__ = ("_given", "_identity")

    def __init__(self, identity: Identity, given: Credentials | None) -> None:
        self._identity = identity
        self._given = given

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        found = self._identity.current()
        if found is None or found is self._given:
            return None
        made = configuration(found)
        self._given = found
        return made


def _always(
    identity: Identity, none: grpc.ServerCertificateConfiguration, closed: Callable[[], bool]
) -> grpc.ServerCertificateConfiguration:
    found = identity.current()
    return none if found is None or closed() else configuration(found)
