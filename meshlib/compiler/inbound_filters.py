"""What EnvoyFilters do at a workload's server: faults, local rate limits, and rate limits that a service counts.

Istio has no resources of its own for these; what people write are patches of Envoy's HTTP filters (applyTo HTTP_FILTER), and of
the routes and virtual hosts beside them (HTTP_ROUTE, VIRTUAL_HOST), on SIDECAR_INBOUND, and of a gateway's listeners
one (``proxied_patch.py``). Those are compiled here; every other patch is told of in a notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.envoy_rate_limits import rate_limits_of
from meshlib.compiler.envoy_values import Message, NotActedOn, snake, typed
from meshlib.compiler.inbound_faults import FAULT, Faults
from meshlib.compiler.inbound_local_ratelimit import LOCAL_RATELIMIT, LocalRateLimitFilter, local_rate_limit
from meshlib.compiler.inbound_local_ratelimit import TYPE as LOCAL_TYPE
from meshlib.compiler.inbound_protection import serves
from meshlib.compiler.inbound_ratelimit import RATELIMIT, Place, RateLimitFilter, added_cluster, global_rate_limit
from meshlib.compiler.inbound_ratelimit import TYPE as GLOBAL_TYPE
from meshlib.compiler.proxied_patch import APPLIES, check_proxied
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.rate_limit_actions import RateLimitActions
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.resources.envoy_filter import ConfigPatche, EnvoyFilter, RouteConfiguration
    from meshlib.resources.kubernetes import Service
    from meshlib.workload import Workload

_MANAGERS = (None, "envoy.filters.network.http_connection_manager", "envoy.http_connection_manager")
_BEFORE_IDENTITY = ("istio.metadata_exchange", "envoy.filters.http.jwt_authn")
_CHAIN = (
    *_BEFORE_IDENTITY,
    "envoy.filters.http.rbac",
    "envoy.filters.http.grpc_stats",
    FAULT,
    "envoy.filters.http.cors",
    "istio.stats",
    "envoy.filters.http.router",
)
"""The HTTP filters of an Istio sidecar's inbound listener, in order: what a patch may name as its neighbour."""
_INSERTS = frozenset(("ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"))
_LIMITS = {LOCAL_RATELIMIT: LOCAL_TYPE, RATELIMIT: GLOBAL_TYPE}
ANY_PORT = -1

Settings = dict[str, object]


@dataclass(frozen=True, slots=True)
class PortFilters:
    """Rate limits at a port, in the order in which they are asked."""

    local: tuple[LocalRateLimitFilter, ...] = ()
    shared: tuple[RateLimitFilter, ...] = ()


NO_FILTERS = PortFilters()

SIDECAR, GATEWAY = "SIDECAR_INBOUND", "GATEWAY"
"""Contexts of patches."""


@dataclass(slots=True)
class Filters:
    """What comes of all EnvoyFilters. ``ports``: what is at a port and not at all others; port 0 is one that nobody knows.
    ``proxied``: connections to the gateway begin with a header of the PROXY protocol."""

    faults: tuple[FaultPolicy, ...] = ()
    fault_sources: tuple[str, ...] = ()
    default: PortFilters = NO_FILTERS
    ports: Mapping[int, PortFilters] = field(default_factory=dict)
    proxied: bool = False
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Patch:
    """One that concerns us. ``ports``: of the server; None: all."""

    operation: str
    name: str
    settings: Settings
    first: bool
    ports: frozenset[int] | None
    say: Callable[[str], None]


@dataclass(slots=True)
class _Patches:
    filters: list[_Patch] = field(default_factory=list)
    routes: list[_Patch] = field(default_factory=list)
    hosts: list[_Patch] = field(default_factory=list)
    clusters: dict[str, Place] = field(default_factory=dict)

    def ports(self) -> set[int]:
        found: set[int] = set()
        for patch in (*self.filters, *self.routes, *self.hosts):
            found |= patch.ports or set()
        return found


