"""The hosts of the soak and what each promises its callers. The configuration (``config.py``) is made to keep it, and the
referee (``judge.py``) holds the mesh to it."""

from __future__ import annotations

from dataclasses import dataclass

IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True)
class Promise:
    """``retried``: "all" (the policy retries whatever goes wrong before a head has come, so nothing may), "connect"
    (Istio's default: connect-failure and refused-stream, so a request that was executed is never sent again) or "none".
    ``refuses``: the host's ResiliencePolicy may answer 503 with flag UO. ``hedged``: idempotent requests may run twice."""

    retried: str
    protocol: str = "http1"
    refuses: bool = False
    hedged: bool = False
    mirrored: bool = False

    @property
    def most(self) -> int:
        """How often an idempotent request may be executed: by every attempt, by one that is resent on a fresh connection,
        and by a hedge beside each of these."""
        return (1 + (ATTEMPTS if self.retried == "all" else 0) + 1) * (2 if self.hedged else 1)


ATTEMPTS = 7

PROMISES = {
    "steady.test": Promise("all"),
    "narrow.test": Promise("all"),
    "moving.test": Promise("all"),
    "flap.test": Promise("all"),
    "mirrored.test": Promise("all", mirrored=True),
    "default.test": Promise("connect"),
    "once.test": Promise("none"),
    "guarded.test": Promise("none", refuses=True, hedged=True),
    "outside": Promise("none"),
    "h2.test": Promise("all", "http2"),
    "h2default.test": Promise("connect", "http2"),
    "h2once.test": Promise("none", "http2"),
    "grpc.test": Promise("all", "grpc"),
    "grpconce.test": Promise("none", "grpc"),
}
