"""Service + DestinationRule -> Cluster: endpoints of the subset, limits, balancer, outlier detection, TLS."""

from __future__ import annotations

from collections.abc import ItemsView
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from meshlib.compiler.destination_rules import MergedRule
from meshlib.compiler.mesh_tls import MeshTls
from meshlib.compiler.routes import Cluster
from meshlib.compiler.traffic_policy import EffectivePolicy, effective_policy
from meshlib.policy.circuit_limits import CircuitLimits, TcpKeepalive
from meshlib.policy.locality import LocalitySettings, Place, Placement, place
from meshlib.policy.outlier import OutlierSettings
from meshlib.policy.regex import wire
from meshlib.policy.retry_budget import RetryBudget
from meshlib.policy.slow_start import SlowStart
from meshlib.registry.lack import IN_DNS, no_endpoints
from meshlib.registry.names import is_ip
from meshlib.registry.service import CLUSTER_DNS, LOCAL, SNIFFED, Endpoint, Service, ServicePort
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.resources import destination_rule as written
    from meshlib.resources.connection_pool import HttpPool, TcpPool

V = TypeVar("V")

DEFAULT_LIMITS = CircuitLimits()
DEFAULT_BALANCER = "LEAST_REQUEST"
DEFAULT_OUTLIER = OutlierSettings()


def cluster_key(host: str, subset: str, port: int) -> str:
    """Envoy's name of an outbound cluster, as Istio writes it."""
    return f"outbound|{port}|{subset}|{host}"


def has_endpoints(service: Service, rule: MergedRule | None, subset: str, port: int) -> bool:
    """Whether Istio makes a cluster of a service whose endpoints are names: they are written into it, so it has some, unless
    the subset has calls go where they were dialled."""
    endpoints = service.endpoints_on(port)
    chosen = rule.subsets.get(subset) if rule and subset else None
    if not endpoints or chosen is None:
        return bool(endpoints)
    if is_dialled(service, rule, subset, port):
        return True
    wanted = (chosen.labels or {}).items()
    return any(_has_labels(endpoint, wanted) for endpoint in endpoints)


def compile_cluster(
    service: Service,
    rule: MergedRule | None,
    subset: str,
    port: int,
    workload: Workload,
    mesh_tls: MeshTls,
    *,
    of_gateway: bool = False,
) -> Cluster:
    """The cluster of one subset ("" for the whole service) on one service port. ``of_gateway``: it is a gateway that calls."""
    policy = effective_policy(rule, subset, port)
    endpoints = service.endpoints_on(port)
    if service.resolution == LOCAL:
        endpoints = labelled(endpoints, rule)
    everywhere = len(endpoints)
    chosen = rule.subsets.get(subset) if rule and subset else None
    if chosen is not None and chosen.labels:
        wanted = chosen.labels.items()
        endpoints = tuple(e for e in endpoints if _has_labels(e, wanted))
    if service.resolution == LOCAL:
        endpoints = tuple({endpoint.key: endpoint for endpoint in reversed(endpoints)}.values())[::-1]
    found = service.cluster_port(port)
    protocol = found.protocol if found is not None else "http"
    balancer = policy.load_balancer
    hashing = None
    name = _balancer(balancer)
    dialled = is_dialled(service, rule, subset, port)
    lack = None
    if not endpoints and not dialled:
        why = _why_empty(service, chosen, everywhere, port)
        lack = no_endpoints(service.host, workload.namespace, why, subset=subset, port=port)
    tls = mesh_tls.of_cluster(service, rule, policy.tls, subset, port, endpoints, dialled=dialled)
    if dialled:
        resolution, name, endpoints, balancer, placement = "passthrough", "PASSTHROUGH", (), None, None
    else:
        resolution = _RESOLUTIONS.get(service.resolution, "static")
        if service.resolution in (LOCAL, CLUSTER_DNS) and any(is_name(e.address) for e in endpoints):
            resolution = "dns"
        hashing = hash_policy(balancer.consistent_hash if balancer is not None else None)
        endpoints, placement = placed(endpoints, balancer, policy.outlier_detection is not None, workload)
    return Cluster(
        key=cluster_key(service.host, subset, port),
        host=service.host,
        subset=subset,
        port=port,
        endpoints=endpoints,
        limits=_limits(policy),
        balancer=name if hashing is None else "MAGLEV" if hashing.maglev else "RING_HASH",
        outlier=_outlier(policy),
        tls=tls.tls,
        auto_mtls=tls.auto,
        mutual=tls.mutual,
        why_plain=tls.why_plain,
        mtls_disabled=tls.disabled,
        protocol=protocol,
        http2=_http2(policy, protocol),
        as_client=_as_client(policy, protocol, of_gateway),
        resolution=resolution,
        dial_port=_dial_port(service, found),
        dial_host=service.host if dialled and service.resolution == CLUSTER_DNS else "",
        destination_rule=rule.id if rule else "",
        panic_percent=_panic_percent(policy),
        refusal=tls.refusal,
        proxy_protocol="" if policy.proxy_protocol is None else policy.proxy_protocol.version or "V1",
        lack=lack,
        given_by=service.given_by,
        hash_policy=hashing,
        slow_start=_slow_start(balancer) if name in ("ROUND_ROBIN", "LEAST_REQUEST") and hashing is None else None,
        retry_budget=_retry_budget(policy.retry_budget),
        placement=placement,
        identities=service.subject_alt_names,
        namespace=service.namespace,
    )


