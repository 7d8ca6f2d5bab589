"""What ``mesh.explain_inbound`` makes of its arguments: the request that a server would hand in, explained by the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from meshlib.compiler.authorization import policy_of, why_not_for
from meshlib.engine.explain_inbound import explain_inbound
from meshlib.engine.inbound_explanation import PolicyConsidered
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.client_address import ip_of
from meshlib.policy.spiffe_id import SCHEME, SpiffeId, why_not
from meshlib.problems import MeshError
from meshlib.resources.typed import AUTHORIZATION_POLICY
from meshlib.security.token_claims import SPACE_DELIMITED, split_claims
from meshlib.security.token_claims import principal as principal_of

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound
    from meshlib.engine.inbound_explanation import InboundExplanation
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.resources.base import Resource
    from meshlib.workload import Workload

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

PROTOCOLS = {"http": "http", "http2": "http", "https": "http", "grpc": "grpc", "grpc-web": "grpc"}
"""Istio's names of a port's protocol, and what the requests there are."""


def request_of(
    *,
    method: str | None,
    path: str,
    headers: Headers,
    host: str | None,
    principal: str,
    source_ip: str,
    port: int,
    sni: str,
    destination_ip: str,
    protocol: str,
    claims: Mapping[str, object] | None,
) -> tuple[InboundRequest, list[str]]:
    """The request, and notes about what a server would not take as it was told. Raises ``MeshError`` for what no request could
    be."""
    if not path.startswith("/"):
        raise MeshError(f"path must be what a request line has, such as /admin/users?page=2, not {path!r}")
    kind = PROTOCOLS.get(protocol.lower())
    if kind is None:
        raise MeshError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    notes: list[str] = []
    pairs = [*headers.items()] if isinstance(headers, Mapping) else [*headers]
    told = next((value for name, value in pairs if name.lower() in ("host", ":authority")), None)
    identity = _identity(principal, notes)
    plain, _, query = path.partition("#")[0].partition("?")
    request = InboundRequest(
        method or ("POST" if kind == "grpc" else "GET"),
        plain,
        [pair for pair in pairs if not pair[0].startswith(":")],
        protocol=kind,
        authority=told if host is None else host,
        query=query,
        peer=_address(source_ip, "source_ip"),
        local_ip=_address(destination_ip, "destination_ip"),
        port=port,
        sni=sni,
        principal="" if identity is None else identity.text,
        secure=bool(principal or sni),
        mutual=bool(principal),
    )
    request.claims = claims
    return request, notes


def explain_request(
    live: LiveMesh, request: InboundRequest, notes: Iterable[str], workload: Workload, resources: Iterable[Resource]
) -> InboundExplanation:
    """What becomes of it at the port that it comes to. ``resources``: all of the mesh, to say which policies are not for
    ``workload``."""
    settings = live.inbound.of(request.port).settings
    verify(settings, request)
    found = explain_inbound(settings, request, notes)
    others, elsewhere = _not_for(workload, settings.mesh.root_namespace, resources)
    if elsewhere:
        are = "AuthorizationPolicy of another namespace is" if elsewhere == 1 else "AuthorizationPolicies elsewhere are"
        notes = (*found.notes, f"{elsewhere} {are} not for this workload")
        found = replace(found, notes=notes)
    return replace(found, policies=(*found.policies, *others))


def _not_for(workload: Workload, root: str, resources: Iterable[Resource]) -> tuple[list[PolicyConsidered], int]:
    """The policies of the workload's namespace and the root namespace that do not select it, and how many others there are."""
    found: list[PolicyConsidered] = []
    elsewhere = 0
    for resource in AUTHORIZATION_POLICY.among(resources):
        why = why_not_for(resource, workload, root)
        if why and resource.namespace not in (workload.namespace, root):
            elsewhere += 1
        elif why:
            policy = policy_of(resource)
            reason = f"{policy.action}: not for this workload: {why}"
            found.append(PolicyConsidered(policy.id, policy.action, policy.dry_run, False, None, reason))
    return found, elsewhere


def verify(settings: Inbound, request: InboundRequest) -> None:
    """Make of the claims that were told those that a server knows once it has verified their token."""
    if request.claims is None:
        return
    issuer = request.claims.get("iss")
    words = set(SPACE_DELIMITED)
    for rule in () if settings.tokens is None else settings.tokens.rules:
        if rule.issuer in ("", issuer):
            words |= rule.split
    request.request_principal = principal_of(request.claims)
    request.claims = split_claims(request.claims, words)


def _identity(principal: str, notes: list[str]) -> SpiffeId | None:
    if not principal:
        return None
    text = principal if principal.startswith(SCHEME) else f"{SCHEME}{principal}"
    wrong = why_not(text)
    if wrong:
        notes.append(f"the principal {text} {wrong}: a server takes such a peer for one without identity")
    return SpiffeId.parse(text)


def _address(ip: str, name: str) -> str:
    if ip and not ip_of(ip):
        raise MeshError(f"{name} must be an IP address such as 10.0.0.1 or 2001:db8::1, not {ip!r}")
    return ip_of(ip)
