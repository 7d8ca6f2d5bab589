"""All rules of one effect as a table: each field of a request rules clauses out, and what is left has matched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.authorization.fields import PATH_HEADER, Field, kind_of
from meshlib.policy.authorization.paths import PathField
from meshlib.policy.authorization.rules import Condition, Policy, RuleOf

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView
    from meshlib.policy.path_spellings import Normalization


class AnyField(Protocol):
    """``Field`` of any kind of value, and ``PathField``."""

    @property
    def attribute(self) -> str: ...
    @property
    def read(self) -> Callable[[InboundView], object] | None: ...
    @property
    def memo(self) -> dict[object, int]: ...

    def find(self, value: object) -> int: ...


ORDER = ("methods", "source.", "paths", "destination.", "hosts", "remote.", "connection.")
"""The cheap ones, and those that rule out most, first."""


class RuleTable:
    """The rules of ``policies``, which all permit, or all forbid, by them.

    ``first(request)`` is the rule that Envoy would name: they are in the order of their ids. Rules without conditions match
    everything, a policy without rules nothing. Raises ``BadCondition``, and ``ValueError`` for an address or port that is
    none; nothing once it is made."""

    __slots__ = ("_attributes", "_every", "_finds", "_others", "attributes", "readers", "rules")

    def __init__(self, policies: Sequence[Policy], *, permits: bool, normalization: Normalization = "BASE") -> None:
        rules = sorted((RuleOf(p, i) for p in policies for i in range(len(p.rules))), key=lambda rule: rule.id)
        self.rules: list[RuleOf] = []
        """By bit."""
        asked: dict[str, list[tuple[int, Condition]]] = {}
        for rule in rules:
            for clause in rule.policy.rules[rule.index].clauses():
                bit = 1 << len(self.rules)
                self.rules.append(rule)
                for condition in clause:
                    asked.setdefault(same(condition.key), []).append((bit, condition))
        self._every = (1 << len(self.rules)) - 1
        keys = sorted(asked, key=_place)
        made = [field_of(key, asked[key], self._every, permits, normalization) for key in keys]
        plain = [field for field in made if field.read is None]
        self.attributes = tuple(field.attribute for field in plain)
        """What of a request it looks at; with what ``readers``, by key, read of it that is everything."""
        self.readers = {key: field.read for key, field in zip(keys, made, strict=True) if field.read is not None}
        self._attributes = getter(self.attributes)
        self._finds = tuple((field.memo.get, field.find) for field in plain)
        self._others = tuple((field.read, field.memo.get, field.find) for field in made if field.read is not None)

    def __len__(self) -> int:
        return len(self.rules)

    def matched(self, request: InboundView) -> int:
        """The clauses that match, as bits."""
        left = self._every
        if self._finds:
            for value, (remembered, find) in zip(self._attributes(request), self._finds, strict=True):
                found = remembered(value)
                left &= find(value) if found is None else found
                if not left:
                    return 0
        for read, remembered, find in self._others:
            value = read(request)
            found = remembered(value)
            left &= find(value) if found is None else found
            if not left:
                return 0
        return left

    def first(self, request: InboundView) -> RuleOf | None:
        """The first rule that matches."""
        left = self.matched(request)
        return self.rules[(left & -left).bit_length() - 1] if left else None

    def all(self, request: InboundView) -> Iterator[RuleOf]:
        """Every rule that matches, once each."""
        left = self.matched(request)
        last = None
        while left:
            lowest = left & -left
            left ^= lowest
            rule = self.rules[lowest.bit_length() - 1]
            if rule is not last:
                yield rule
            last = rule


def same(key: str) -> str:
    """Header names in lower case: one field for all spellings of a name."""
    return key.lower() if key.startswith("request.headers[") else key


def field_of(
    key: str, asked: Sequence[tuple[int, Condition]], every: int, permits: bool, normalization: Normalization
) -> AnyField:
    """The field of a key, for the conditions on it. Raises ``BadCondition``, ``ValueError``."""
    if key in ("paths", PATH_HEADER):
        paths: AnyField = PathField(asked, every, permits, normalization, whole=key != "paths")  # type: ignore[assignment]
        return paths
    return Field(kind_of(key), asked, every, permits)  # type: ignore[arg-type]


def _place(key: str) -> tuple[int, str]:
    return next((i for i, start in enumerate(ORDER) if key.startswith(start)), len(ORDER)), key


def getter(names: Sequence[str]) -> Callable[[InboundView], tuple[object, ...]]:
    """All attributes at once, in one step."""
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda request: (only(request),)
    return attrgetter(*names) if names else lambda request: ()
