"""The check of a port whose PeerAuthentication is STRICT: who has no identity of the mesh does not come in.

A sidecar, and our acceptor, reset a connection in plain text; where another server has accepted it, its requests are refused
here, whether it was plain text, TLS without a valid SVID, or a server that does not show who calls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from meshlib.engine.let_in import ALWAYS
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshlib.engine.let_in import LetIn
    from meshlib.policy.inbound_view import InboundView

BODY = "mTLS is required: call with a certificate of the mesh"
PERMISSION_DENIED = 7


class PeerCounts:
    """The requests that STRICT has refused since the mesh was made, by PeerAuthentication ("namespace/name"). ``report`` (set
    by whoever can log) hears of each: what became of it, the request, and the details."""

    __slots__ = ("_counts", "_lock", "report")

    def __init__(self) -> None:
        self.report: Callable[[str, InboundView, str], None] | None = None
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def tell(self, policy: str, request: InboundView, detail: str) -> None:
        """One more."""
        with self._lock:
            self._counts[policy] = self._counts.get(policy, 0) + 1
        if self.report is not None:
            self.report("denied", request, detail)

    def refused(self) -> Mapping[str, int]:
        """Those so far, by policy."""
        with self._lock:
            return dict(self._counts)

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that does not exist here."""
        self._lock = threading.Lock()


class PeerCheck:
    """Refuses peers without an identity. ``policy`` is the PeerAuthentication that says STRICT."""

    at_once = True
    __slots__ = ("_counts", "_no_identity", "_plain_text", "policy")

    def __init__(self, policy: str, counts: PeerCounts) -> None:
        self.policy = policy
        self._counts = counts
        self._plain_text = _refusal(f"mtls_required_policy[{policy}]_plain_text")
        self._no_identity = _refusal(f"mtls_required_policy[{policy}]_no_identity")

    def __call__(self, request: InboundView) -> Refusal | None:
        """The refusal, None when the peer has an identity."""
        if request.principal:
            return None
        refusal = self._no_identity if request.secure else self._plain_text
        self._counts.tell(self.policy, request, refusal.detail)
        return refusal

    def rests_on(self, request: InboundView) -> LetIn | None:
        """On the peer alone."""
        return ALWAYS if request.principal else None


def _refusal(detail: str) -> Refusal:
    return Refusal(403, BODY, PERMISSION_DENIED, detail=detail)
