"""The check of a server that asks its AuthorizationPolicies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from meshlib.engine.custom import CustomCheck
from meshlib.engine.let_in import ALWAYS
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.let_in import LetIn
    from meshlib.policy.authorization.decision import Authorization, Decision
    from meshlib.policy.inbound_view import InboundView

BODY = "RBAC: access denied"
"""Envoy's words. Which rule has refused is nothing to the caller."""
BAD_PATH = "the path cannot be read in just one way"
PERMISSION_DENIED = 7


class AuthorizationCounts:
    """What policies have decided since the mesh was made, by policy ("namespace/name", "" when none of those that allow has
    matched). ``denied``: requests refused; ``audited``: those that an AUDIT policy matches; ``dry_run_denied`` and
    ``dry_run_allowed``: what dry-run policies would have decided. ``report`` (set by whoever can log) hears of requests that
    are denied or audited: which of both, the request, and the rule; ``dry_run`` of what policies on trial would have decided:
    which policy, and "allowed" or "denied"."""

    __slots__ = ("_counts", "_lock", "dry_run", "report")

    def __init__(self) -> None:
        self.report: Callable[[str, InboundView, str], None] | None = None
        self.dry_run: Callable[[str, str], None] | None = None
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, int]] = {
            what: {} for what in ("denied", "audited", "dry_run_denied", "dry_run_allowed")
        }

    def note(self, what: str, policy: str) -> None:
        """One more."""
        with self._lock:
            counts = self._counts[what]
            counts[policy] = counts.get(policy, 0) + 1

    def tell(self, what: str, policy: str, request: InboundView, rule: str) -> None:
        """One more, which is to be heard of."""
        self.note(what, policy)
        if self.report is not None:
            self.report(what, request, rule)

    def tried(self, policy: str, allowed: bool) -> None:
        """One more that policies on trial would have let in, or not."""
        result = "allowed" if allowed else "denied"
        self.note(f"dry_run_{result}", policy)
        if self.dry_run is not None:
            self.dry_run(policy, result)

    def of(self, what: str) -> Mapping[str, int]:
        """Those so far, by policy."""
        with self._lock:
            return dict(self._counts[what])

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that does not exist here."""
        self._lock = threading.Lock()


class AuthorizationCheck:
    """AUDIT, DENY and ALLOW, in this order. Dry-run policies are judged and counted, and decide nothing."""

    at_once = True
    __slots__ = ("_counts", "_watched", "policies")

    def __init__(self, policies: Authorization, counts: AuthorizationCounts) -> None:
        self.policies = policies
        self._counts = counts
        self._watched = policies.has_audit or policies.has_dry_run

    def __call__(self, request: InboundView) -> Refusal | None:
        """The refusal, None when the request may come in."""
        if self._watched:
            self._watch(request)
        decision = self.policies.decide(request)
        return None if not decision.status else self._refuse(decision, request)

    def rests_on(self, request: InboundView) -> LetIn | None:
        """On nothing more where no policy asks for more than head and peer. What is watched is counted each time."""
        policies = self.policies
        if self._watched or not policies.of_head_and_peer or policies.decide(request).status:
            return None
        return ALWAYS

    def judge(self, request: InboundView) -> Refusal | None:
        """The same once more, of a request of which more is known by now: nothing is counted twice but a refusal."""
        decision = self.policies.decide(request)
        return None if not decision.status else self._refuse(decision, request)

    def _refuse(self, decision: Decision, request: InboundView) -> Refusal:
        self._counts.tell("denied", decision.policy, request, decision.detail)
        if decision.status == 400:
            return Refusal(400, BAD_PATH, detail=decision.detail)
        return Refusal(decision.status, BODY, PERMISSION_DENIED, detail=decision.detail)

    def _watch(self, request: InboundView) -> None:
        policies = self.policies
        if policies.has_audit:
            rule = policies.audited(request)
            if rule is not None:
                self._counts.tell("audited", rule.policy.id, request, rule.id)
        if policies.has_dry_run:
            found = policies.dry_run(request)
            self._counts.tried(found.policy, found.allowed)


def judge_routed(call: InboundCall, route_path: str) -> Refusal | None:
    """Judge a request again now that the application's router has matched its path: ``route_path`` is the path that the router
    matched, with the parameters of the route filled in (not its template), from the root of the application that the
    middleware is around. DENY rules look at it too, and ALLOW rules must hold there as well; CUSTOM rules that match only
    there refuse, as it is too late to ask.

    For integrations, which call it between routing and the endpoint, and respond with what it gives (None: go on). The
    refusal is noted on the call, so its span has the details. Raises nothing: what cannot be judged is refused."""
    request = call.request
    request.routed = route_path
    for check in call.checks:
        if isinstance(check, AuthorizationCheck | CustomCheck):
            try:
                refusal = check.judge(request)
            except Exception as error:  # noqa: BLE001 (fails closed, as in the exchange)
                call.failures.note(error)
                refusal = Refusal(403, BODY, PERMISSION_DENIED, detail="check_failed")
            if refusal is not None:
                call.refuse(refusal)
                return refusal
    return None
