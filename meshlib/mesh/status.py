"""What ``mesh.status()`` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.engine.inbound_status import inbound_status
from meshlib.engine.status import status

if TYPE_CHECKING:
    from meshlib.admin.endpoint import AdminFacts
    from meshlib.problems import Problem
    from meshlib.telemetry.mesh_numbers import MeshNumbers
    from meshlib.telemetry.observe import InboundTelemetry
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.workload import Workload

Status = dict[str, Any]
"""As JSON would have it; users look into it to any depth."""


def status_of(
    core: MeshCore,
    serving: InboundTelemetry | None,
    workload: Workload,
    source: Mapping[str, object],
    problems: Sequence[Problem],
    numbers: MeshNumbers,
    admin: AdminFacts | None = None,
) -> Status:
    """``source``: where resources come from; ``numbers``: what metrics show of the same mesh. What telemetry has noted is
    recorded first. ``failures`` counts what went wrong: calls that failed (``calls_by_reason``: by Envoy's flags, the 5xx of a
    response or the status of gRPC), checks of requests that raised, reloads that refused something, calls that telemetry could
    not record, alarms, mirrored copies and conversations with Redis. ``pools`` has the connections of HTTP clients by cluster,
    ``in_force_for`` the seconds since the configuration took effect."""
    live = core.live
    core.telemetry.catch_up()
    if serving is not None:
        serving.catch_up()
    telemetry = core.telemetry.failures + (0 if serving is None else serving.failures)
    failed = core.telemetry.failed_calls
    return {
        "closed": live is None,
        "failures": {
            "calls": sum(failed.values()),
            "calls_by_reason": failed,
            "checks": 0 if live is None else live.check_failures.count,
            "reloads": source["failed_reloads"],
            "telemetry": telemetry,
            "alarms": core.alarms.failures,
            "mirrors": core.background.failures,
            "redis": core.shared_limits.errors + core.breakers.errors,
        },
        "telemetry_failures": telemetry,
        "telemetry": {
            "resources": [] if live is None else list(live.snapshot.telemetry.resources),
            "failures": numbers.failures,
            "dropped": dict(numbers.dropped),
            "expression_errors": {
                **core.telemetry.expression_errors(),
                **({} if serving is None else serving.expression_errors()),
            },
        },
        "pools": {key: {"busy": pool.busy, "idle": pool.idle} for key, pool in numbers.pools.items()},
        "in_force_for": None if numbers.config is None else round(numbers.config.age, 3),
        "alarm_failures": core.alarms.failures,
        "names": core.names.status(),
        "certificates": core.certificates(),
        **({} if core.identity is None else {"identity": core.identity.status()}),
        **({} if core.ports is None else {"grpc_ports": core.ports.status()}),
        "token_keys": list(core.inbound.tokens.key_sets.status()),
        "authorizers": core.inbound.authorizers.facts(),
        "protection": {**core.inbound.protection.status(), "redis_failures": core.shared_limits.errors},
        "mirrors": {"dropped": core.background.dropped, "failed": core.background.failures},
        **({} if admin is None else {"admin": admin}),
        "access_logs": [*core.telemetry.access_logs(), *([] if serving is None else serving.access_logs())],
        "workload": workload.name,
        "namespace": workload.namespace,
        "source": source,
        "problems": [
            {
                "code": p.code,
                "severity": str(p.severity),
                "file": p.file,
                "line": p.line,
                "column": p.column,
                "path": p.path,
                "message": p.message,
                "hint": p.hint,
            }
            for p in problems
        ],
        **({} if live is None else {"mesh_config": live.snapshot.inbound.default.mesh.facts()}),
        **(
            {}
            if live is None
            else {"inbound": inbound_status(live.snapshot.inbound, core.inbound.authorization, core.inbound.peers)}
        ),
        **({} if live is None else status(live, core.clock.monotonic())),
    }
