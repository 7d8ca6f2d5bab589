"""PeerAuthentications, as people write them."""

from __future__ import annotations

from typing import Any


def peer_authentication(
    name: str, mode: str | None = "STRICT", *, namespace: str = "default", created: str = "", **labels: str
) -> dict[str, Any]:
    """``mode`` None: the policy has no ``mtls``. ``labels``: its selector."""
    spec: dict[str, Any] = {} if mode is None else {"mtls": {"mode": mode}}
    if labels:
        spec["selector"] = {"matchLabels": labels}
    metadata = {"name": name, "namespace": namespace}
    if created:
        metadata["creationTimestamp"] = created
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": spec}
