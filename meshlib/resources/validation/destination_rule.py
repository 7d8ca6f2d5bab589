"""The rules of a DestinationRule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import is_ip
from meshlib.resources.validation.client_tls import client_tls
from meshlib.resources.validation.connection_pool import connection_pool
from meshlib.resources.validation.export_to import export_to
from meshlib.resources.validation.headers import header_name
from meshlib.resources.validation.hosts import domain_problem
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.locality import locality_setting, zone_aware_setting
from meshlib.resources.validation.selection import label_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import (
        Attribute,
        ConsistentHash,
        DestinationRule,
        LoadBalancer,
        OutlierDetection,
        PortLevelSetting,
        Tls,
        TrafficPolicy,
        Tunnel,
    )

_SPEC: Loc = ("spec",)
_MAGLEV_LIMIT = 5_000_011
_ENDS_A_COOKIE_NAME = re.compile(r'[\x00-\x20\x7f-\x9f;,="]').search


def refusals(resource: DestinationRule) -> Iterator[Notice]:
    """Every rule, in the order of the fields."""
    spec, namespace = resource.spec, resource.namespace
    selector = spec.workload_selector
    yield from export_to(spec.export_to, namespace, own_namespace=selector is not None)
    if selector is not None:
        yield from label_refusals(selector.match_labels, (*_SPEC, "workloadSelector", "matchLabels"))
    yield from _policy(spec.traffic_policy, namespace, (*_SPEC, "trafficPolicy"))
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets or ()):
        take_turns()
        loc = (*_SPEC, "subsets", index)
        if subset.name in seen:
            yield refused("duplicate-subset", (*loc, "name"), f"subset {subset.name} is defined twice", "rename one")
        seen.add(subset.name)
        yield from labels(subset.labels, (*loc, "labels"))
        yield from _policy(subset.traffic_policy, namespace, (*loc, "trafficPolicy"))


def _policy(policy: TrafficPolicy | None, namespace: str, loc: Loc) -> Iterator[Notice]:
    if policy is None:
        return
    if _is_empty(policy):
        yield refused("empty-policy", loc, "the traffic policy sets nothing", "leave it out")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        yield refused(
            "tunnel-and-proxy-protocol",
            (*loc, "proxyProtocol"),
            "tunnel and proxyProtocol exclude each other",
            "keep one of them",
        )
    yield from _settings(policy, namespace, loc)
    for index, level in enumerate(policy.port_level_settings or ()):
        there = (*loc, "portLevelSettings", index)
        if level.port is None:
            yield refused("missing-field", there, "port is missing", "port: {number: 80}")
        if _is_empty(level, but=("port",)):
            yield refused("empty-policy", there, "the settings of the port set nothing", "leave them out")
        yield from _settings(level, namespace, there)
    if policy.tunnel is not None:
        yield from _tunnel(policy.tunnel, (*loc, "tunnel"))


def _is_empty(policy: TrafficPolicy | PortLevelSetting, but: tuple[str, ...] = ()) -> bool:
    return not any(getattr(policy, name) not in (None, []) for name in policy.model_fields_set if name not in but)


def _settings(policy: TrafficPolicy | PortLevelSetting, namespace: str, loc: Loc) -> Iterator[Notice]:
    """What a policy and the settings of one of its ports have in common."""
    yield from connection_pool(policy.connection_pool, (*loc, "connectionPool"))
    yield from client_tls(policy.tls, namespace, (*loc, "tls"))
    if policy.outlier_detection is not None:
        yield from _outlier_detection(policy.outlier_detection, (*loc, "outlierDetection"))
    if policy.load_balancer is not None:
        yield from _load_balancer(policy.load_balancer, (*loc, "loadBalancer"))


def _tunnel(tunnel: Tunnel, loc: Loc) -> Iterator[Notice]:
    if tunnel.protocol not in (None, "", "CONNECT", "POST"):
        yield refused(
            "bad-enum", (*loc, "protocol"), f"{tunnel.protocol!r} is neither CONNECT nor POST", "protocol: CONNECT"
        )
    problem = domain_problem(tunnel.target_host)
    if problem and not is_ip(tunnel.target_host):
        yield refused(
            "bad-host",
            (*loc, "targetHost"),
            f"{tunnel.target_host!r} is neither a host name nor an IP address: {problem}",
            "for example proxy.example.com",
        )


def _outlier_detection(detection: OutlierDetection, loc: Loc) -> Iterator[Notice]:
    if detection.consecutive_local_origin_failures and not detection.split_external_local_origin_errors:
        yield refused(
            "local-origin-not-split",
            (*loc, "consecutiveLocalOriginFailures"),
            "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors: true",
            "set splitExternalLocalOriginErrors, or leave the count out",
        )


def _load_balancer(balancer: LoadBalancer, loc: Loc) -> Iterator[Notice]:
    # of several ways, which the API server refuses, the last one counts
    if balancer.consistent_hash is not None and balancer.backend_utilization is None:
        yield from _consistent_hash(balancer.consistent_hash, (*loc, "consistentHash"))
    if balancer.locality_lb_setting is not None and balancer.zone_aware_lb_setting is not None:
        yield refused(
            "several-localities",
            (*loc, "zoneAwareLbSetting"),
            "loadBalancer has either localityLbSetting or zoneAwareLbSetting",
            "keep one of them",
        )
    yield from locality_setting(balancer.locality_lb_setting, (*loc, "localityLbSetting"))
    yield from zone_aware_setting(balancer.zone_aware_lb_setting, (*loc, "zoneAwareLbSetting"))
    warmup = balancer.warmup
    if warmup is not None:
        if warmup.minimum_percent is not None and warmup.minimum_percent > 100:
            yield refused(
                "bad-percent", (*loc, "warmup", "minimumPercent"), "minimumPercent is 100 at most", "10 is the default"
            )
        if warmup.aggression is not None and warmup.aggression <= 0:
            yield refused(
                "bad-aggression",
                (*loc, "warmup", "aggression"),
                "aggression is greater than 0",
                "1 grows in a straight line",
            )


def _consistent_hash(found: ConsistentHash, loc: Loc) -> Iterator[Notice]:
    cookie = found.http_cookie
    if found.http_header_name is not None:
        yield from header_name(found.http_header_name, (*loc, "httpHeaderName"), pseudo=True)
    # of several keys, which the API server refuses, the last one counts
    if cookie is not None and found.use_source_ip is None and found.http_query_parameter_name is None:
        if not cookie.name:
            yield refused("hash-key", (*loc, "httpCookie", "name"), "httpCookie has no name", "name: user")
        elif _ENDS_A_COOKIE_NAME(cookie.name):
            yield refused(
                "bad-cookie-name",
                (*loc, "httpCookie", "name"),
                f"{cookie.name!r} is not a cookie's name",
                'no spaces, control characters, ";", ",", "=" or quotes, such as user or user[id]',
            )
        yield from _attributes(cookie.attributes or (), (*loc, "httpCookie", "attributes"))
    if found.minimum_ring_size and (found.ring_hash is not None or found.maglev is not None):
        yield refused(
            "several-hashes",
            (*loc, "minimumRingSize"),
            "minimumRingSize is given together with ringHash or maglev",
            "ringHash: {minimumRingSize: ...}",
        )
    if found.maglev is not None:
        size = found.maglev.table_size or 0
        if not 0 < size < _MAGLEV_LIMIT or not _is_prime(size):
            yield refused(
                "maglev-size",
                (*loc, "maglev", "tableSize"),
                f"tableSize {size} is not a prime below {_MAGLEV_LIMIT}",
                "65537 is one",
            )


def _attributes(attributes: Sequence[Attribute], loc: Loc) -> Iterator[Notice]:
    seen: set[str] = set()
    for index, attribute in enumerate(attributes):
        if not attribute.name:
            yield refused(
                "missing-name", (*loc, index, "name"), "the attribute of the cookie has no name", "for example SameSite"
            )
        elif attribute.name in seen:
            yield refused(
                "duplicate-attribute", (*loc, index, "name"), f"{attribute.name} is there twice", "remove one"
            )
        seen.add(attribute.name)


def _is_prime(number: int) -> bool:
    """As Envoy counts: 1 is one."""
    if number in (1, 2, 3):
        return True
    return number % 2 == 1 and all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))


def warnings(resource: DestinationRule) -> Iterator[Notice]:
    """Failover that nothing triggers, certificates that are not read, a selector of nothing."""
    spec = resource.spec
    if spec.workload_selector is not None:
        yield from selector_warnings(spec.workload_selector.match_labels, (*_SPEC, "workloadSelector"))
    yield from _policy_warnings(spec.traffic_policy, (*_SPEC, "trafficPolicy"))
    for index, subset in enumerate(spec.subsets or ()):
        yield from _policy_warnings(subset.traffic_policy, (*_SPEC, "subsets", index, "trafficPolicy"))


def _policy_warnings(policy: TrafficPolicy | None, loc: Loc) -> Iterator[Notice]:
    if policy is None:
        return
    levels: list[tuple[TrafficPolicy | PortLevelSetting, Loc]] = [(policy, loc)]
    levels += [(level, (*loc, "portLevelSettings", i)) for i, level in enumerate(policy.port_level_settings or ())]
    for level, there in levels:
        if level.load_balancer is not None and level.outlier_detection is None:
            yield from _failover_warnings(level.load_balancer, (*there, "loadBalancer"))
        yield from _unread_files(level.tls, (*there, "tls"))


def _failover_warnings(balancer: LoadBalancer, loc: Loc) -> Iterator[Notice]:
    settings = (
        ("localityLbSetting", balancer.locality_lb_setting),
        ("zoneAwareLbSetting", balancer.zone_aware_lb_setting),
    )
    for name, setting in settings:
        if setting is not None and (setting.failover or setting.failover_priority):
            yield warned(
                "failover-without-ejection",
                (*loc, name),
                "failover needs outlierDetection: without it no endpoint is ever found unhealthy",
                "outlierDetection: {consecutive5xxErrors: 5}",
            )


def _unread_files(tls: Tls | None, loc: Loc) -> Iterator[Notice]:
    if tls is None or tls.mode != "ISTIO_MUTUAL":
        return
    files = (
        ("clientCertificate", tls.client_certificate),
        ("privateKey", tls.private_key),
        ("caCertificates", tls.ca_certificates),
        ("credentialName", tls.credential_name),
    )
    for name, file in files:
        if file:
            yield warned(
                "unread-certificate",
                (*loc, name),
                f"mode ISTIO_MUTUAL uses the mesh's own certificates, and reads no {name}",
                "leave it out, or mode: MUTUAL",
            )
