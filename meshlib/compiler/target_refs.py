"""``targetRefs`` of a policy: which workloads it is for, as istiod asks it of workloads that are no waypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshlib.workload import Workload

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label by which a workload is one of a Gateway of the Gateway API."""
GROUP = "gateway.networking.k8s.io"


class Ref(Protocol):
    """An entry."""

    @property
    def kind(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def namespace(self) -> str | None: ...


class Targeting(Protocol):
    """The ``spec`` of a policy."""

    @property
    def target_ref(self) -> Ref | None: ...
    @property
    def target_refs(self) -> Sequence[Ref] | None: ...


def refs_of(spec: Targeting) -> Sequence[Ref]:
    """Its ``targetRefs``, or the one of old."""
    return spec.target_refs or ([spec.target_ref] if spec.target_ref is not None else [])


def why_not_attached(refs: Sequence[Ref], namespace: str, workload: Workload) -> str:
    """Why a policy of ``namespace`` with these is not for ``workload``, for people; "" when it is."""
    mine = workload.labels.get(GATEWAY_NAME)
    if mine is None:
        return f"its targetRefs are waypoints and gateways, and this workload has no label {GATEWAY_NAME}"
    for ref in refs:
        if (ref.kind, ref.group, ref.name) != ("Gateway", GROUP, mine) or namespace != workload.namespace:
            continue
        if ref.namespace in (None, "", workload.namespace):
            return ""
    return f"its targetRefs are other gateways than {workload.namespace}/{mine}"


def targets(spec: Targeting, namespace: str, workload: Workload) -> bool:
    """Whether a policy has ``targetRefs`` and they are for ``workload``."""
    refs = refs_of(spec)
    return bool(refs) and not why_not_attached(refs, namespace, workload)