def compile_filters(
    filters: Sequence[EnvoyFilter],
    services: Iterable[Service],
    workload: Workload,
    mesh: MeshSettings,
    context: str = SIDECAR,
) -> Filters:
    """For the server of ``workload``, or (``context``) the gateway that it is. Notices are about all filters, whichever
    workloads they select."""
    made = Filters()
    if not filters:
        return made
    ports = _Ports([service for service in services if serves(service, workload)])
    faults, patches = Faults(), _Patches()
    others = _Patches()  # of filters that are not for this workload: for their notices

    def order(resource: EnvoyFilter) -> tuple[int, bool, tuple[str, str, str, int]]:
        """Istio's: by priority, the root namespace first, then the oldest."""
        return (resource.spec.priority or 0, resource.namespace != mesh.root_namespace, resource.age_key)

    for resource in sorted(filters, key=order):
        mine = _selected(resource, workload, mesh.root_namespace)
        for position, patch in enumerate(resource.spec.config_patches or ()):
            try:
                if patch.apply_to in APPLIES and patch.patch is not None:
                    made.proxied |= _proxied(resource, patch, context) and mine
                    continue
                _take(
                    resource, position, patch, mine, faults, patches if mine else others, ports, made.problems, context
                )
            except NotActedOn as why:
                made.problems.append(_notice(resource, position, f"no effect: {why}"))
    made.faults, made.fault_sources = faults.policies()
    numbers = patches.ports()
    made.default = _at(patches, ANY_PORT)
    made.ports = {port: _at(patches, port) for port in numbers}
    if numbers:
        # a server that does not say its port: whatever is at one of them
        every = [made.default, *made.ports.values()]
        made.ports[0] = PortFilters(
            tuple(dict.fromkeys(f for at in every for f in at.local)),
            tuple(dict.fromkeys(f for at in every for f in at.shared)),
        )
    for at in (ANY_PORT, *others.ports()):
        _at(others, at)
    made.problems = list(dict.fromkeys(made.problems))
    return made


def _proxied(resource: EnvoyFilter, patch: ConfigPatche, context: str) -> bool:
    """Whether connections begin with a header of the PROXY protocol where it is selected. Raises ``NotActedOn``."""
    check_proxied(patch)
    _at_work(resource, patch, context)
    if context != GATEWAY:
        raise NotActedOn("it acts at a gateway")
    return True


def _take(
    resource: EnvoyFilter,
    position: int,
    patch: ConfigPatche,
    mine: bool,
    faults: Faults,
    patches: _Patches,
    ports: _Ports,
    problems: list[Problem],
    context: str,
) -> None:
    """Sort a patch in. Raises ``NotActedOn``."""
    if patch.patch is None or patch.apply_to not in ("HTTP_FILTER", "HTTP_ROUTE", "VIRTUAL_HOST", "CLUSTER"):
        raise NotActedOn("a patch of Envoy's own configuration; there is no Envoy here")
    value, operation = patch.patch.value or {}, patch.patch.operation or "INVALID"

    def say(what: str) -> None:
        problems.append(_notice(resource, position, f"acts, but for {what}"))

    if patch.apply_to == "CLUSTER":
        if operation != "ADD":
            raise NotActedOn("a patch of Envoy's own configuration; there is no Envoy here")
        inside = snake(value)
        assert isinstance(inside, dict)
        name, place = added_cluster(Message(inside, ""))
        patches.clusters[name] = place
    elif patch.apply_to == "HTTP_FILTER":
        neighbour = _neighbour(patch)
        name = str(value.get("name"))
        if name != FAULT and name not in _LIMITS:
            known = f"{FAULT}, {LOCAL_RATELIMIT} and {RATELIMIT} have"
            raise NotActedOn(f"a patch of Envoy's own configuration; of HTTP filters only {known} a counterpart here")
        _at_work(resource, patch, context)
        _placed(operation, name, neighbour)
        kind, settings = typed(value.get("typed_config", value.get("typedConfig")))
        if name == FAULT:
            faults.add(operation, kind, settings, resource.id if mine else "")
            return
        if kind != _LIMITS[name]:
            raise NotActedOn(f"its typed_config is of type {kind}, not {_LIMITS[name]}")
        first = _is_first(operation, neighbour)
        patches.filters.append(_Patch(operation, name, settings, first, None, say))
    else:
        _at_work(resource, patch, context)
        if context != SIDECAR:
            raise NotActedOn("a patch of routes; at a gateway HTTP filters act")
        if operation not in ("MERGE", "MERGE_AND_REPLACE_LIST"):
            raise NotActedOn(f"operation {operation} of a route: MERGE acts")
        inside = snake(value)
        assert isinstance(inside, dict)
        settings = _route_settings(inside, patch.apply_to, say)
        where = _route_ports(patch.match.route_configuration if patch.match is not None else None, ports)
        found = _Patch(operation, "", settings, False, where, say)
        (patches.routes if patch.apply_to == "HTTP_ROUTE" else patches.hosts).append(found)


def _at_work(resource: EnvoyFilter, patch: ConfigPatche, context: str) -> None:
    wanted = patch.match.context if patch.match is not None else None
    if wanted not in (None, "ANY", context):
        what = "on the way in of a workload" if context == SIDECAR else "of a gateway"
        raise NotActedOn(f"context {wanted}: what acts here is {what} ({context})")
    if resource.spec.target_refs:
        raise NotActedOn("targetRefs are gateways and waypoints")


