"""AuthorizationPolicies as settings: what the compiler hands over, and how they come apart into clauses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

Action: TypeAlias = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One field of a rule: the request has one of ``values`` (where there are any), and none of ``not_values``.

    ``key`` names the fact: those of Istio's ``when`` (``source.ip``, ``remote.ip``, ``source.principal``, ``source.namespace``,
    ``source.serviceAccount``, ``source.trustDomain``, ``request.auth.principal``, ``request.auth.audiences``,
    ``request.auth.presenter``, ``request.auth.claims[..]``, ``request.headers[..]``, ``destination.ip``,
    ``destination.port``, ``connection.sni``, ``experimental.envoy.filters...``), and ``methods``, ``paths``, ``hosts``, which
    only ``to`` has. What ``from`` and ``to`` say of the others has their key. ``field`` is what the YAML calls it."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()
    field: str = ""

    @property
    def name(self) -> str:
        """For people: as the YAML names it."""
        return self.field or self.key


Clause: TypeAlias = tuple[Condition, ...]
"""Conditions that must all hold."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One of ``rules``: any of ``sources`` and any of ``operations`` (those of ``from`` and ``to``; none: no constraint), and
    all of ``when``."""

    sources: tuple[Clause, ...] = ()
    operations: tuple[Clause, ...] = ()
    when: Clause = ()

    def clauses(self) -> Iterator[Clause]:
        """The rule matches when one of these holds."""
        for source, operation in product(self.sources or ((),), self.operations or ((),)):
            yield tuple(c for c in (*source, *operation, *self.when) if c.values or c.not_values)


@dataclass(frozen=True, slots=True)
class Policy:
    """An AuthorizationPolicy that counts for the workload. ``dry_run``: it is judged and counted and decides nothing.
    ``broken`` says why it could not be read ("": it could): its rule stands for all that it may have said. ``provider`` is
    CUSTOM's."""

    namespace: str
    name: str
    action: Action
    rules: tuple[Rule, ...] = ()
    dry_run: bool = False
    broken: str = ""
    provider: str = ""

    @property
    def id(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RuleOf:
    """A rule and where it stands."""

    policy: Policy
    index: int

    @property
    def id(self) -> str:
        """As Istio names it to Envoy, which shows it in its response code details."""
        return f"ns[{self.policy.namespace}]-policy[{self.policy.name}]-rule[{self.index}]"
