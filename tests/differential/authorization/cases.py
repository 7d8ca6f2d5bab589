"""What is decided: policies of a workload, and a request of somebody who connects in some way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]
Pairs = tuple[tuple[str, str], ...]

ROOT = "istio-system"
NAMESPACE = "foo"
LABELS = {"app": "httpbin", "version": "v1"}
NORMALIZATIONS = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


@dataclass(frozen=True)
class Caller:
    """A connection: ``principal`` is the URI of the client's certificate without ``spiffe://`` ("": plain text), ``sni`` what
    its TLS asks for, ``destination_ip`` and ``port`` where it came to."""

    principal: str = ""
    sni: str = ""
    source_ip: str = "127.0.0.1"
    destination_ip: str = "10.10.10.10"
    port: int = 8080

    @property
    def secure(self) -> bool:
        return bool(self.principal)


@dataclass(frozen=True)
class Request:
    """A request as sent; ``target`` as on the wire, ``claims`` of its verified token (None: no token). ``headers`` keep order
    and repetition, Host is apart."""

    method: str = "GET"
    target: str = "/"
    authority: str = "httpbin.foo"
    headers: Pairs = ()
    claims: Mapping[str, Any] | None = None
    caller: Caller = field(default_factory=Caller)

    def __str__(self) -> str:
        lines = [f"{self.method} {self.target} to {self.authority} from {self.caller}"]
        lines += [f"  {name}: {value}" for name, value in self.headers]
        if self.claims is not None:
            lines.append(f"  claims {json.dumps(self.claims)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Case:
    """AuthorizationPolicies as the cluster holds them, for the workload ``httpbin`` of ``foo``, and requests to it."""

    number: int
    policies: tuple[Config, ...]
    requests: tuple[Request, ...]
    normalization: str = "BASE"
    trust_domain: str = "cluster.local"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """``status`` 200 let in, 403 refused by policy, 400 refused as no request at all; ``by`` is "ns/name[rule]" of the DENY
    rule that refused, "" when none did (no ALLOW rule matched, or the request came in)."""

    status: int
    by: str = ""


def policy(
    name: str,
    *rules: Config,
    action: str | None = None,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
    dry_run: bool = False,
    **spec: Any,
) -> Config:
    """An AuthorizationPolicy; without rules it has no field ``rules``."""
    metadata: Config = {"name": name, "namespace": namespace}
    if dry_run:
        metadata["annotations"] = {"istio.io/dry-run": "true"}
    made: Config = dict(spec)
    if action is not None:
        made["action"] = action
    if labels is not None:
        made["selector"] = {"matchLabels": dict(labels)}
    if rules:
        made["rules"] = list(rules)
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": made}