def _placed(operation: str, name: str, neighbour: str | None) -> None:
    if operation == "MERGE":
        if neighbour not in (None, name):
            raise NotActedOn(f"it merges into {neighbour}, which is not the filter of its value")
    elif operation not in _INSERTS:
        raise NotActedOn(f"operation {operation}: MERGE, ADD and INSERT_* act")
    elif neighbour is not None and neighbour not in (*_CHAIN, *_LIMITS):
        raise NotActedOn(f"Istio's inbound chain has no filter {neighbour} to insert it at")


def _is_first(operation: str, neighbour: str | None) -> bool:
    """Whether a filter stands before the one that decides who may come in."""
    if neighbour is None:
        return operation in ("INSERT_FIRST", "INSERT_BEFORE")
    if operation == "INSERT_BEFORE":
        return neighbour in (*_BEFORE_IDENTITY, "envoy.filters.http.rbac")
    return operation == "INSERT_FIRST" or neighbour in _BEFORE_IDENTITY


def _route_settings(value: Settings, apply_to: str, say: Callable[[str], None]) -> Settings:
    """``rate_limits`` and ``typed_per_filter_config`` of a route or virtual host."""
    message = Message(value, "")
    owner = message
    if apply_to == "HTTP_ROUTE":
        inner = message.message("route")
        owner = Message({}, "") if inner is None else inner
    found: Settings = {"rate_limits": owner.fields.get("rate_limits") if owner.has("rate_limits") else []}
    owner.messages("rate_limits")  # their shape
    per_filter = message.message("typed_per_filter_config")
    if per_filter is not None:
        for name, config in per_filter.fields.items():
            if name != LOCAL_RATELIMIT:
                say(f"typed_per_filter_config of {name}")
                continue
            kind, settings = typed(config)
            if kind != LOCAL_TYPE:
                raise NotActedOn(f"typed_per_filter_config of {name} is of type {kind}")
            found[name] = settings
    rest = [name for name in (*message.rest(), *(owner.rest() if owner is not message else ())) if name != "name"]
    if not found["rate_limits"] and len(found) == 1:
        raise NotActedOn("of routes and virtual hosts only rate_limits and typed_per_filter_config of rate limits act")
    if rest:
        say(f"{', '.join(rest)} of the route")
    return found


class _Ports:
    """Which ports of the server a service port is."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._targets: dict[int, set[int] | None] = {}
        for service in services:
            for port in service.spec.ports or ():
                target = port.target_port if port.target_port is not None else port.port
                known = self._targets.setdefault(port.port, set())
                if not isinstance(target, int):
                    self._targets[port.port] = None  # a name of a container's port, which is not known here
                elif known is not None:
                    known.add(target)

    def of(self, number: int, *, target: bool = False) -> frozenset[int] | None:
        """The ports of the server; None: it may be any of them. ``target``: it is a port of the server itself."""
        if target:
            every = {port for ports in self._targets.values() for port in ports or ()}
            return frozenset((number,)) if number in every and None not in self._targets.values() else None
        found = self._targets.get(number)
        return None if not found else frozenset(found)


def _route_ports(wanted: RouteConfiguration | None, ports: _Ports) -> frozenset[int] | None:
    """The ports of the server that a match is about. A port that the workload's Services do not have narrows nothing: the
    server may have it all the same. Raises ``NotActedOn`` for what Istio's inbound routes do not have."""
    if wanted is None:
        return None
    if wanted.gateway or wanted.port_name:
        raise NotActedOn("match.routeConfiguration by gateway or portName: those are gateways'")
    host = wanted.vhost
    if host is not None:
        if host.domain_name not in (None, "", "*"):
            raise NotActedOn("match.routeConfiguration.vhost.domainName: a sidecar's inbound virtual hosts have only *")
        if host.route is not None and host.route.name not in (None, "", "default"):
            raise NotActedOn(f"a sidecar's inbound route is named default, not {host.route.name}")
        if host.route is not None and host.route.action in ("REDIRECT", "DIRECT_RESPONSE"):
            raise NotActedOn(f"a sidecar has no inbound route of action {host.route.action}")
    found: frozenset[int] | None = None
    name = host.name if host is not None else None
    if name:
        kind, _, number = name.rpartition("|")
        if kind != "inbound|http" or not number.isdigit():
            raise NotActedOn(f"a sidecar's inbound virtual hosts are named inbound|http|PORT, not {name}")
        found = ports.of(int(number))
    number = str(wanted.port_number or "")
    if wanted.name:
        parts = wanted.name.split("|")
        if len(parts) != 4 or parts[0] != "inbound" or not parts[1].isdigit():
            raise NotActedOn(f"a sidecar's inbound routes are named inbound|PORT||, not {wanted.name}")
        number = parts[1]
    if number:
        also = ports.of(int(number), target=True)
        found = also if found is None else found if also is None else found & also
    return found


