"""AUDIT, DENY and ALLOW of a workload put together, in Istio's order, and what dry-run policies would have decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.policy.authorization.fields import LONGEST_REMEMBERED, MOST_REMEMBERED, size_of
from meshlib.policy.authorization.rules import Policy, RuleOf
from meshlib.policy.authorization.table import RuleTable, getter
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
        "_allow",
        "_allow_wanted",
        "_allowing",
        "_audit",
        "_deny",
        "_denying",
        "_facts",
        "_readers",
        "_remembered",
        "_shadow_allow",
        "_shadow_allow_wanted",
        "_shadow_deny",
        "normalization",
        "policies",
    )

    def __init__(self, policies: Sequence[Policy], normalization: Normalization = "BASE") -> None:
        self.policies = tuple(policy for policy in policies if policy.action != "CUSTOM")
        self.normalization: Normalization = normalization

        def table(action: str, dry_run: bool) -> RuleTable:
            mine = [p for p in self.policies if p.action == action and p.dry_run == dry_run]
            return RuleTable(mine, permits=action == "ALLOW", normalization=normalization)

        self._audit = table("AUDIT", dry_run=False)
        self._deny, self._shadow_deny = table("DENY", dry_run=False), table("DENY", dry_run=True)
        self._allow, self._shadow_allow = table("ALLOW", dry_run=False), table("ALLOW", dry_run=True)
        self._allow_wanted = any(p.action == "ALLOW" and not p.dry_run for p in self.policies)
        self._shadow_allow_wanted = any(p.action == "ALLOW" and p.dry_run for p in self.policies)
        readers = {**self._deny.readers, **self._allow.readers}
        self._readers = tuple(read for key, read in readers.items() if key != "paths")
        self._facts = getter(tuple(dict.fromkeys(("path", "routed", *self._deny.attributes, *self._allow.attributes))))
        self._remembered: dict[tuple[object, ...], Decision] = {}
        self._denying = [_decided(403, rule) for rule in self._deny.rules]
        self._allowing = [_decided(0, rule) for rule in self._allow.rules]

    def __bool__(self) -> bool:
        return bool(self.policies)

    @property
    def has_dry_run(self) -> bool:
        """Whether policies are tried out."""
        return bool(self._shadow_deny.rules) or self._shadow_allow_wanted

    @property
    def has_audit(self) -> bool:
        """Whether there are rules of AUDIT policies."""
        return bool(self._audit.rules)

    def decide(self, request: InboundView) -> Decision:
        """DENY first; then ALLOW, if there is an ALLOW policy at all. The decision for one rule is always the same object."""
        # all that decides is compared at once with what was decided before: 1,000 rules cost what ten do
        known: tuple[object, ...] = self._facts(request)
        if self._readers:
            known = (known, *[read(request) for read in self._readers])
        found = self._remembered.get(known)
        if found is None:
            found = self._decide(request)
            if size_of(known) <= LONGEST_REMEMBERED:
                if len(self._remembered) >= MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[known] = found
        return found

    def _decide(self, request: InboundView) -> Decision:
        path = request.path
        if not is_plain(path):
            problem = path_spellings(path, self.normalization).problem
            if problem:
                return Decision(400, detail=problem)
        found = self._deny.matched(request)
        if found:
            return self._denying[(found & -found).bit_length() - 1]
        if not self._allow_wanted:
            return ALLOWED
        found = self._allow.matched(request)
        return self._allowing[(found & -found).bit_length() - 1] if found else NONE_ALLOWS

    def audited(self, request: InboundView) -> RuleOf | None:
        """The first rule of an AUDIT policy that matches: it decides nothing, and is for whoever writes audit logs."""
        return self._audit.first(request)

    def dry_run(self, request: InboundView) -> Decision:
        """What the dry-run policies alone would have decided, in the same order."""
        if path_spellings(request.path, self.normalization).problem:
            return ALLOWED
        rule = self._shadow_deny.first(request)
        if rule is not None:
            return _decided(403, rule)
        if not self._shadow_allow_wanted:
            return ALLOWED
        rule = self._shadow_allow.first(request)
        return NONE_ALLOWS if rule is None else _decided(0, rule)


def _decided(status: int, rule: RuleOf) -> Decision:
    return Decision(status, rule.policy.id, rule.index, f"{DENIED}[{rule.id}]" if status else "")
