"""Routes by claims of a token that is not verified."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import CLAIMS_WITHOUT_AUTHENTICATION
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.gateway_hosts import MESH
from meshlib.analysis.index import Index, short_or_full
from meshlib.pace import take_turns
from meshlib.resources.typed import REQUEST_AUTHENTICATION, VIRTUAL_SERVICE

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService

_CLAIM = "@request.auth.claims"


def routes_by_claims(index: Index) -> Iterator[Finding]:
    """Matches by ``@request.auth.claims`` at gateways whose Pods no RequestAuthentication selects."""
    selectors: dict[str, list[ItemsView[str, str]]] = {}
    for request in index.of(REQUEST_AUTHENTICATION):
        labels = request.spec.selector.match_labels if request.spec.selector is not None else None
        selectors.setdefault(request.namespace, []).append((labels or {}).items())
    for service in index.analyzed(VIRTUAL_SERVICE):
        take_turns()
        found = _claim(service)
        if found is None:
            continue
        loc, key = found
        for name in service.spec.gateways or ():
            gateway = index.gateways.get(short_or_full(name, service.namespace)) if name != MESH else None
            if gateway is None:
                continue
            for pod in index.runs(gateway):
                asked = (*selectors.get(index.mesh_config.root_namespace, ()), *selectors.get(pod.namespace, ()))
                if not any(labels <= pod.labels.items() for labels in asked):
                    yield Finding(
                        CLAIMS_WITHOUT_AUTHENTICATION,
                        service,
                        loc,
                        f"{key} is matched at {gateway.id}, but no RequestAuthentication verifies tokens at {pod.title}",
                        f"add a RequestAuthentication in namespace {pod.namespace} that selects the gateway's Pods",
                    )
                    break


def _claim(service: VirtualService) -> tuple[Loc, str] | None:
    for number, rule in enumerate(service.spec.http or ()):
        for position, match in enumerate(rule.match or ()):
            for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                for key in headers or ():
                    if _is_claim(key):
                        return ("spec", "http", number, "match", position, field, key), key
    return None


def _is_claim(key: str) -> bool:
    if not key.lower().startswith(_CLAIM):
        return False
    rest = key[len(_CLAIM) :]
    return (rest.startswith(".") and len(rest) > 1) or (rest.startswith("[") and rest.endswith("]") and len(rest) > 2)