def _at(patches: _Patches, port: int) -> PortFilters:
    """The rate limits of a port; ``ANY_PORT``: of those that no patch names."""
    inserted: list[tuple[_Patch, Settings]] = []
    for patch in patches.filters:
        if patch.operation != "MERGE":
            inserted.append((patch, dict(patch.settings)))
        else:
            for other, settings in inserted:
                if other.name == patch.name:
                    merge(settings, patch.settings)
    route, host = (
        [p for p in found if p.ports is None or port in p.ports] for found in (patches.routes, patches.hosts)
    )
    local: list[LocalRateLimitFilter] = []
    shared: list[RateLimitFilter] = []
    for patch, settings in inserted:
        of_route, of_host = ([limit for p in found for limit in _limits_of(p)] for found in (route, host))
        # the most specific configuration counts, as a whole
        named = [p for p in (*host, *route) if patch.name in p.settings]
        say = named[-1].say if named else patch.say
        try:
            if patch.name == LOCAL_RATELIMIT:
                config = named[-1].settings[patch.name] if named else settings
                assert isinstance(config, dict)
                if named and not config.get("token_bucket"):
                    raise NotActedOn("typed_per_filter_config without token_bucket, which Envoy refuses")
                one = local_rate_limit(Message(config, ""), patch.first, tuple(of_route), tuple(of_host), say)
                local += [] if one is None else [one]
            else:
                two = global_rate_limit(
                    Message(settings, ""), patch.first, tuple(of_route), tuple(of_host), patches.clusters, say
                )
                shared += [] if two is None else [two]
        except NotActedOn as why:
            say(f"all of it: {why}")
    return PortFilters(tuple(local), tuple(shared))


def _limits_of(patch: _Patch) -> tuple[RateLimitActions, ...]:
    return rate_limits_of(Message(patch.settings, ""), patch.say)


def merge(target: Settings, more: Mapping[str, object]) -> Settings:
    """As protobuf merges messages: set fields win, messages are merged, lists are joined."""
    for key, value in more.items():
        kept = target.get(key)
        if isinstance(value, Mapping):
            target[key] = merge(dict(kept) if isinstance(kept, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(kept, list):
            target[key] = [*kept, *value]
        else:
            target[key] = value
    return target


def _selected(resource: EnvoyFilter, workload: Workload, root_namespace: str) -> bool:
    if resource.namespace not in (root_namespace, workload.namespace) or resource.spec.target_refs:
        return False
    selector = resource.spec.workload_selector
    wanted = (selector.labels or {}) if selector is not None else {}
    return all(workload.labels.get(k) == v for k, v in wanted.items())


def _neighbour(patch: ConfigPatche) -> str | None:
    """The filter that the patch names in the HTTP connection manager, once it is clear that the match is ours."""
    match = patch.match
    if match is None:
        return None
    if match.proxy is not None or match.cluster is not None or match.route_configuration is not None or match.waypoint:
        raise NotActedOn("match.proxy, cluster, routeConfiguration and waypoint are about Envoys")
    listener = match.listener
    if listener is None:
        return None
    if listener.name or listener.port_number or listener.port_name or listener.listener_filter:
        raise NotActedOn(
            "match.listener by name or port: there are no listeners, a server takes in all its ports alike"
        )
    chain = listener.filter_chain
    if chain is None:
        return None
    if chain.name or chain.sni or chain.transport_protocol or chain.application_protocols or chain.destination_port:
        raise NotActedOn("match.listener.filterChain by anything but its filter: there are no filter chains")
    found = chain.filter
    if found is None:
        return None
    if found.name not in _MANAGERS:
        raise NotActedOn(f"the network filter {found.name} has no counterpart here")
    return found.sub_filter.name if found.sub_filter is not None else None


def _notice(resource: EnvoyFilter, position: int, message: str) -> Problem:
    origin = resource.origin
    line = resource.line_of(("spec", "configPatches", position)) or origin.line
    path = f"{resource.id} spec.configPatches[{position}]"
    return Problem("no-effect", Severity.NOTICE, origin.file, line, origin.column, path, message, "")
