"""Requests and policies for tests, with only what matters said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.authorization.rules import Action, Condition, Policy, Rule

SLEEP = "spiffe://cluster.local/ns/default/sa/sleep"


def request(
    path: str = "/",
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    host: str | None = "app.test",
    principal: str = "",
    source_ip: str = "10.0.0.1",
    claims: Mapping[str, object] | None = None,
    routed: str | None = None,
    **more: Any,
) -> InboundRequest:
    path, _, query = path.partition("?")
    peer = f"[{source_ip}]:4711" if ":" in source_ip else f"{source_ip}:4711" if source_ip else ""
    settings: dict[str, Any] = {"secure": bool(principal), "port": 8080, **more}
    made = InboundRequest(
        method, path, list(headers), authority=host, query=query, principal=principal, peer=peer, **settings
    )
    made.claims = claims
    made.routed = routed
    return made


def one(key: str, *values: str, none_of: Sequence[str] = ()) -> Condition:
    return Condition(key, values, tuple(none_of))


def policy(action: Action, *rules: Rule, name: str = "p", namespace: str = "ns", dry_run: bool = False) -> Policy:
    return Policy(namespace, name, action, rules, dry_run)


def when(*conditions: Condition) -> Rule:
    return Rule(when=conditions)
