"""Which resources a client sees: exportTo, gateways, and the order in which several claim one host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MESH_GATEWAY = "mesh"
IN_MESH = (MESH_GATEWAY,)


def exported_to(export_to: Sequence[str] | None, namespace: str, client_namespace: str) -> bool:
    """Whether a resource of ``namespace`` with this exportTo is visible from ``client_namespace`` (absent: everywhere)."""
    if not export_to:
        return True
    return any(to == "*" or (to == "." and namespace == client_namespace) or to == client_namespace for to in export_to)


def export_rank(export_to: Sequence[str] | None, namespace: str, client_namespace: str) -> int:
    """Order of claims on a host: own namespace only (0), exported to the client's namespace (1), public (2)."""
    if not export_to or "*" in export_to:
        return 2
    return 0 if namespace == client_namespace else 1


def names_gateway(gateways: Iterable[str] | None, gateway: str = MESH_GATEWAY) -> bool:
    """Whether a ``gateways`` list (absent: only the mesh) includes ``gateway``."""
    return gateway == MESH_GATEWAY if not gateways else gateway in gateways
