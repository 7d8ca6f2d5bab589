"""What the mesh decides about a request that comes in, and why: one object for ``mesh.explain_inbound`` and its command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class PolicyFacts(TypedDict):
    """A policy that was looked at: ``rule`` is the position of the rule that matched, None when none did."""

    policy: str
    action: str
    dry_run: bool
    matched: bool
    rule: int | None
    reason: str


class InboundFacts(TypedDict):
    """What ``InboundExplanation.to_dict`` tells; the keys are stable."""

    allowed: bool
    status: int
    grpc_status: int | None
    policy: str
    rule: int | None
    resource: str
    reason: str
    request: str
    policies: list[PolicyFacts]
    notes: list[str]
    mtls: str
    mtls_policy: str


@dataclass(frozen=True, slots=True)
class PolicyConsidered:
    """An AuthorizationPolicy of the workload. ``policy`` is "namespace/name", ``action`` AUDIT, DENY, ALLOW or CUSTOM;
    ``dry_run``: it decides nothing. ``reason`` says what matched, or for each rule what did not."""

    policy: str
    action: str
    dry_run: bool
    matched: bool
    rule: int | None
    reason: str

    def to_dict(self) -> PolicyFacts:
        return {
            "policy": self.policy,
            "action": self.action,
            "dry_run": self.dry_run,
            "matched": self.matched,
            "rule": self.rule,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"{self.policy}  {self.reason}"


@dataclass(frozen=True, slots=True)
class InboundExplanation:
    """A decision, before anything that must be asked of others.

    ``status`` is that of the response: 200 when the request would reach the application, which may respond otherwise;
    ``grpc_status`` of a gRPC call, None of others. ``policy`` ("namespace/name") and ``rule`` (its position) are of the DENY
    rule that refuses or the ALLOW rule that lets in, "" and None when there is none; ``resource`` is that policy as
    "AuthorizationPolicy/namespace/name", or the PeerAuthentication that refuses (``refused_by``). ``mtls`` is the mode of the
    port (STRICT, PERMISSIVE, DISABLE), ``mtls_policy`` where it comes from ("namespace/name", "": no policy).
    ``notes`` say what would be decided elsewhere (external authorizers, tokens, limits)
    or is not known."""

    allowed: bool
    status: int
    reason: str
    request: str
    policy: str = ""
    rule: int | None = None
    grpc_status: int | None = None
    policies: tuple[PolicyConsidered, ...] = ()
    notes: tuple[str, ...] = ()
    mtls: str = "PERMISSIVE"
    mtls_policy: str = ""
    refused_by: str = ""

    @property
    def resource(self) -> str:
        return self.refused_by or (f"AuthorizationPolicy/{self.policy}" if self.policy else "")

    def to_dict(self) -> InboundFacts:
        """All of it, for programs; keys are stable."""
        return {
            "allowed": self.allowed,
            "status": self.status,
            "grpc_status": self.grpc_status,
            "policy": self.policy,
            "rule": self.rule,
            "resource": self.resource,
            "reason": self.reason,
            "request": self.request,
            "policies": [policy.to_dict() for policy in self.policies],
            "notes": list(self.notes),
            "mtls": self.mtls,
            "mtls_policy": self.mtls_policy,
        }

    def __str__(self) -> str:
        lines = [f"{'allowed' if self.allowed else 'refused'}  {self.status} {self.reason}", f"request  {self.request}"]
        if self.mtls_policy:
            lines.append(f"mtls     {self.mtls} by PeerAuthentication/{self.mtls_policy}")
        lines += [f"policy   {policy}" for policy in self.policies] or [
            f"policy   none {'is asked' if self.refused_by else 'applies to this workload'}"
        ]
        lines += [f"note     {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from meshlib.engine.explain_html import as_html

        return as_html(str(self))
