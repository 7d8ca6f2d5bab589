"""Why a request was let in or not: of each policy, and of each of its rules, in words.

For ``explain_inbound``: ``why(policies, request, normalization)`` takes the policies of ``Authorization.policies`` (CUSTOM ones
may be among them) and gives a ``PolicyWhy`` for each, in their order; what was decided is ``Authorization.decide``'s. It is
found condition by condition with the same fields as the table has, so that both say the same (a property test holds it), and is
not for every request: it compiles what it looks at.

Values of headers and claims are in no text here, neither the request's nor the policies': they may be secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.policy.authorization.rules import Clause, Condition, Policy, Rule
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.path_spellings import Normalization, path_spellings

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView

MOST_SHOWN = 5
"""Values of a condition that are shown."""


@dataclass(frozen=True, slots=True)
class RuleWhy:
    """``index`` is its place in ``rules``. ``reasons``: the conditions that hold when it matches, those that do not when it
    does not (of the combination of from and to that lacks least)."""

    index: int
    matched: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyWhy:
    """``matched``: one of its rules does. ``text`` says what came of it, in one sentence."""

    policy: Policy
    matched: bool
    rules: tuple[RuleWhy, ...]
    text: str


def why(
    policies: Iterable[Policy], request: InboundView, normalization: Normalization = "BASE"
) -> tuple[PolicyWhy, ...]:
    """Of each policy why or why not."""
    return tuple(_of_policy(policy, request, normalization) for policy in policies)


def _of_policy(policy: Policy, request: InboundView, normalization: Normalization) -> PolicyWhy:
    permits = policy.action == "ALLOW"
    rules = tuple(
        _of_rule(index, tuple(rule.clauses()), request, permits, normalization)
        for index, rule in enumerate(policy.rules)
    )
    matching = [rule for rule in rules if rule.matched]
    return PolicyWhy(policy, bool(matching), rules, _text(policy, matching, rules))


def _text(policy: Policy, matching: list[RuleWhy], rules: tuple[RuleWhy, ...]) -> str:
    what = f"{policy.action} (dry run)" if policy.dry_run else policy.action
    if policy.broken:
        return f"{what}: it could not be read, and stands for all that it may have refused: {policy.broken}"
    if matching:
        first = matching[0]
        return f"{what}: rule {first.index} matches" + (f": {'; '.join(first.reasons)}" if first.reasons else "")
    if not rules:
        return f"{what}: it has no rules, which match nothing"
    lacking = "; ".join(f"rule {rule.index}: {', '.join(rule.reasons)}" for rule in rules[:MOST_SHOWN])
    return f"{what}: no rule matches ({lacking}{'; ...' if len(rules) > MOST_SHOWN else ''})"


def _of_rule(
    index: int, clauses: tuple[Clause, ...], request: InboundView, permits: bool, normalization: Normalization
) -> RuleWhy:
    least: tuple[str, ...] | None = None
    for clause in clauses:
        lacking = tuple(
            f"not {_words(condition, request, normalization)}"
            for condition in clause
            if not holds(condition, request, permits, normalization)
        )
        if not lacking:
            return RuleWhy(index, True, tuple(_words(condition, request, normalization) for condition in clause))
        if least is None or len(lacking) < len(least):
            least = lacking
    return RuleWhy(index, False, least or ())


def holds(condition: Condition, request: InboundView, permits: bool, normalization: Normalization = "BASE") -> bool:
    """Whether one condition holds, of a rule that permits or one that forbids."""
    alone = Policy("", "", "ALLOW" if permits else "DENY", (Rule(when=(condition,)),))
    return bool(RuleTable([alone], permits=permits, normalization=normalization).matched(request))


def _words(condition: Condition, request: InboundView, normalization: Normalization) -> str:
    secret = condition.key.startswith(("request.headers[", "request.auth.claims["))
    parts = []
    if condition.values:
        parts.append("one of its values" if secret else _list(condition.values))
    if condition.not_values:
        parts.append("none of its notValues" if secret else f"none of {_list(condition.not_values)}")
    return f"{condition.name} {' and '.join(parts)} ({_shown(condition.key, request, normalization)})"


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values[:MOST_SHOWN]) + (
        f" and {len(values) - MOST_SHOWN} more" if len(values) > MOST_SHOWN else ""
    )


_ATTRIBUTES = {
    "methods": "method",
    "destination.ip": "local_ip",
    "source.ip": "source_ip",
    "remote.ip": "remote_ip",
    "connection.sni": "sni",
    "request.auth.principal": "request_principal",
}


def _shown(key: str, request: InboundView, normalization: Normalization) -> str:
    """The request's value, for people."""
    if key == "paths":
        spelled = path_spellings(request.path, normalization).forbidden_at
        routed = request.routed
        return f"path {' or '.join(dict.fromkeys((*spelled, *(() if routed is None else (routed,)))))}"
    if key == "hosts":
        return f"host {request.authority}" if request.host_known and request.authority else "host unknown"
    if key == "destination.port":
        return f"port {request.port}" if request.port else "port unknown"
    if key.startswith("source.") and key != "source.ip":
        return request.principal or "the peer has no identity"
    attribute = _ATTRIBUTES.get(key)
    if attribute is not None:
        return str(getattr(request, attribute)) or ("no token" if key == "request.auth.principal" else "unknown")
    if key.startswith("request.headers["):
        name = key[len("request.headers[") : -1].lower()
        return "absent" if not name.startswith(":") and request.header(name) is None else "present"
    if key.startswith("request.auth."):
        return "no token" if request.claims is None else "its token was verified"
    return "unknown"
