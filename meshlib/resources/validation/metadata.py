"""Annotations that Istio's webhook refuses, in whatever kind."""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.resources.base import Resource
from meshlib.resources.notices import Loc, Notice, refused

_ANNOTATIONS: Loc = ("metadata", "annotations")
_DRY_RUN = "istio.io/dry-run"
_INTERNAL = (
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/parents",
)
_BOOLEANS = frozenset(("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"))


def metadata_refusals(resource: Resource) -> Iterator[Notice]:
    """For resources of Istio's own groups; others are none of its webhook's business."""
    annotations = resource.metadata.annotations
    if not annotations or not resource.api_version.partition("/")[0].endswith(".istio.io"):
        return
    for name in _INTERNAL:
        if name in annotations:
            yield refused(
                "internal-annotation", (*_ANNOTATIONS, name), f"{name} is Istio's own", "remove the annotation"
            )
    dry_run = annotations.get(_DRY_RUN)
    if dry_run is None:
        return
    where: Loc = (*_ANNOTATIONS, _DRY_RUN)
    if resource.kind != "AuthorizationPolicy":
        yield refused("dry-run", where, f"{resource.kind} has no dry run", "remove the annotation")
        return
    spec = getattr(resource, "spec", None)
    action = (spec.action if spec is not None else None) or "ALLOW"
    if action not in ("ALLOW", "DENY"):
        yield refused(
            "dry-run", where, f"action {action} has no dry run", "remove the annotation; ALLOW and DENY have one"
        )
    elif dry_run not in _BOOLEANS:
        yield refused("dry-run", where, f"{dry_run!r} is neither true nor false", f'write {_DRY_RUN}: "true"')
