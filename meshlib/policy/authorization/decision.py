"""AUDIT, DENY and ALLOW of a workload put together, in Istio's order, and what dry-run policies would have decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.policy.authorization.fields import LONGEST_REMEMBERED, MOST_REMEMBERED
from meshlib.policy.authorization.rules import Policy, RuleOf
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.authorization.tokens import VerifiedClaims
from meshlib.policy.path_spellings import Normalization, is_plain, path_spellings

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView

DENIED = "rbac_access_denied_matched_policy"
"""Envoy's response code details begin with it; the rule follows in brackets."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``status`` 0 lets in; 403 refuses, and 400 what no policy can judge. ``policy`` ("namespace/name", "" when none has
    decided: no policy allows it, or there is none) and ``rule`` have decided. ``detail``: Envoy's response code details, for
    logs and spans, never for the caller."""

    status: int = 0
    policy: str = ""
    rule: int | None = None
    detail: str = ""

    @property
    def allowed(self) -> bool:
        return self.status == 0


ALLOWED = Decision()
NONE_ALLOWS = Decision(403, detail=f"{DENIED}[none]")


class Authorization:
    """The AuthorizationPolicies of a workload at work. ``policies`` are those that count for it: CUSTOM ones are passed over,
    as they have a table of their own. False when nothing is to be judged.

    Where the path of a request is such that no policy can judge it, the response is 400, whatever the policies say."""

    __slots__ = (
        "_audit",
        "_decisions",
        "_mark",
        "_otherwise",
        "_remembered",
        "_shadow",
        "_shadow_allow_wanted",
        "_table",
        "normalization",
        "policies",
    )

    def __init__(self, policies: Sequence[Policy], normalization: Normalization = "BASE") -> None:
        self.policies = tuple(policy for policy in policies if policy.action != "CUSTOM")
        self.normalization: Normalization = normalization
        judging = [p for p in self.policies if p.action != "AUDIT"]
        acting, tried = [p for p in judging if not p.dry_run], [p for p in judging if p.dry_run]
        audits = [p for p in self.policies if p.action == "AUDIT" and not p.dry_run]
        self._audit = RuleTable(audits, permits=False, normalization=normalization)
        self._shadow = RuleTable(tried, permits=None, normalization=normalization)
        self._shadow_allow_wanted = any(p.action == "ALLOW" for p in tried)
        self._table = RuleTable(acting, permits=None, normalization=normalization)
        self._otherwise = NONE_ALLOWS if any(p.action == "ALLOW" for p in acting) else ALLOWED
        self._mark = object()  # not the policies: a token may be kept for longer
        self._decisions = [_decided(rule) for rule in self._table.rules]
        self._remembered: dict[tuple[object, ...], tuple[Decision | None, int]] = {}

    def __bool__(self) -> bool:
        return bool(self.policies)

    @property
    def has_dry_run(self) -> bool:
        """Whether policies are tried out."""
        return bool(self._shadow.rules) or self._shadow_allow_wanted

    @property
    def has_audit(self) -> bool:
        """Whether there are rules of AUDIT policies."""
        return bool(self._audit.rules)

    @property
    def of_head_and_peer(self) -> bool:
        """Whether requests that have their head, port and peer in common are decided on alike."""
        return self._table.of_head_and_peer

    def decide(self, request: InboundView) -> Decision:
        """DENY first; then ALLOW, if there is an ALLOW policy at all. The decision for one rule is always the same object."""
        if request.routed is not None:
            problem = self._problem(request.path)
            return self._of(self._table.matched(request)) if problem is None else problem
        # most of what decides is compared at once with what was decided before: 1,000 rules cost what ten do
        facts = self._table.facts(request)
        decision, left = self._remembered.get(facts) or self._found(facts)
        if decision is not None:
            return decision
        claims = request.claims
        if type(claims) is VerifiedClaims:
            mark, seen, last = claims.decided
            if seen == left and mark is self._mark and isinstance(last, Decision):
                return last
            decision = self._of(self._table.rest(request, left))
            if not left & self._table.late:  # else the rest of the request counts, too
                claims.decided = self._mark, left, decision
            return decision
        return self._of(self._table.rest(request, left))

    def _found(self, facts: tuple[object, ...]) -> tuple[Decision | None, int]:
        """What these facts decide, or the clauses that they leave."""
        path = str(facts[0])
        plain = bool(is_plain(path))
        decision = None if plain else self._problem(path)
        left = 0
        if decision is None:
            left = self._table.after(facts, plain=plain)
            if self._table.is_final(left):
                decision = self._of(left)
        found = decision, left
        size = 0
        for fact in facts:
            if isinstance(fact, str):
                size += len(fact)
        if size <= LONGEST_REMEMBERED:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[facts] = found
        return found

    def _problem(self, path: str) -> Decision | None:
        if is_plain(path):
            return None
        problem = path_spellings(path, self.normalization).problem
        return Decision(400, detail=problem) if problem else None

    def _of(self, matched: int) -> Decision:
        return self._decisions[(matched & -matched).bit_length() - 1] if matched else self._otherwise

    def audited(self, request: InboundView) -> RuleOf | None:
        """The first rule of an AUDIT policy that matches: it decides nothing, and is for whoever writes audit logs."""
        return self._audit.first(request)

    def dry_run(self, request: InboundView) -> Decision:
        """What the dry-run policies alone would have decided, in the same order."""
        if self._problem(request.path) is not None:
            return ALLOWED
        rule = self._shadow.first(request)
        if rule is not None:
            return _decided(rule)
        return NONE_ALLOWS if self._shadow_allow_wanted else ALLOWED


def _decided(rule: RuleOf) -> Decision:
    refuses = rule.policy.action != "ALLOW"
    return Decision(403 if refuses else 0, rule.policy.id, rule.index, f"{DENIED}[{rule.id}]" if refuses else "")