def _why_empty(service: Service, chosen: written.Subset | None, everywhere: int, port: int) -> str:
    """Why a subset (None: the whole) of a service has no endpoint on a port; ``everywhere``: how many the whole has there."""
    wanted = (chosen.labels or {}) if chosen is not None else {}
    if wanted and service.resolution == CLUSTER_DNS:
        return IN_DNS
    if wanted and everywhere:
        labels = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        of = f" that {service.given_by} gives the host" if service.given_by else ""
        if everywhere == 1:
            return f"the one endpoint{of} does not have the labels {labels}"
        return f"none of the {everywhere} endpoints{of} has the labels {labels}"
    if service.given_by:
        return f"{service.given_by} gives it no address on port {port}"
    if any(service.endpoints.values()):
        return f"none of its endpoints has its port {port}"
    return service.why_empty or "nothing gives it an address"


def labelled(endpoints: tuple[Endpoint, ...], rule: MergedRule | None) -> tuple[Endpoint, ...]:
    """Endpoints of a LocalEndpoints with the labels that the client's DestinationRule gives their subsets."""
    made = []
    for endpoint in endpoints:
        subset = rule.subsets.get(endpoint.subset) if rule is not None and endpoint.subset else None
        labels = (subset.labels or {}) if subset is not None else endpoint.labels
        made.append(replace(endpoint, labels=labels))
    return tuple(made)


def is_name(address: str) -> bool:
    """Whether an address of an endpoint has to be resolved."""
    return not address.startswith("unix:") and not is_ip(address)


def is_dialled(service: Service, rule: MergedRule | None, subset: str, port: int) -> bool:
    """Whether calls go to the address that was called (Envoy's original destination), whatever endpoints there are: no
    balancer, no subset and no hash chooses. PASSTHROUGH of the whole rule, and of a subset as such, counts for the subset
    even if its own policy has another balancer."""
    if service.headless or service.resolution in ("none", "dynamic_dns"):
        return True
    if service.resolution == CLUSTER_DNS and service.any_port:
        return not (rule is not None and subset and rule.subsets[subset].labels)
    if rule is None or not rule.passes_through:
        return False
    chosen = rule.subsets.get(subset) if subset else None
    balancers = [effective_policy(rule, subset, port).load_balancer]
    if chosen is not None:
        balancers.append(effective_policy(rule, "", port).load_balancer)
        balancers.append(chosen.traffic_policy.load_balancer if chosen.traffic_policy is not None else None)
    return any(balancer is not None and balancer.simple == "PASSTHROUGH" for balancer in balancers)


def _dial_port(service: Service, port: ServicePort | None) -> int:
    """A ServiceEntry of resolution NONE may send what is called on a port to another port of the same address."""
    target = port.target_port if port is not None and service.resolution == "none" else None
    return target if isinstance(target, int) else 0


