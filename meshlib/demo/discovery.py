"""What a cluster's discovery would say of processes on loopback."""

from __future__ import annotations

from typing import Any

from meshlib.demo.process import Process


def endpoint_resources(child: Process, application: str, port_name: str) -> list[dict[str, Any]]:
    """The Pod (its labels choose subsets) and the EndpointSlice (its address) of one process."""
    labels = {"app": child.service, "version": child.version}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": child.pod, "namespace": "default", "labels": labels},
        "spec": {
            "serviceAccountName": f"{application}-{child.service}",
            "containers": [{"name": child.service, "ports": [{"name": port_name, "containerPort": child.port}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{child.service}-{child.pod}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": child.service},
        },
        "addressType": "IPv4",
        "ports": [{"name": port_name, "protocol": "TCP", "port": child.port}],
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": child.pod, "namespace": "default"},
            }
        ],
    }
    return [pod, piece]
