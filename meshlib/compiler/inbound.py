"""What a workload does to the requests it serves, port by port: who may come in, what is limited, which faults are injected;
and the service it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from meshlib.compiler.authorization import compile_authorization, custom_rules
from meshlib.compiler.custom import compile_custom, unusable
from meshlib.compiler.declared_ports import NONE_DECLARED, DeclaredPorts, declared_ports
from meshlib.compiler.inbound_filters import NO_FILTERS, SIDECAR, PortFilters, compile_filters
from meshlib.compiler.inbound_protection import Protection, compile_protection, serves
from meshlib.compiler.mesh_settings import DEFAULTS, MeshSettings
from meshlib.compiler.peer_authentication import PeerAuthentications, PortMode
from meshlib.compiler.peer_authentication import problems as peer_authentication_problems
from meshlib.compiler.request_authentication import compile_request_authentications
from meshlib.compiler.token_rules import TokenRules
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.inbound_view import InboundView
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.compiler.custom import Clusters, Custom
    from meshlib.compiler.kinds import Kinds
    from meshlib.problems import Problem
    from meshlib.registry.service import Service as Registered
    from meshlib.resources.kubernetes import Service
    from meshlib.workload import Workload

Check = Callable[[InboundView], Refusal | None]
"""None lets a request in."""


@dataclass(frozen=True, slots=True, eq=False)
class Inbound:
    """What happens to requests before the application: what is compiled here is put to work, in its order, by
    ``engine.inbound_state``; ``checks`` are such as need no state, asked first. ``service`` is the full host of the (oldest)
    Kubernetes service of this workload, "" when there is none."""

    checks: tuple[Check, ...] = ()
    faults: tuple[FaultPolicy, ...] = ()
    service: str = ""
    resources: tuple[str, ...] = ()  # EnvoyFilters that the faults come from
    mesh: MeshSettings = DEFAULTS
    protection: Protection | None = None
    tokens: TokenRules | None = None  # RequestAuthentications
    custom: tuple[Custom, ...] = ()
    authorization: Authorization | None = None  # AUDIT, DENY and ALLOW of AuthorizationPolicies
    limits: PortFilters = NO_FILTERS
    mtls: MtlsMode = MtlsMode.PERMISSIVE
    mtls_policy: str = ""  # the PeerAuthentication that says so (namespace/name), "" when none does
    mtls_broken: str = ""  # why that cannot be read, "" when it can


NOTHING = Inbound()


@dataclass(frozen=True, slots=True, eq=False)
class InboundPorts:
    """What happens to requests by the port that they came to: what is said of a port counts there instead of ``default``.
    ``declared``: the ports that Services give the workload."""

    default: Inbound = NOTHING
    ports: Mapping[int, Inbound] = field(default_factory=dict)
    declared: DeclaredPorts = NONE_DECLARED

    @property
    def service(self) -> str:
        """The service of the workload, whatever the port."""
        return self.default.service

    @property
    def custom(self) -> tuple[Custom, ...]:
        """The authorizers that are asked, whatever the port."""
        return self.default.custom

    def serving(self, service: str, declared: DeclaredPorts) -> InboundPorts:
        """The same for a workload that has become one of another service, or whose Services declare other ports."""
        ports = {port: replace(inbound, service=service) for port, inbound in self.ports.items()}
        return InboundPorts(replace(self.default, service=service), ports, declared)

    def of(self, port: int) -> Inbound:
        """``port`` 0: the server does not tell. Where some port is STRICT that counts as STRICT."""
        return self.ports.get(port, self.default)


NO_INBOUND = InboundPorts()


def compile_inbound(
    kinds: Kinds,
    workload: Workload,
    domain: str,
    mesh: MeshSettings,
    find: Callable[[str], Registered | None],
    clusters: Clusters,
    peers: PeerAuthentications,
    context: str = SIDECAR,
) -> tuple[InboundPorts, list[Problem]]:
    """For the server of ``workload``, or (``context``) the gateway that it is, of which PeerAuthentication says nothing.
    ``find`` gives the service of a host that it sees, ``clusters`` what checks ask. Notices are about all resources, whichever
    workloads they select."""
    filters = compile_filters(kinds.envoy_filters, kinds.services, workload, mesh, context)
    if filters.proxied:
        mesh = replace(mesh, edge=replace(mesh.edge, proxy_protocol=True))
    service = own_service(kinds.services, workload, domain)
    protection, about_protection = compile_protection(kinds.resilience_policies, kinds.services, workload, domain, mesh)
    tokens, about_tokens = compile_request_authentications(kinds.request_authentications, workload, mesh)
    policies = compile_authorization(kinds.authorization_policies, workload, mesh)
    custom = compile_custom(custom_rules(policies.custom, mesh.path_normalization), mesh, find, clusters)
    about_custom = unusable(custom, policies.custom, kinds.authorization_policies)
    default = Inbound(
        (),
        filters.faults,
        service,
        filters.fault_sources,
        mesh,
        protection,
        tokens,
        custom,
        authorization=policies.authorization,
        limits=filters.default,
    )
    problems = [
        *filters.problems,
        *peer_authentication_problems(kinds.peer_authentications, mesh.root_namespace),
        *about_protection,
        *about_tokens,
        *policies.problems,
        *about_custom,
    ]
    if context != SIDECAR:
        return InboundPorts(default), problems
    modes = peers.of(workload.namespace, workload.labels)
    default = _with_mode(default, modes.default)
    ports = {
        port: _with_mode(replace(default, limits=filters.ports.get(port, filters.default)), modes.of(port))
        for port in dict.fromkeys((*filters.ports, *modes.ports))
    }
    if modes.of(0) is not modes.default:
        ports[0] = _with_mode(default, modes.of(0))
    return InboundPorts(default, ports, declared_ports(kinds.services, workload, domain)), problems


def _with_mode(inbound: Inbound, mode: PortMode) -> Inbound:
    return replace(inbound, mtls=mode.mtls, mtls_policy=mode.policy, mtls_broken=mode.broken)


def own_service(services: Iterable[Service], workload: Workload, domain: str) -> str:
    """Full host of the oldest Kubernetes service that selects the workload, "" when none does."""
    mine = [s for s in services if serves(s, workload)]
    found = min(mine, key=lambda s: s.age_key, default=None)
    return f"{found.name}.{found.namespace}.svc.{domain}".lower() if found is not None else ""