_RESOLUTIONS = {"dns": "dns", "dns_round_robin": "logical_dns"}
_HTTP2 = frozenset(("http2", "grpc", "grpc-web"))


def _http2(policy: EffectivePolicy, protocol: str) -> bool:
    """A port that says so, or one that the policy upgrades; unless the protocol is the caller's to choose."""
    pool = policy.connection_pool
    http = pool.http if pool is not None else None
    if http is not None and http.use_client_protocol:
        return False
    if protocol in _HTTP2:
        return True
    # of a port that declares no protocol Istio speaks what the caller speaks, upgrade or not
    return http is not None and http.h2_upgrade_policy == "UPGRADE" and protocol != SNIFFED


def _as_client(policy: EffectivePolicy, protocol: str, of_gateway: bool) -> bool:
    """A policy that leaves it to the client, or a port that declares no protocol: not for a gateway, which offers HTTP/2 to
    whoever comes over TLS, whatever is behind it (Istio)."""
    pool = policy.connection_pool
    if pool is not None and pool.http is not None and pool.http.use_client_protocol:
        return True
    return protocol == SNIFFED and not of_gateway


def hash_policy(settings: written.ConsistentHash | None) -> HashPolicy | None:
    """A consistentHash block."""
    if settings is None:
        return None
    from meshlib.policy.consistent_hash import Cookie, HashPolicy

    cookie = settings.http_cookie
    size = 1024
    if settings.maglev is not None:
        size = settings.maglev.table_size or 65537
    elif settings.ring_hash is not None:
        size = settings.ring_hash.minimum_ring_size or size
    elif settings.minimum_ring_size:
        size = settings.minimum_ring_size
    return HashPolicy(
        header=wire((settings.http_header_name or "").lower()),
        cookie=None
        if cookie is None
        else Cookie(
            wire(cookie.name),
            cookie.ttl,
            wire(cookie.path or ""),
            tuple((wire(a.name), wire(a.value or "")) for a in cookie.attributes or ()),
        ),
        query=wire(settings.http_query_parameter_name or ""),
        source=bool(settings.use_source_ip),
        maglev=settings.maglev is not None,
        size=size,
    )


def _slow_start(balancer: written.LoadBalancer | None) -> SlowStart | None:
    if balancer is None:
        return None
    warmup = balancer.warmup
    if warmup is None:
        seconds = balancer.warmup_duration_secs
        return SlowStart(seconds) if seconds and seconds > 0 else None
    usual = SlowStart(warmup.duration)
    return SlowStart(
        warmup.duration,
        _given(warmup.aggression, usual.aggression),
        _given(warmup.minimum_percent, usual.minimum_percent),
    )


def _given(value: V | None, default: V) -> V:
    return default if value is None else value


def _retry_budget(budget: written.RetryBudget | None) -> RetryBudget | None:
    if budget is None:
        return None
    usual = RetryBudget()
    return RetryBudget(_given(budget.percent, usual.percent), _given(budget.min_retry_concurrency, usual.minimum))


def placed(
    endpoints: tuple[Endpoint, ...], balancer: written.LoadBalancer | None, failover: bool, workload: Workload
) -> tuple[tuple[Endpoint, ...], Placement | None]:
    """The endpoints that locality leaves, and where it puts them; None when there is just one place."""
    settings = _locality(balancer)
    if settings is None or not endpoints or (len({e.locality for e in endpoints}) == 1 and settings == ANYWHERE):
        return endpoints, None
    places = [Place(e.locality, e.labels, e.weight, e.network) for e in endpoints]
    found = place(places, Place(workload.locality, workload.labels), settings, failover)
    kept = [i for i, priority in enumerate(found.priorities) if priority is not None]
    if len(kept) < len(endpoints):
        endpoints = tuple(endpoints[i] for i in kept)
        found = Placement(tuple(found.priorities[i] for i in kept), tuple(found.groups[i] for i in kept), found.weights)
    return endpoints, None if len(set(found.groups)) < 2 else found


ANYWHERE = LocalitySettings()


