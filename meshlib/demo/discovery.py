"""What a cluster's discovery would say of processes on this machine."""

from __future__ import annotations

from typing import Any

from meshlib.demo.process import Process


def endpoint_resources(
    child: Process, application: str, port_name: str, *, service: str = "", namespace: str = "default"
) -> list[dict[str, Any]]:
    """The Pod (its labels choose subsets) and the EndpointSlice (its address) of one process. ``service``: the name of its
    Service, where that is not its own."""
    service = service or child.service
    labels = {"app": child.service, "version": child.version}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": child.pod, "namespace": namespace, "labels": labels},
        "spec": {
            "serviceAccountName": f"{application}-{child.service}",
            "containers": [{"name": child.service, "ports": [{"name": port_name, "containerPort": child.port}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": child.host,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{child.pod}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": port_name, "protocol": "TCP", "port": child.port}],
        "endpoints": [
            {
                "addresses": [child.host],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": child.pod, "namespace": namespace},
            }
        ],
    }
    return [pod, piece]
