"""A caller's identity as handlers get it: a text, with what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest


class Principal(str):
    """The SPIFFE ID of a caller, such as ``spiffe://cluster.local/ns/shop/sa/web``; "" of one that has shown no certificate,
    or none with a valid identity. ``namespace`` and ``service_account`` are "" of identities that are not Kubernetes'."""

    __slots__ = ("namespace", "service_account", "trust_domain")

    trust_domain: str
    namespace: str
    service_account: str

    def __new__(cls, request: InboundRequest) -> Principal:
        found = super().__new__(cls, request.principal)
        peer = request.peer_id
        found.trust_domain = "" if peer is None else peer.trust_domain
        found.namespace = "" if peer is None else peer.namespace
        found.service_account = "" if peer is None else peer.service_account
        return found
