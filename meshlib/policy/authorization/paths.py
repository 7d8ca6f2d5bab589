"""Paths of rules (``paths``, and the header ``:path``), at every spelling that counts.

A clause that forbids is judged as a whole, with what it excludes, at each spelling: it matches when it does at any. One that
permits must match at the normalized, the decoded and the routed path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from meshlib.policy.authorization.fields import LONGEST_REMEMBERED, Asked, Layer, layers, most_remembered, size_of
from meshlib.policy.authorization.patterns import Entries, Index, Patterns, mapped
from meshlib.policy.authorization.templates import Templates, is_template
from meshlib.policy.path_spellings import Normalization, is_plain, path_spellings
from meshlib.policy.regex import wire

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView

PathKey: TypeAlias = str | tuple[str, str | None, str]
"""The path, or with the routed one and the query."""


class _Paths:
    """Which bits have a pattern or a template of a path."""

    __slots__ = ("_has_templates", "_patterns", "_templates")

    def __init__(self, entries: Entries, certain: bool, encoded: bool, templates: bool) -> None:
        plain, others = entries, []
        if templates:
            plain = [(bits, [v for v in values if not is_template(v)]) for bits, values in entries]
            others = [(bits, [v for v in values if is_template(v)]) for bits, values in entries]
        self._patterns = Patterns(mapped(plain, wire), certain)
        self._templates = Templates(others, certain and encoded)
        self._has_templates = any(values for _, values in others)

    def __call__(self, path: str) -> int:
        return self._patterns(path) | self._templates(path) if self._has_templates else self._patterns(path)


class PathField:
    """As ``Field``. ``whole``: the query belongs to it, as to the header ``:path``, which has no templates."""

    __slots__ = ("_decoded", "_encoded", "_most", "_normalization", "_permits", "attribute", "memo", "read", "unknown")

    def __init__(
        self, asked: Asked, every: int, permits: bool, normalization: Normalization, whole: bool = False
    ) -> None:
        self.attribute = ""
        self.read = _with_query if whole else _path
        self._permits = permits
        self._normalization: Normalization = normalization
        self._encoded = self._layers(asked, every, encoded=True, templates=not whole)
        self._decoded = self._layers(asked, every, encoded=False, templates=not whole)
        self._most = most_remembered(every)
        touched = 0
        for bit, _ in asked:
            touched |= bit
        self.unknown = every & ~touched if permits else every
        self.memo: dict[PathKey, int] = {}

    def _layers(self, asked: Asked, every: int, encoded: bool, templates: bool) -> tuple[Layer[str], ...]:
        def index(entries: Entries, certain: bool) -> Index[str]:
            return _Paths(entries, certain, encoded, templates)

        return layers(asked, every, self._permits, index)

    def find(self, value: PathKey) -> int:
        """The clauses that stay."""
        found = self.memo.get(value)
        if found is None:
            found = self._find(value)
            if (len(value) if isinstance(value, str) else size_of(value)) <= LONGEST_REMEMBERED:
                if len(self.memo) >= self._most:
                    self.memo.clear()
                self.memo[value] = found
        return found

    def _find(self, value: PathKey) -> int:
        if isinstance(value, str):
            if is_plain(value):
                return _judged(self._encoded, value)
            path, routed, query = value, None, ""
        else:
            path, routed, query = value
        spelled = path_spellings(path, self._normalization)
        if spelled.problem:
            return self.unknown
        encoded = [spelled.normalized]
        decoded = [spelled.decoded]
        if not self._permits:
            encoded.insert(0, spelled.wire)
            decoded.append(spelled.resolved)
        if routed is not None:
            decoded.append(routed)
        found = [_judged(self._encoded, text + query) for text in dict.fromkeys(encoded)]
        found += [_judged(self._decoded, text + query) for text in dict.fromkeys(decoded) if text not in encoded]
        stays = found[0]
        for one in found:
            stays = stays & one if self._permits else stays | one
        return stays


def _judged(of: tuple[Layer[str], ...], path: str) -> int:
    found = -1
    for layer in of:
        found &= (layer.free | layer.wanted(path)) & ~layer.excluded(path)
    return found


def _path(request: InboundView) -> PathKey:
    routed = request.routed
    return request.path if routed is None else (request.path, routed, "")


def _with_query(request: InboundView) -> PathKey:
    return request.path, request.routed, f"?{request.query}" if request.query else ""
