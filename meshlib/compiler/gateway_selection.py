"""Policies that select the workloads of a gateway, where the process that serves it has not their labels: whoever serves a
Gateway by its name and forgets ``--labels`` should hear which policies let everybody in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.authorization_policy import AuthorizationPolicy
    from meshlib.resources.gateway import Gateway
    from meshlib.resources.request_authentication import RequestAuthentication
    from meshlib.workload import Workload


def without_labels(
    policies: Iterable[AuthorizationPolicy | RequestAuthentication],
    gateways: Sequence[Gateway],
    workload: Workload,
    root_namespace: str,
) -> Iterator[Problem]:
    """A warning for each policy of the namespaces that count for ``workload`` that selects what one of ``gateways`` selects,
    and not ``workload``."""
    for policy in policies:
        selector = policy.spec.selector
        wanted = (selector.match_labels or {}) if selector is not None else {}
        if not wanted or policy.namespace not in (workload.namespace, root_namespace):
            continue
        missing = {key: value for key, value in wanted.items() if workload.labels.get(key) != value}
        if not missing:
            continue
        for gateway in gateways:
            selected = gateway.spec.selector or {}
            if wanted.items() <= selected.items():
                labels = ",".join(f"{key}={value}" for key, value in sorted(selected.items()))
                line, column = policy.place_of(("spec", "selector"))
                yield Problem(
                    "policy-without-effect",
                    Severity.WARNING,
                    policy.origin.file,
                    line,
                    column,
                    f"{policy.id} spec.selector",
                    f"it selects the workloads of {gateway.id}, and this process has not their labels: it does not act",
                    f"--labels {labels}, if it is to",
                )
                break
