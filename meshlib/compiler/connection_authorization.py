"""AuthorizationPolicies as they count for connections of which nobody sees requests, as istiod has them there: a rule that
lets in and asks for something of a request lets nobody in; one that refuses is asked without it, and so refuses more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from meshlib.policy.authorization.rules import Clause, Condition, Policy, Rule

OF_CONNECTIONS = frozenset(
    (
        *(
            "source.ip",
            "remote.ip",
            "source.principal",
            "source.namespace",
            "source.serviceAccount",
            "source.trustDomain",
        ),
        *("destination.ip", "destination.port", "connection.sni"),
    )
)


def for_connections(policies: Sequence[Policy]) -> list[Policy]:
    """What these say of a connection. One that asks an authorizer (CUSTOM) refuses all that it would have asked about: nothing
    here asks about connections."""
    found = []
    for policy in policies:
        permits = policy.action == "ALLOW"
        rules = [made for rule in policy.rules if (made := _of_connection(rule, permits)) is not None]
        action = "DENY" if policy.action == "CUSTOM" else policy.action
        found.append(replace(policy, action=action, rules=tuple(rules)))
    return found


def _of_connection(rule: Rule, permits: bool) -> Rule | None:
    clauses = list(rule.clauses())
    if permits:
        kept = [clause for clause in clauses if all(_is_of_connection(condition) for condition in clause)]
        return _of(kept) if kept else None
    return _of([tuple(condition for condition in clause if _is_of_connection(condition)) for clause in clauses])


def _of(clauses: Sequence[Clause]) -> Rule:
    return Rule(sources=tuple(clauses))


def _is_of_connection(condition: Condition) -> bool:
    return condition.key in OF_CONNECTIONS
