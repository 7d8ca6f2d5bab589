"""The workload and its options as MESHLIB_* variables describe them."""

from __future__ import annotations

from collections.abc import Mapping

from meshlib.compiler.compile import HTTPS_RULES, HttpsRules
from meshlib.problems import MeshError
from meshlib.workload import DEFAULT_TRUST_DOMAIN, Workload


def workload_from_env(environ: Mapping[str, str]) -> Workload:
    """MESHLIB_WORKLOAD, _NAMESPACE, _LABELS (``k=v,k=v``), _SERVICE_ACCOUNT, _TRUST_DOMAIN, _LOCALITY
    (``region/zone/subzone``), _ADDRESS (else INSTANCE_IP or POD_IP, which pods of Istio have). Raises ``MeshError`` for
    labels that are not pairs."""
    return Workload(
        name=environ.get("MESHLIB_WORKLOAD", "unknown"),
        namespace=environ.get("MESHLIB_NAMESPACE", "default"),
        labels=parse_labels(environ.get("MESHLIB_LABELS", ""), "MESHLIB_LABELS"),
        service_account=environ.get("MESHLIB_SERVICE_ACCOUNT", "default"),
        trust_domain=environ.get("MESHLIB_TRUST_DOMAIN", DEFAULT_TRUST_DOMAIN),
        locality=environ.get("MESHLIB_LOCALITY", ""),
        address=environ.get("MESHLIB_ADDRESS") or environ.get("INSTANCE_IP") or environ.get("POD_IP", ""),
    )


def https_rules_from_env(environ: Mapping[str, str]) -> HttpsRules:
    """MESHLIB_HTTPS_RULES, "mesh" when it is not set. Raises ``MeshError`` for another word than "mesh" and "istio"."""
    value = environ.get("MESHLIB_HTTPS_RULES") or "mesh"
    for known in HTTPS_RULES:
        if value == known:
            return known
    raise MeshError(f"MESHLIB_HTTPS_RULES is {' or '.join(HTTPS_RULES)}, not {value!r}")


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
