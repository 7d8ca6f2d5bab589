"""Short ways to write resources."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]


def service(name: str, port: int = 9080, namespace: str = "default", **spec: Any) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": "http"}],
            **spec,
        },
    }


def pod(
    app: str, version: str, port: int, ip: str = "127.0.0.1", name: str = "", namespace: str = "default"
) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"{app}-{version}-{port}",
            "namespace": namespace,
            "labels": {"app": app, "version": version},
        },
        "spec": {"containers": [{"name": app, "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"podIP": ip},
    }


def virtual_service(name: str, *rules: dict[str, Any], hosts: list[str] | None = None, **spec: Any) -> Resource:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": spec.pop("namespace", "default")},
        "spec": {"hosts": hosts or [name], "http": list(rules), **spec},
    }


def destination_rule(name: str, *versions: str, **policy: Any) -> Resource:
    spec: dict[str, Any] = {"host": name}
    if versions:
        spec["subsets"] = [{"name": v, "labels": {"version": v}} for v in versions]
    if policy:
        spec["trafficPolicy"] = policy
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def to(host: str, subset: str = "", weight: int | None = None, port: int = 0) -> dict[str, Any]:
    """A route destination."""
    destination: dict[str, Any] = {"host": host}
    if subset:
        destination["subset"] = subset
    if port:
        destination["port"] = {"number": port}
    return {"destination": destination} if weight is None else {"destination": destination, "weight": weight}


def service_entry(name: str, *hosts: str, **spec: Any) -> dict[str, Any]:
    """A static one with port 80, which speaks HTTP."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {
            "hosts": list(hosts),
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            **spec,
        },
    }