def _locality(balancer: written.LoadBalancer | None) -> LocalitySettings | None:
    """localityLbSetting; Istio's mesh-wide default when there is none; None when it is turned off."""
    settings = balancer.locality_lb_setting if balancer is not None else None
    if settings is None:
        return ANYWHERE
    if settings.enabled is False:
        return None
    return LocalitySettings(
        distribute=tuple((d.from_ or "*", tuple((d.to or {}).items())) for d in settings.distribute or ()),
        failover=tuple((f.from_ or "", f.to or "") for f in settings.failover or ()),
        failover_priority=tuple(settings.failover_priority or ()),
    )


def _has_labels(endpoint: Endpoint, wanted: ItemsView[str, str]) -> bool:
    labels = endpoint.labels
    return all(labels.get(key) == value for key, value in wanted)


def _limits(policy: EffectivePolicy) -> CircuitLimits:
    pool, limits = policy.connection_pool, DEFAULT_LIMITS
    if pool is not None and pool.tcp is not None:
        limits = _with_tcp(limits, pool.tcp)
    if pool is not None and pool.http is not None:
        limits = _with_http(limits, pool.http)
    return limits


# proto3: an explicit 0 is the same as not set, and means the default


def _with_tcp(limits: CircuitLimits, tcp: TcpPool) -> CircuitLimits:
    probes = tcp.tcp_keepalive
    keepalive = None
    if probes is not None:
        keepalive = TcpKeepalive(probes.probes or 0, int(probes.time or 0), int(probes.interval or 0))
    return replace(
        limits,
        max_connections=tcp.max_connections or limits.max_connections,
        connect_timeout=tcp.connect_timeout or limits.connect_timeout,
        idle_timeout=tcp.idle_timeout or limits.idle_timeout,
        tcp_idle_timeout=limits.tcp_idle_timeout if tcp.idle_timeout is None else tcp.idle_timeout,
        max_connection_duration=tcp.max_connection_duration or None,
        tcp_keepalive=keepalive,
    )


def _with_http(limits: CircuitLimits, http: HttpPool) -> CircuitLimits:
    alive = http.http2_keep_alive
    pings = None
    if alive is not None and alive.interval and alive.timeout:
        pings = (alive.interval, alive.timeout)
    return replace(
        limits,
        idle_timeout=http.idle_timeout or limits.idle_timeout,
        http1_max_pending_requests=http.http1_max_pending_requests or limits.http1_max_pending_requests,
        http2_max_requests=http.http2_max_requests or limits.http2_max_requests,
        max_requests_per_connection=http.max_requests_per_connection or limits.max_requests_per_connection,
        max_retries=http.max_retries or limits.max_retries,
        max_concurrent_streams=http.max_concurrent_streams or limits.max_concurrent_streams,
        http2_keepalive=pings,
    )


def _balancer(balancer: written.LoadBalancer | None) -> str:
    simple = balancer.simple if balancer is not None else None
    return DEFAULT_BALANCER if simple is None or simple in ("UNSPECIFIED", "LEAST_CONN") else simple


def _outlier(policy: EffectivePolicy) -> OutlierSettings | None:
    detection = policy.outlier_detection
    if detection is None:
        return None
    usual, codes = DEFAULT_OUTLIER, detection.outlier_detection_http_error_codes
    return OutlierSettings(
        consecutive_5xx=_given(detection.consecutive_5xx_errors, usual.consecutive_5xx),
        consecutive_gateway=_given(detection.consecutive_gateway_errors, usual.consecutive_gateway),
        consecutive_local_origin=_given(detection.consecutive_local_origin_failures, usual.consecutive_local_origin),
        split_external_local_origin=_given(
            detection.split_external_local_origin_errors, usual.split_external_local_origin
        ),
        interval=_given(detection.interval, usual.interval),
        base_ejection_time=_given(detection.base_ejection_time, usual.base_ejection_time),
        max_ejection_percent=_given(detection.max_ejection_percent, usual.max_ejection_percent),
        min_health_percent=_given(detection.min_health_percent, usual.min_health_percent),
        error_codes=frozenset(codes) if codes else None,
    )


def _panic_percent(policy: EffectivePolicy) -> int:
    detection = policy.outlier_detection
    return detection.min_health_percent or 0 if detection is not None else 0
