"""What a mesh decides for a URL, in one line: for tests that are about where calls go."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import HttpsRules, compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import Resource


def compiled(*resources: Resource, workload: Workload | None = None, https_rules: HttpsRules = "mesh") -> Snapshot:
    """The snapshot of resources that load without an error."""
    result = load_objects(resources)
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload or Workload(), https_rules=https_rules)


def decision(snapshot: Snapshot, url: str, **headers: str) -> str:
    """``passthrough`` or ``blocked``; ``ns/name`` of the VirtualService, or ``default``, and where its first destination is:
    ``default/reviews -> outbound|9080||reviews...``; behind ``tcp:`` when http rules were not asked."""
    scheme, _, rest = url.partition("://")
    authority, _, target = rest.partition("/")
    found = route(snapshot, PlainRequest("GET", scheme, authority, f"/{target}", headers))
    vhost, rule = found.virtual_host, found.rule_object
    if snapshot.is_unknown(vhost):
        return "passthrough" if vhost is snapshot.passthrough else "blocked"
    who = vhost.resource.removeprefix("VirtualService/") or "default"
    if rule is None:
        return f"{who}: no rule"
    if rule.direct is not None:
        return f"{who}: {rule.direct[0]}"
    target_of: Any = rule.destinations[0]
    where = target_of.cluster or f"missing {target_of.host}"
    return f"{'tcp: ' if vhost.tcp else ''}{who} -> {where}"


def http_entry(host: str, *ports: int, namespace: str = "default", **spec: Any) -> Resource:
    """A ServiceEntry with HTTP ports."""
    declared = [{"number": port, "name": f"http-{port}", "protocol": "HTTP"} for port in ports]
    return entry(host, *declared, namespace=namespace, **spec)


def entry(host: str, *ports: dict[str, Any], namespace: str = "default", **spec: Any) -> Resource:
    """A ServiceEntry."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": host.replace("*", "any"), "namespace": namespace},
        "spec": {"hosts": [host], "resolution": "DNS" if "*" not in host else "NONE", "ports": list(ports), **spec},
    }


def answering(name: str, *hosts: str, status: int = 204, created: str = "", **rule: Any) -> Resource:
    """A VirtualService whose answer shows that it was asked."""
    spec: dict[str, Any] = {"hosts": list(hosts), "http": [{**rule, "directResponse": {"status": status}}]}
    metadata = {"name": name, "namespace": "default"}
    if created:
        metadata["creationTimestamp"] = f"{created}-01-01T00:00:00Z"
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
