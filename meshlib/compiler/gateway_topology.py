"""``gatewayTopology`` of MeshConfig and of a workload's annotation, as a gateway acts on it: the annotation's fields count
before those of MeshConfig, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.policy.edge_headers import NO_PROXIES, Edge
from meshlib.policy.forwarded_client_cert import ForwardClientCert

if TYPE_CHECKING:
    from meshlib.resources.gateway_topology import GatewayTopology


def compile_topology(written: Sequence[GatewayTopology | None]) -> Edge:
    """Of all that is written, what counts most last."""
    found = NO_PROXIES
    for each in written:
        if each is None:
            continue
        if each.num_trusted_proxies is not None:
            found = replace(found, trusted=each.num_trusted_proxies)
        mode = each.forward_client_cert_details
        if mode is not None and mode != "UNDEFINED":
            found = replace(found, client_cert=ForwardClientCert(mode))
        if each.proxy_protocol is not None:
            found = replace(found, proxy_protocol=True)
    return found
