"""Mistakes that somebody could make in meshlib's authorization, for the referee to notice: each is put in the place of what is
right, by monkeypatch."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from meshlib.compiler import authorization
from meshlib.engine import inbound_request
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.authorization import fields, paths, templates, tokens
from meshlib.policy.authorization.blocks import Blocks
from meshlib.policy.authorization.decision import ALLOWED, Authorization
from meshlib.policy.authorization.fields import Field
from meshlib.policy.authorization.headers import HeaderLines
from meshlib.policy.authorization.hosts import Hosts
from meshlib.policy.authorization.patterns import Patterns
from meshlib.policy.authorization.peers import Namespaces, ServiceAccounts, TrustDomains
from meshlib.policy.authorization.rules import Rule

Mistake = tuple[Any, str, Any]


def other_values(index: Any, change: Callable[[str], str]) -> Mistake:
    """The look-up is made of changed values."""
    real = index.__init__

    def made(self: Any, entries: Any, *more: Any, **named: Any) -> None:
        real(self, [(bits, [change(value) for value in values]) for bits, values in entries], *more, **named)

    return index, "__init__", made


def never_certain(index: Any) -> Mistake:
    """The look-up is the one of who forbids, for who permits as well."""
    real = index.__init__
    return index, "__init__", lambda self, entries, certain=0: real(self, entries, 0)


def other_clauses(change: Callable[[Rule], Rule]) -> Mistake:
    """Rules come apart into the clauses of changed ones."""
    real = Rule.clauses
    return Rule, "clauses", lambda self: real(change(self))


def other_conditions(change: Callable[[Any], Any]) -> Mistake:
    def changed(rule: Rule) -> Rule:
        return Rule(
            tuple(tuple(map(change, clause)) for clause in rule.sources),
            tuple(tuple(map(change, clause)) for clause in rule.operations),
            tuple(map(change, rule.when)),
        )

    return other_clauses(changed)


def other_policies(change: Callable[[Any], Any]) -> Mistake:
    real = Authorization.__init__

    def made(self: Any, policies: Any, *more: Any, **named: Any) -> None:
        real(self, [change(policy) for policy in policies], *more, **named)

    return Authorization, "__init__", made


def wider(block: str) -> str:
    network = ipaddress.ip_network(block, strict=False)
    return str(network.supernet()) if network.prefixlen else block


def any_namespace() -> Mistake:
    real = ServiceAccounts.__init__

    def made(self: Any, entries: Any, certain: int = 0) -> None:
        real(self, [(b, [f"{n}/{v.split('/')[1]}" for v in vs for n in ("foo", "bar", "foobar")]) for b, vs in entries])

    return ServiceAccounts, "__init__", made


def at_the_first_slash() -> Mistake:
    real = tokens.halves

    def halves(value: str, certain: bool = False) -> Any:
        if "://" in value:
            issuer, _, subject = value.partition("://")
            host, _, subject = subject.partition("/")
            return tokens._half(f"{issuer}://{host}"), tokens._half(subject)
        return real(value, certain)

    return tokens, "halves", halves


def nobody_is_anybody() -> Mistake:
    real = Field.__init__

    def made(self: Any, kind: Any, asked: Any, every: int, permits: int) -> None:
        real(self, kind, asked, every, permits)
        if kind.of_the_peer:
            self.none |= every & permits

    return Field, "__init__", made


def allow_before_deny(self: Any, request: Any) -> Any:
    found = self._table.matched(request) & self._table.permits
    return self._of(found) if found else real_decide(self, request)


def no_rules_no_policy(self: Any, request: Any) -> Any:
    found = real_decide(self, request)
    return ALLOWED if found.status == 403 and not found.policy and not self._table.permits else found


def as_it_came(path: str, normalization: Any = "BASE") -> Any:
    found = real_spellings(path, normalization)
    return replace(found, normalized=found.wire, decoded=found.wire, resolved=found.wire)


real_counts = authorization.counts_for
real_decide = Authorization.decide
real_spellings = paths.path_spellings
real_names = fields.claim_names
real_forwarded = inbound_request.last_forwarded
real_pattern = Patterns.__call__

MISTAKES: dict[str, Mistake] = {
    "a prefix that is a character shorter": other_values(
        Patterns, lambda v: f"{v[:-2]}*" if v.endswith("*") and len(v) > 2 else v
    ),
    "a suffix that is a character shorter": other_values(
        Patterns, lambda v: f"*{v[2:]}" if v.startswith("*") and len(v) > 2 else v
    ),
    "an exact value that is a prefix": other_values(Patterns, lambda v: v if "*" in v else f"{v}*"),
    "* that takes what is empty": (Patterns, "__call__", lambda self, value: real_pattern(self, value or "\0")),
    "hosts that fit in their own case alone": (Hosts, "__call__", lambda self, authority: self._patterns(authority)),
    "hosts that permit without their port": never_certain(Hosts),
    "headers that permit by one of several items": never_certain(HeaderLines),
    "blocks a bit too wide": other_values(Blocks, wider),
    "remote addresses that are the peer's": (InboundRequest, "remote_ip", property(lambda self: self.source_ip)),
    "the first of x-forwarded-for": (
        inbound_request,
        "last_forwarded",
        lambda forwarded: real_forwarded(forwarded.partition(",")[0]),
    ),
    "namespaces by their beginning": other_values(Namespaces, lambda v: v if "*" in v else f"{v}*"),
    "service accounts of any namespace": any_namespace(),
    "trust domains by their beginning": other_values(TrustDomains, lambda v: v if "*" in v else f"{v}*"),
    "who has no identity has every one": nobody_is_anybody(),
    "request principals split at the first slash": at_the_first_slash(),
    "claims that are lists have no value": (
        fields,
        "claim_reader",
        lambda names: (
            lambda claims: (
                (found,) if isinstance(found := (claims or {}).get(names[0]), str) and len(names) == 1 else ()
            )
        ),
    ),
    "nested claims by their first name": (fields, "claim_names", lambda key: real_names(key)[:1]),
    "notValues that exclude nothing": other_conditions(lambda condition: replace(condition, not_values=())),
    "the first of several from": other_clauses(lambda rule: replace(rule, sources=rule.sources[:1])),
    "the first of several to": other_clauses(lambda rule: replace(rule, operations=rule.operations[:1])),
    "when that is forgotten": other_clauses(lambda rule: replace(rule, when=())),
    "ports that are forgotten": other_conditions(
        lambda c: replace(c, values=(), not_values=()) if c.key == "destination.port" else c
    ),
    "methods that are forgotten": other_conditions(
        lambda c: replace(c, values=(), not_values=()) if c.key == "methods" else c
    ),
    "paths as they came": (paths, "path_spellings", as_it_came),
    "{*} that goes over slashes": (templates, "_AS_ENVOY", {"{*}": ".+", "{**}": ".*"}),
    "{**} that wants something": (templates, "_ANYTHING", {"{*}": "[^/]+", "{**}": "(?s:.+)"}),
    "ALLOW goes before DENY": (Authorization, "decide", allow_before_deny),
    "ALLOW without rules is no policy": (Authorization, "decide", no_rules_no_policy),
    "policies on trial decide": other_policies(lambda policy: replace(policy, dry_run=False)),
    "AUDIT refuses": other_policies(lambda p: replace(p, action="DENY") if p.action == "AUDIT" else p),
    "policies of workloads that the selector does not take": (
        authorization,
        "counts_for",
        lambda resource, workload, root: resource.namespace in (workload.namespace, root),
    ),
    "policies of every namespace": (authorization, "counts_for", lambda *_: True),
    "policies of the root namespace are forgotten": (
        authorization,
        "counts_for",
        lambda resource, workload, root: resource.namespace != root and real_counts(resource, workload, root),
    ),
    "aliases of the trust domain are forgotten": (
        authorization,
        "principals_with_aliases",
        lambda principals, domains: tuple(principals),
    ),
    "rules after the first are forgotten": other_policies(lambda policy: replace(policy, rules=policy.rules[:1])),
}
