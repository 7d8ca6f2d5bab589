"""Path templates: ``{*}`` is one segment, ``{**}`` whatever is left (Envoy's uri_template matcher)."""

from __future__ import annotations

import re

from meshlib.policy.authorization.patterns import Entries, lengths_by
from meshlib.policy.regex import compile_full_match, compile_set, quoted

_OPERATOR = re.compile(r"(\{\*\*?\})")
_PCHAR = r"A-Za-z0-9\-._~%!$&'()*+,;:@="
"""What Envoy lets operators match in a path that is not decoded."""
_AS_ENVOY = {"{*}": f"[{_PCHAR}]+", "{**}": f"[{_PCHAR}/]*"}
_ANYTHING = {"{*}": "[^/]+", "{**}": "(?s:.*)"}
FEW = 4
"""Templates that are tried one by one; more of the same beginning are one automaton."""


def is_template(path: str) -> bool:
    """Whether a value of ``paths`` is one."""
    return "{*}" in path or "{**}" in path


def _pattern(template: str, as_envoy: bool) -> str:
    operators = _AS_ENVOY if as_envoy else _ANYTHING
    return "".join(operators.get(part) or quoted(part) for part in _OPERATOR.split(template))


class Templates:
    """Which bits have a template that ``path`` matches: looked up by what stands before the first operator.

    ``as_envoy``: the bits of which operators match the characters that Envoy lets them; else any, as they do in a path that is
    decoded."""

    __slots__ = ("_by_head", "_head", "_lengths")

    def __init__(self, entries: Entries, as_envoy: int) -> None:
        heads: dict[str, dict[str, int]] = {}
        for bits, values in entries:
            for value in values:
                here = heads.setdefault(value[: value.index("{")], {})
                here[value] = here.get(value, 0) | bits
        self._by_head = {head: _Templates(found, as_envoy) for head, found in heads.items()}
        self._head = min(map(len, heads), default=0)
        self._lengths = lengths_by(heads, lambda head: head[: self._head])

    def __call__(self, path: str) -> int:
        """The bits."""
        found = 0
        for length in self._lengths.get(path[: self._head], ()):
            if length > len(path):
                break
            there = self._by_head.get(path[:length])
            if there is not None:
                found |= there(path)
        return found


class _Templates:
    """Those of one beginning."""

    __slots__ = ("_bits", "_one_by_one", "_together")

    def __init__(self, templates: dict[str, int], as_envoy: int) -> None:
        patterns, self._bits = [], []
        for template, bits in templates.items():
            for some, strictly in ((bits & as_envoy, True), (bits & ~as_envoy, False)):
                if some:
                    patterns.append(_pattern(template, strictly))
                    self._bits.append(some)
        few = len(patterns) <= FEW
        self._one_by_one = [compile_full_match(pattern) for pattern in patterns] if few else []
        self._together = None if few else compile_set(patterns)

    def __call__(self, path: str) -> int:
        found = 0
        if self._together is not None:
            for number in self._together(path):
                found |= self._bits[number]
            return found
        for bits, matches in zip(self._bits, self._one_by_one, strict=True):
            if matches(path):
                found |= bits
        return found
