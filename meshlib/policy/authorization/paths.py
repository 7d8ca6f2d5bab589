"""Paths of rules (``paths``, and the header ``:path``), at every spelling that counts.

A clause that forbids is judged as a whole, with what it excludes, at each spelling: it matches when it does at any. One that
permits must match at the normalized, the decoded and the routed path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from meshlib.policy.authorization.fields import LONGEST_REMEMBERED, Asked, Layer, layers, most_remembered, size_of
from meshlib.policy.authorization.patterns import Entries, Index, Patterns, mapped
from meshlib.policy.authorization.templates import Templates, is_template
from meshlib.policy.path_spellings import Normalization, PathSpellings, path_spellings
from meshlib.policy.regex import wire

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView

PathKey: TypeAlias = str | tuple[str, str | None, str]
"""The path, or with the routed one and the query."""


class _Paths:
    """Which bits have a pattern or a template of a path."""

    __slots__ = ("_has_templates", "_patterns", "_templates")

    def __init__(self, entries: Entries, certain: int, encoded: bool, templates: bool) -> None:
        plain, others = entries, []
        if templates:
            plain = [(bits, [v for v in values if not is_template(v)]) for bits, values in entries]
            others = [(bits, [v for v in values if is_template(v)]) for bits, values in entries]
        self._patterns = Patterns(mapped(plain, wire), certain)
        self._templates = Templates(others, certain if encoded else 0)
        self._has_templates = any(values for _, values in others)

    def __call__(self, path: str) -> int:
        return self._patterns(path) | self._templates(path) if self._has_templates else self._patterns(path)


class PathField:
    """As ``Field``. ``whole``: the query belongs to it, as to the header ``:path``, which has no templates."""

    __slots__ = (
        "_decoded",
        "_encoded",
        "_every",
        "_most",
        "_normalization",
        "_permits",
        "attribute",
        "claims",
        "memo",
        "read",
        "touched",
        "unknown",
    )

    def __init__(
        self, asked: Asked, every: int, permits: int, normalization: Normalization, whole: bool = False
    ) -> None:
        self.attribute = "path"
        self.read = _with_query if whole else None
        self.claims = None
        self._every = every
        self._permits = permits
        self._normalization: Normalization = normalization
        self._encoded = self._layers(asked, every, encoded=True, templates=not whole)
        self._decoded = self._layers(asked, every, encoded=False, templates=not whole)
        self._most = most_remembered(every)
        touched = 0
        for bit, _ in asked:
            touched |= bit
        self.touched = touched
        self.unknown = every & ~(touched & permits)
        self.memo: dict[PathKey, int] = {}

    def _layers(self, asked: Asked, every: int, encoded: bool, templates: bool) -> tuple[Layer[str], ...]:
        def index(entries: Entries, certain: int) -> Index[str]:
            return _Paths(entries, certain, encoded, templates)

        return layers(asked, every, self._permits, index)

    def find(self, value: PathKey) -> int:
        """The clauses that stay."""
        found = self.memo.get(value)
        return self.learn(value) if found is None else found

    def learn(self, value: PathKey) -> int:
        """The same for a value that is not remembered."""
        found = self._find(value) & self._every
        if (len(value) if isinstance(value, str) else size_of(value)) <= LONGEST_REMEMBERED:
            if len(self.memo) >= self._most:
                self.memo.clear()
            self.memo[value] = found
        return found

    def plain(self, path: str) -> int:
        """The same for a path of which is known that it is plain (``path_spellings.is_plain``)."""
        layers = self._encoded
        if len(layers) > 1:
            return _judged(layers, path) & self._every
        layer = layers[0]
        has = layer.find(path)
        return (layer.free | has) & ~(has >> layer.shift if layer.shift else 0)

    def _find(self, value: PathKey) -> int:
        path, routed, query = (value, None, "") if isinstance(value, str) else value
        spelled = path_spellings(path, self._normalization)
        if spelled.problem:
            return self.unknown
        permits = self._permits
        forbidding, permitting = 0, -1
        for text, is_encoded, counts in _looked_at(spelled, routed):
            found = _judged(self._encoded if is_encoded else self._decoded, text + query)
            forbidding |= found
            if counts:
                permitting &= found
        return (permitting & permits) | (forbidding & ~permits)


def _looked_at(spelled: PathSpellings, routed: str | None) -> list[tuple[str, bool, bool]]:
    """Each spelling: whether it is as on the wire, not decoded, and whether who permits must hold there."""
    found = [(spelled.normalized, True, True)]
    seen = {(spelled.normalized, True)}
    for text, is_encoded, counts in (
        (spelled.decoded, False, True),
        (routed, False, True),
        (spelled.wire, True, False),
        (spelled.resolved, False, False),
    ):
        if text is not None and (text, True) not in seen and (text, is_encoded) not in seen:
            seen.add((text, is_encoded))
            found.append((text, is_encoded, counts))
    return found


def _judged(of: tuple[Layer[str], ...], path: str) -> int:
    found = -1
    for layer in of:
        has = layer.find(path)
        found &= layer.free | has
        if layer.shift:
            found &= ~(has >> layer.shift)
    return found


def _with_query(request: InboundView) -> PathKey:
    return request.path, request.routed, f"?{request.query}" if request.query else ""
