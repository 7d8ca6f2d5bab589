"""What Istio calls deprecated. Our own notices know more old spellings: their code is ``deprecated``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshlib.analysis.codes import DEPRECATED
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index
from meshlib.pace import take_turns
from meshlib.resources.typed import SIDECAR, TELEMETRY, VIRTUAL_SERVICE

_REMOVED = frozenset({"ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"})


def deprecated(index: Index) -> Iterator[Finding]:
    """Fields that Istio ignores or has replaced, and CustomResourceDefinitions of kinds that it has removed."""
    for service in index.analyzed(VIRTUAL_SERVICE):
        for position, rule in enumerate(service.spec.http or ()):
            take_turns()
            delay = rule.fault.delay if rule.fault is not None else None
            if delay is not None and delay.percent:
                loc: Loc = ("spec", "http", position, "fault", "delay", "percent")
                message, hint = "percent is deprecated", f"write percentage: {{value: {delay.percent}}}"
                yield Finding(DEPRECATED, service, loc, message, hint)
    for sidecar in index.analyzed(SIDECAR):
        policy = sidecar.spec.outbound_traffic_policy
        if policy is not None and policy.egress_proxy is not None:
            loc = ("spec", "outboundTrafficPolicy", "egressProxy")
            yield Finding(DEPRECATED, sidecar, loc, "egressProxy is deprecated: Istio ignores it", "remove it")
    for telemetry in index.analyzed(TELEMETRY) if index.mesh_config.lightstep else ():
        for number, tracing in enumerate(telemetry.spec.tracing or ()):
            for position, provider in enumerate(tracing.providers or ()):
                if provider.name in index.mesh_config.lightstep:
                    loc = ("spec", "tracing", number, "providers", position, "name")
                    message = f"{provider.name} is a Lightstep provider, which Istio calls deprecated"
                    yield Finding(DEPRECATED, telemetry, loc, message, "use an OpenTelemetry provider")
    for crd in index.others("CustomResourceDefinition"):
        spec = crd.value.get("spec")
        names = spec.get("names") if isinstance(spec, Mapping) else None
        kind = names.get("kind") if isinstance(names, Mapping) else None
        if isinstance(spec, Mapping) and spec.get("group") == "rbac.istio.io" and kind in _REMOVED:
            message = f"Istio has removed the kind {kind} (rbac.istio.io)"
            hint = "use AuthorizationPolicy"
            yield Finding(DEPRECATED, crd, ("spec", "names", "kind"), message, hint)
