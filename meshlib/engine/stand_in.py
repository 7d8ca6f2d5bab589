"""Whom a test says a request is from (``meshlib.testing.as_caller``), in the place of a connection that it does not have.

It reaches a server's door beside the request, as an object under a key of the ASGI scope or the WSGI environ. What comes over
a wire is texts and bytes, so no client can send one; and one counts only if it was made in this process, by ``StandIn``: a copy
or an object that looks like it is nobody.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from meshlib.policy.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest

STAND_IN = "meshlib.testing.caller"
"""The key, in both worlds. In WSGI what a client can name begins with ``HTTP_``."""


class StandIn:
    """A caller with the identity ``principal`` (a SPIFFE ID, "": none), the ``claims`` of a token that was found valid (None:
    no token) and the address ``source_ip`` ("": as the server says)."""

    __slots__ = ("__weakref__", "claims", "principal", "source_ip")

    def __init__(self, principal: str = "", claims: Mapping[str, object] | None = None, source_ip: str = "") -> None:
        self.principal = principal
        self.claims: Mapping[str, object] | None = None if claims is None else MappingProxyType(dict(claims))
        self.source_ip = source_ip
        _made.add(self)

    @property
    def request_principal(self) -> str:
        """``iss/sub`` of the claims, "" when one of them is missing."""
        claims = self.claims or {}
        issuer, subject = claims.get("iss"), claims.get("sub")
        return (
            f"{issuer}/{subject}" if isinstance(issuer, str) and isinstance(subject, str) and issuer and subject else ""
        )

    def __repr__(self) -> str:
        return f"<StandIn {self.principal or 'unauthenticated'}{' with claims' if self.claims is not None else ''}>"


_made: weakref.WeakSet[StandIn] = weakref.WeakSet()


def introduce(request: InboundRequest, caller: object) -> None:
    """Make ``request`` one of ``caller``, if that is a ``StandIn`` of this process."""
    if type(caller) is not StandIn or caller not in _made:
        return
    request.principal = caller.principal
    request.peer_id = SpiffeId.parse(caller.principal)
    request.mutual = bool(caller.principal)
    request.secure = request.secure or request.mutual
    request.claims = caller.claims
    request.request_principal = caller.request_principal
    if caller.source_ip:
        host = f"[{caller.source_ip}]" if ":" in caller.source_ip else caller.source_ip
        request.peer = f"{host}:0"
        request._source_ip = None
