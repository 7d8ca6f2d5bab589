"""Short ways to write a Telemetry, and to compile what telemetry comes to."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import compile_snapshot
from meshlib.policy.telemetry_settings import WorkloadTelemetry
from meshlib.problems import Problem
from meshlib.resources.loader import load_objects, load_text
from meshlib.workload import Workload

Object = dict[str, Any]
OURS = Workload("orders-v1", labels={"app": "orders", "version": "v1"})


def telemetry(name: str = "telemetry", namespace: str = "default", created: str = "", **spec: Any) -> Object:
    """A Telemetry of the workload's namespace; ``created`` is a time."""
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created or None}
    return {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": metadata, "spec": spec}


def in_root(**spec: Any) -> Object:
    """A Telemetry of the whole mesh."""
    return telemetry("mesh", "istio-system", **spec)


def providers(*names: str) -> list[Object]:
    """What ``providers`` of a Telemetry says."""
    return [{"name": name} for name in names]


def told(*resources: Object, workload: Workload = OURS) -> WorkloadTelemetry:
    """What is told of a workload's calls. None of the resources may be refused."""
    result = load_objects(resources)
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload).telemetry


def said(text: str, workload: Workload = OURS) -> list[Problem]:
    """What is said of resources in YAML, notices aside."""
    result = load_text(text, "mesh.yaml")
    assert not result.errors, result.errors
    return [p for p in compile_snapshot(result.resources, workload).problems if p.code != "no-effect"]
