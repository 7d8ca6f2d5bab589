"""Which workloads or services a policy is about: ``selector``, ``targetRef`` and ``targetRefs``, the same in every kind."""

from __future__ import annotations

from meshlib.resources.base import Model


class Selector(Model):
    """``spec.selector``: workloads that have all of these labels."""

    match_labels: dict[str, str] | None = None


class WorkloadSelector(Model):
    """``spec.workloadSelector`` of resources other than policies: the same, in the older spelling."""

    labels: dict[str, str] | None = None


class TargetRef(Model):
    """An entry of ``spec.targetRefs``: a Service, ServiceEntry, Gateway or GatewayClass."""

    kind: str
    name: str
    group: str | None = None
    namespace: str | None = None
