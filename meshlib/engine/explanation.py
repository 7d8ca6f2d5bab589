"""What the mesh decided for a call and, after it, what happened: ``meshlib.Exchange``, one object for ``mesh.explain``, for
``response.extensions["mesh"]`` and for the ``exchange`` of every call error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Failure
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule, VirtualHost
    from meshlib.engine.facts import AttemptFacts, DetailFacts, ExplanationFacts, RuleFacts
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.peer_metadata import PeerMetadata


class Attempt:
    """One try: where it went, what came of it (``failure``: of the connection, or a gRPC status; ``detail``: why, in words),
    how long its head took. ``ended``: when that was, by the mesh's monotonic clock."""

    __slots__ = ("detail", "ended", "endpoint", "failure", "ms", "status")

    def __init__(
        self, endpoint: str, status: int, failure: str, ms: float, ended: float = 0.0, detail: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.status = status
        self.failure = failure
        self.ms = ms
        self.ended = ended
        self.detail = detail

    def to_dict(self) -> AttemptFacts:
        return {
            "endpoint": self.endpoint,
            "status": self.status,
            "failure": self.failure,
            "detail": self.detail,
            "ms": round(self.ms, 3),
        }

    def __repr__(self) -> str:
        return f"<Attempt {self.endpoint} {self.failure or self.status} {self.ms:.1f} ms>"


class Considered:
    """A rule that explain looked at: ``taken``, or why not."""

    __slots__ = ("index", "name", "reason", "taken")

    def __init__(self, index: int, name: str, taken: bool, reason: str) -> None:
        self.index = index
        self.name = name
        self.taken = taken
        self.reason = reason

    def to_dict(self) -> RuleFacts:
        return {"rule": self.index, "name": self.name, "taken": self.taken, "reason": self.reason}


class Exchange:
    """The decision and the facts of one call. (The generator that makes the call is ``engine.effects.Exchange``.)

    ``flags`` are Envoy's response flags, comma separated ("" for none): UH no healthy upstream, UF connect failure, UO
    overflow, UT timeout, UC connection termination, URX retries exhausted, NR no route, NC no cluster, DI delay injected,
    FI fault injected, DC the caller gave up, UR the server refused the stream, UPE not HTTP, FB a fallback answered.
    ``upstream_ms`` is the time from the first byte sent to the head received of
    the last attempt, in milliseconds, None when nothing was sent. ``status`` is the response's, 0 when there was none;
    ``grpc_status`` the number of the gRPC status that the caller got, None when the call was not gRPC's or has not ended.
    ``peer_metadata`` is what the server has told of itself in headers, None when it has not, or is not to be believed.
    """

    __slots__ = (
        "_attempts",
        "_details",
        "answered",
        "attempted",
        "considered",
        "destination",
        "endpoint",
        "flags",
        "grpc_status",
        "injected_delay",
        "peer_metadata",
        "rule_object",
        "started",
        "status",
        "upstream_ms",
        "version",
        "virtual_host",
    )

    answered: tuple[Outcome, float, bool]
    """How the last attempt ended, or what was responded here (True), and when. Only there when ``Live.tells``."""

    def __init__(self, virtual_host: VirtualHost, rule: Rule | None, version: str) -> None:
        self.virtual_host = virtual_host
        self.rule_object = rule
        self.version = version
        self.destination: Destination | None = None
        self.endpoint = ""
        self.attempted: tuple[str, int, Failure | int | None, float] | None = None
        self._attempts: list[Attempt] | None = None
        self.flags = ""
        self.upstream_ms: float | None = None
        self.injected_delay = 0.0
        self.started = 0.0
        self.status = 0
        self.grpc_status: int | None = None
        self.peer_metadata: PeerMetadata | None = None
        self.considered: list[Considered] | None = None
        self._details: DetailFacts | None = None

    @property
    def attempts(self) -> list[Attempt]:
        """What was tried, in the order of ends."""
        self.keep_attempt()
        if self._attempts is None:
            self._attempts = []
        return self._attempts

    def keep_attempt(self, detail: str = "") -> None:
        """What ``attempted`` says of the attempt that ended last becomes one of ``attempts``: only where somebody looks, it
        has failed (``detail``: why), or another attempt follows."""
        if self.attempted is None:
            return
        endpoint, status, why, ended = self.attempted
        self.attempted = None
        failure = "" if not why else why.name if isinstance(why, Failure) else GRPC_NAMES[why]
        if self._attempts is None:
            self._attempts = []
        self._attempts.append(Attempt(endpoint, status, failure.lower(), self.upstream_ms or 0.0, ended, detail))

    @property
    def resource(self) -> str:
        """``VirtualService/default/reviews``, or "" when no VirtualService claims the host."""
        return self.virtual_host.resource

    @property
    def rule(self) -> int | None:
        """Position of the rule in ``spec.http``; -1 for a default route, None when no rule matched."""
        return None if self.rule_object is None else self.rule_object.index

    @property
    def rule_name(self) -> str:
        return "" if self.rule_object is None else self.rule_object.name

    @property
    def host(self) -> str:
        """The destination's full host name, or the virtual host's before a destination is chosen."""
        return self.virtual_host.host if self.destination is None else self.destination.host

    @property
    def subset(self) -> str:
        return "" if self.destination is None else self.destination.subset

    @property
    def lack(self) -> str:
        """Of a call that failed because something has no endpoints: what, why, and how it would get some. "" of others."""
        return self._details.get("lack", "") if self._details is not None else ""

    def add_flag(self, flag: str) -> None:
        """Append one of Envoy's response flags."""
        self.flags = f"{self.flags},{flag}" if self.flags else flag

    def add_details(self, details: DetailFacts) -> None:
        """Facts that only ``mesh.explain`` gathers (policies of the rule, endpoints of the cluster)."""
        self._details = {**(self._details or {}), **details}

    @property
    def not_sent_again(self) -> str:
        """Why a request was not retried, or not mirrored, although the route asks for it: its body was too long to be kept.
        "" when there is nothing to be said."""
        return "" if self._details is None else self._details.get("not_sent_again", "")

    def not_again(self, why: str) -> None:
        """Note that something was not done because the request cannot be sent again."""
        self.add_details({"not_sent_again": "; ".join(filter(None, (self.not_sent_again, why)))})

    def to_dict(self) -> ExplanationFacts:
        """All of it, for programs; keys are stable."""
        found: ExplanationFacts = {
            "resource": self.resource,
            "rule": self.rule,
            "rule_name": self.rule_name,
            "host": self.host,
            "subset": self.subset,
            "port": 0 if self.destination is None else self.destination.port,
            "endpoint": self.endpoint,
            "attempts": [a.to_dict() for a in self.attempts],
            "flags": self.flags,
            "upstream_ms": self.upstream_ms,
            "injected_delay": self.injected_delay,
            "config_version": self.version,
            "note": self.virtual_host.note,
            "lack": self.lack,
        }
        if self.considered is not None:
            found["considered"] = [c.to_dict() for c in self.considered]
        if self._details:
            found = {**found, **self._details}
        return found

    def __repr__(self) -> str:
        where = f"{self.host}/{self.subset}" if self.subset else self.host
        return f"<Exchange {self.resource or 'default route'} rule={self.rule} -> {where} {self.flags}>".rstrip()

    def __str__(self) -> str:
        from meshlib.engine.explain_text import render

        return render(self.to_dict())

    def _repr_html_(self) -> str:
        """For notebooks."""
        from meshlib.engine.explain_html import as_html

        return as_html(str(self))
