"""What a decision about a request costs, in ``json.loads`` of a small document: values seen before, and all paths and addresses
new."""

from __future__ import annotations

import gc
import random
import time
from typing import Any

import meshlib
from benchmarks.measure import Row, Unit
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.authorization.decision import Authorization

TARGETS = {100: (0.5, 3.0), 1_000: (0.5, 8.0)}
"""By number of rules: for values seen before, and for new ones."""
REQUESTS = 40


def _policy(name: str, action: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": rules},
    }


def _rule(i: int) -> dict[str, Any]:
    """A principal, methods, and paths of each kind in turn; some have addresses, a header, an exception."""
    service = f"cluster.local/ns/ns{i % 7}/sa/svc{i}" if i % 3 else f"cluster.local/ns/ns{i % 7}/*"
    paths = (
        [f"/api/v1/res{i}"],
        [f"/api/v1/res{i}/*"],
        [f"*/tail{i}"],
        [f"/t{i}/{{*}}/x/{{**}}"],
        [f"/a{i}", f"/b{i}/*"],
    )[i % 5]
    source: dict[str, Any] = {"principals": [service]}
    if i % 10 == 0:
        source["ipBlocks"] = [f"10.{i % 256}.0.0/16", f"192.168.{i % 256}.0/24"]
    operation: dict[str, Any] = {"methods": ["GET"] if i % 2 else ["GET", "POST"], "paths": paths}
    if i % 9 == 0:
        operation["notPaths"] = [f"/api/v1/res{i}/secret"]
    rule: dict[str, Any] = {"from": [{"source": source}], "to": [{"operation": operation}]}
    if i % 8 == 0:
        rule["when"] = [{"key": "request.headers[x-team]", "values": [f"team{i}"]}]
    return rule


def _requests(rules: int, rng: random.Random, fresh: str = "") -> list[InboundRequest]:
    """``fresh`` makes their paths and addresses such as have not been seen."""
    made = []
    for j in range(REQUESTS):
        i = rng.randrange(rules if j % 2 else 4 * rules)
        path = rng.choice(
            (
                f"/api/v1/res{i}/q{fresh}{j}",
                f"/zz{fresh}{j}/tail{i}",
                f"/t{i}/b/x/{fresh}{j}",
                f"/b{i}/{fresh}{j}",
                f"/no/{fresh}{j}",
            )
        )
        third = int(fresh or 0)
        asked = InboundRequest(
            rng.choice(("GET", "POST", "PUT")),
            path,
            [("x-team", f"team{i}")] if j % 3 else [],
            authority="app.test",
            peer=f"10.{i % 256}.{third % 256}.{(j + third // 256 * REQUESTS) % 256}:80",
            principal=f"spiffe://cluster.local/ns/ns{i % 7}/sa/svc{i}",
            secure=True,
            port=8080,
        )
        asked.header("x-team")
        assert asked.source_ip
        made.append(asked)
    return made


def _round(authorization: Authorization, requests: list[InboundRequest]) -> float:
    clock, decide = time.perf_counter, authorization.decide
    began = clock()
    for request in requests:
        decide(request)
    return (clock() - began) / len(requests) * 1e6


def decisions(quick: bool) -> list[Row]:
    """Half of the policies deny, half allow. The best of rounds interleaved with the unit."""
    rows = []
    for count, (seen_target, new_target) in TARGETS.items():
        policies = [
            _policy(f"p{n}", "ALLOW" if n % 2 else "DENY", [_rule(i) for i in range(n, count, 10)]) for n in range(10)
        ]
        with meshlib.Mesh.from_resources(policies) as mesh:
            assert mesh._core.live is not None
            authorization = mesh._core.live.snapshot.inbound.default.authorization
        assert authorization is not None
        rng = random.Random(7)
        seen = _requests(count, rng)
        _round(authorization, seen)
        unit = Unit()
        best_seen = best_new = float("inf")
        gc.disable()
        try:
            for number in range(100 if quick else 500):
                unit.take(200)
                best_seen = min(best_seen, _round(authorization, seen))
                best_new = min(best_new, _round(authorization, _requests(count, rng, str(number))))
        finally:
            gc.enable()
        for what, best, target in (("seen before", best_seen, seen_target), ("new", best_new, new_target)):
            name = f"decision at {count:,} rules, values {what}"
            rows.append(Row(name, best / unit.us, "x", target, details=f"{best:.2f} us", json=best / unit.us))
    return rows
