"""One string condition (Istio's StringMatch), compiled to a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshlib.policy.regex import compile_full_match, wire


@dataclass(frozen=True, slots=True)
class StringMatcher:
    """``kind`` is exact, prefix, regex (RE2, whole string) or present. ``ignore_case`` counts for exact and prefix only,
    as ``ignoreUriCase`` does."""

    kind: str
    value: str
    ignore_case: bool = False

    def compile(self) -> Callable[[str], bool]:
        """A test of a wire string."""
        if self.kind == "regex":
            return compile_full_match(self.value)
        if self.kind == "present":
            return _always
        value = wire(self.value)
        if self.ignore_case:
            value = value.lower()
            if self.kind == "exact":
                return lambda text: text.lower() == value
            return lambda text: text.lower().startswith(value)
        if self.kind == "exact":
            return value.__eq__
        return lambda text: text.startswith(value)

    @property
    def text(self) -> str:
        """For people: ``prefix '/api'``."""
        if self.kind == "present":
            return "present"
        return f"{self.kind} {self.value!r}" + (" (any case)" if self.ignore_case and self.kind != "regex" else "")


def _always(_text: str) -> bool:
    return True
