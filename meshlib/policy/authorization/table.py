"""All rules of one effect as a table: each field of a request rules clauses out, and what is left has matched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.authorization.fields import PATH_HEADER, Field, is_of_head_and_peer, kind_of
from meshlib.policy.authorization.paths import PathField
from meshlib.policy.authorization.rules import Condition, Policy, RuleOf
from meshlib.policy.authorization.tokens import VerifiedClaims

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
    def claims(self) -> Callable[[Mapping[str, object] | None], object] | None: ...
    @property
    def memo(self) -> dict[object, int]: ...
    @property
    def touched(self) -> int: ...

    def find(self, value: object) -> int: ...
    def learn(self, value: object) -> int: ...


ORDER = ("methods", "destination.port", "source.principal", "source.namespace", "source.service", "source.trust")
"""What has few values, which are soon remembered, comes first; then the path, then all else."""


class RuleTable:
    """The rules of ``policies``. ``permits``: whether they let in by them; None: as each policy's action says, and those that
    forbid come first.

    ``first(request)`` is the rule that Envoy would name: they are in the order of their ids. Rules without conditions match
    everything, a policy without rules nothing. Raises ``BadCondition``, and ``ValueError`` for an address or port that is
    none; nothing once it is made."""

    __slots__ = (
        "_claimed",
        "_claims",
        "_every",
        "_first",
        "_mark",
        "_others",
        "_paths",
        "_then",
        "_undecided",
        "facts",
        "late",
        "of_head_and_peer",
        "permits",
        "rules",
    )

    def __init__(
        self, policies: Sequence[Policy], *, permits: bool | None, normalization: Normalization = "BASE"
    ) -> None:
        def lets_in(policy: Policy) -> bool:
            return policy.action == "ALLOW" if permits is None else permits

        rules = [RuleOf(policy, index) for policy in policies for index in range(len(policy.rules))]
        rules.sort(key=lambda rule: (lets_in(rule.policy), rule.id))
        self.rules: list[RuleOf] = []
        """By bit."""
        self.permits = 0
        """The bits of those that let in."""
        asked: dict[str, list[tuple[int, Condition]]] = {}
        for rule in rules:
            for clause in rule.policy.rules[rule.index].clauses():
                bit = 1 << len(self.rules)
                self.rules.append(rule)
                if lets_in(rule.policy):
                    self.permits |= bit
                for condition in clause:
                    asked.setdefault(same(condition.key), []).append((bit, condition))
        self._every = (1 << len(self.rules)) - 1
        self.of_head_and_peer = all(map(is_of_head_and_peer, asked))
        """Whether requests that have their head and peer in common match the same."""
        about_paths = asked.pop("paths", None)
        made = [field_of(k, asked[k], self._every, self.permits, normalization) for k in sorted(asked, key=_place)]
        plain = [field for field in made if field.read is None and field.claims is None]
        others = [field for field in made if field.read is not None]
        of_tokens = [field for field in made if field.claims is not None]
        self.facts: Callable[[InboundView], tuple[object, ...]] = attrgetter(
            "path", "method", *(f.attribute for f in plain)
        )
        """What is known of a request at once; ``after`` rules out by it."""
        self._paths = None
        if about_paths is not None:
            self._paths = PathField(about_paths, self._every, self.permits, normalization)
        finds = [(at, field.memo.get, field.learn) for at, field in enumerate(plain, 2)]
        first = sum([_place(key)[0] < len(ORDER) for key in asked])
        self._first, self._then = finds[:first], finds[first:]
        self._others = tuple((field.read, field.find) for field in others if field.read is not None)
        self._claims = tuple((field.claims, field.find) for field in of_tokens if field.claims is not None)
        self._claimed = 0
        for field in of_tokens:
            self._claimed |= field.touched
        self._mark = object()  # not the table: a token may be kept for longer
        self.late = 0
        """The clauses that have conditions on more than ``facts`` and claims."""
        for field in others:
            self.late |= field.touched
        self._undecided = self._claimed | self.late

    def __len__(self) -> int:
        return len(self.rules)

    def after(self, facts: Sequence[object], routed: str | None = None, *, plain: bool = False) -> int:
        """The clauses that ``facts(request)`` leaves: all that match are among them. ``plain``: its path is known to be."""
        path = str(facts[0])
        left = self._every
        for at, remembered, learn in self._first:
            found = remembered(facts[at])
            left &= learn(facts[at]) if found is None else found
            if not left:
                return 0
        paths = self._paths
        if paths is not None:
            left &= paths.plain(path) if plain else paths.find(path if routed is None else (path, routed, ""))
            if not left:
                return 0
        for at, remembered, learn in self._then:
            found = remembered(facts[at])
            left &= learn(facts[at]) if found is None else found
        return left

    def is_final(self, left: int) -> bool:
        """Whether the first of the clauses that are left is the first that matches, whatever the rest of the request."""
        return not left & -left & self._undecided

    def rest(self, request: InboundView, left: int) -> int:
        """Those of the clauses that match."""
        if left & self._claimed:
            claims = request.claims
            if type(claims) is VerifiedClaims:
                mark, found = claims.found
                left &= found if mark is self._mark else self._of_claims(claims)
            else:
                left &= self._of_claims(claims)
        if left & self.late:
            for read, find in self._others:
                left &= find(read(request))
                if not left:
                    break
        return left

    def _of_claims(self, claims: Mapping[str, object] | None) -> int:
        """The clauses that these claims leave, None: there is no token."""
        left = self._every
        for read, find in self._claims:
            left &= find(read(claims))
        if type(claims) is VerifiedClaims:
            claims.found = self._mark, left
        return left

    def matched(self, request: InboundView) -> int:
        """The clauses that match, as bits."""
        return self.rest(request, self.after(self.facts(request), request.routed))

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
    key: str, asked: Sequence[tuple[int, Condition]], every: int, permits: int, normalization: Normalization
) -> AnyField:
    """The field of a key, for the conditions on it. Raises ``BadCondition``, ``ValueError``."""
    if key in ("paths", PATH_HEADER):
        paths: AnyField = PathField(asked, every, permits, normalization, whole=key != "paths")  # type: ignore[assignment]
        return paths
    return Field(kind_of(key), asked, every, permits)  # type: ignore[arg-type]


def _place(key: str) -> tuple[int, str]:
    return next((i for i, start in enumerate(ORDER) if key.startswith(start)), len(ORDER)), key
