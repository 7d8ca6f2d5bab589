"""AuthorizationPolicy (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty
from meshlib.resources.guarding import Guarding
from meshlib.resources.selection import Selector, TargetRef
from meshlib.resources.types import names


class Provider(Model):
    """``spec.provider`` of AuthorizationPolicy."""

    name: str | None = None


class Source(Model):
    """``spec.rules.from.source`` of AuthorizationPolicy."""

    ip_blocks: list[str] | None = None
    namespaces: list[str] | None = None
    not_ip_blocks: list[str] | None = None
    not_namespaces: list[str] | None = None
    not_principals: list[str] | None = None
    not_remote_ip_blocks: list[str] | None = None
    not_request_principals: list[str] | None = None
    not_service_accounts: list[str] | None = None
    not_trust_domains: list[str] | None = None
    principals: list[str] | None = None
    remote_ip_blocks: list[str] | None = None
    request_principals: list[str] | None = None
    service_accounts: list[str] | None = None
    trust_domains: list[str] | None = None


class RulesFrom(Model):
    """``spec.rules.from`` of AuthorizationPolicy."""

    source: Source | None = None


class Operation(Model):
    """``spec.rules.to.operation`` of AuthorizationPolicy."""

    hosts: list[str] | None = None
    methods: list[str] | None = None
    not_hosts: list[str] | None = None
    not_methods: list[str] | None = None
    not_paths: list[str] | None = None
    not_ports: list[str] | None = None
    paths: list[str] | None = None
    ports: list[str] | None = None


class RulesTo(Model):
    """``spec.rules.to`` of AuthorizationPolicy."""

    operation: Operation | None = None


class RulesWhen(Model):
    """``spec.rules.when`` of AuthorizationPolicy."""

    key: str
    not_values: list[str] | None = None
    values: list[str] | None = None


class Rule(Model):
    """``spec.rules`` of AuthorizationPolicy."""

    from_: list[RulesFrom] | None = Field(default=None, alias="from")
    to: list[RulesTo] | None = None
    when: list[RulesWhen] | None = None


class AuthorizationPolicySpec(Model):
    """``spec`` of AuthorizationPolicy."""

    action: Annotated[Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"], names("ALLOW", "DENY", "AUDIT", "CUSTOM")] | None = (
        None
    )
    provider: Provider | None = None
    rules: list[Rule] | None = None
    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] | None = None


class AuthorizationPolicy(Guarding):
    """Istio's AuthorizationPolicy."""

    kind: Literal["AuthorizationPolicy"]
    spec: Annotated[AuthorizationPolicySpec, NothingIsEmpty] = Field(default_factory=AuthorizationPolicySpec)
    status: object = None
