"""The workload as MESHLIB_* variables describe it."""

from __future__ import annotations

from collections.abc import Mapping

from meshlib.errors import MeshError
from meshlib.workload import Workload


def workload_from_env(environ: Mapping[str, str]) -> Workload:
    """MESHLIB_WORKLOAD, _NAMESPACE, _LABELS (``k=v,k=v``), _SERVICE_ACCOUNT, _TRUST_DOMAIN, _LOCALITY
    (``region/zone/subzone``), _ADDRESS (else INSTANCE_IP or POD_IP, which pods of Istio have). Raises ``MeshError`` for
    labels that are not pairs."""
    return Workload(
        name=environ.get("MESHLIB_WORKLOAD", "unknown"),
        namespace=environ.get("MESHLIB_NAMESPACE", "default"),
        labels=parse_labels(environ.get("MESHLIB_LABELS", ""), "MESHLIB_LABELS"),
        service_account=environ.get("MESHLIB_SERVICE_ACCOUNT", "default"),
        trust_domain=environ.get("MESHLIB_TRUST_DOMAIN", "cluster.local"),
        locality=environ.get("MESHLIB_LOCALITY", ""),
        address=environ.get("MESHLIB_ADDRESS") or environ.get("INSTANCE_IP") or environ.get("POD_IP", ""),
    )


def parse_labels(text: str, what: str) -> dict[str, str]:
    """``{"app": "reviews"}`` of ``app=reviews``. Raises ``MeshError`` naming ``what`` and the part that is not a pair."""
    labels = {}
    for pair in text.split(","):
        if not pair.strip():
            continue
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise MeshError(f"{what}: {pair!r} is not key=value; write it as app=reviews,version=v1")
        labels[key.strip()] = value.strip()
    return labels
