"""Rules of ``selector``, ``targetRef`` and ``targetRefs``: which workloads or services a policy is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.selection import Selector, TargetRef

_TARGETS = {
    "Service": "core",
    "ServiceEntry": "networking.istio.io",
    "Gateway": "gateway.networking.k8s.io",
    "GatewayClass": "gateway.networking.k8s.io",
}
_SPEC: Loc = ("spec",)


def selection_refusals(
    selector: Selector | None, target_ref: TargetRef | None, target_refs: Sequence[TargetRef] | None
) -> Iterator[Notice]:
    """At most one of the three, labels without wildcards, and targets that Istio knows."""
    given = [
        name
        for name, there in (
            ("selector", selector is not None),
            ("targetRef", target_ref is not None),
            ("targetRefs", bool(target_refs)),
        )
        if there
    ]
    if len(given) > 1:
        yield refused(
            "several-targets",
            (*_SPEC, given[1]),
            f"only one of selector and targetRefs may be given, found {' and '.join(given)}",
            "keep the one that says where the policy belongs",
        )
    if selector is not None:
        yield from label_refusals(selector.match_labels, (*_SPEC, "selector", "matchLabels"))
    if target_ref is not None:
        yield from _target_refusals(target_ref, (*_SPEC, "targetRef"))
    for index, target in enumerate(target_refs or ()):
        yield from _target_refusals(target, (*_SPEC, "targetRefs", index))


def label_refusals(labels: Mapping[str, str] | None, loc: Loc) -> Iterator[Notice]:
    """Labels of a selector are compared as they are: no wildcards, no empty key."""
    for key, value in (labels or {}).items():
        if not key:
            yield refused("bad-label", (*loc, key), "the key of a label is empty", "write app: reviews, for example")
        if "*" in key or "*" in value:
            yield refused(
                "wildcard-label",
                (*loc, key),
                f"{key}: {value!r} has a wildcard, and labels are compared as they are",
                "name the labels of the workloads; without a selector all workloads of the namespace are selected",
            )


def selector_warnings(labels: Mapping[str, str] | None, loc: Loc) -> Iterator[Notice]:
    """For a selector that is there: without labels it selects everything."""
    if not labels:
        yield warned(
            "empty-selector", loc, "a selector without labels selects all workloads", "leave it out, or name labels"
        )


def _target_refusals(target: TargetRef, loc: Loc) -> Iterator[Notice]:
    if not target.name:
        yield refused("missing-name", (*loc, "name"), "the target has no name", "name the service or gateway")
    if target.namespace:
        yield refused(
            "target-namespace",
            (*loc, "namespace"),
            "a target in another namespace cannot be named",
            "leave namespace out, and put the policy into the namespace of its target",
        )
    if _TARGETS.get(target.kind) != (target.group or "core"):
        known = [f"{kind} ({'no group' if group == 'core' else f'group {group}'})" for kind, group in _TARGETS.items()]
        group = _TARGETS.get(target.kind)
        hint = f"one of {', '.join(known)}"
        if group is not None:
            hint = "leave group out" if group == "core" else f"write group: {group}"
        yield refused(
            "bad-target",
            (*loc, "kind" if group is None else "group"),
            f"a policy cannot be for kind {target.kind!r} of group {target.group or ''!r}",
            hint,
        )
