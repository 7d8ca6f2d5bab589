"""Names of headers as MeshConfig lists them: ``name``, ``prefix*`` or ``*suffix``, in any case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """``parse`` makes them. Which headers ``has`` it."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, written: Iterable[str]) -> Self:
        """As Istio reads them: an asterisk at the beginning counts first, any other one is a character."""
        exact, prefixes, suffixes = set[str](), list[str](), list[str]()
        for pattern in written:
            lower = pattern.lower()
            if lower.startswith("*"):
                suffixes.append(lower[1:])
            elif lower.endswith("*"):
                prefixes.append(lower[:-1])
            else:
                exact.add(lower)
        return cls(frozenset(exact), tuple(prefixes), tuple(suffixes))

    def has(self, name: str) -> bool:
        """``name`` in lower case."""
        return (
            name in self.exact
            or (bool(self.prefixes) and name.startswith(self.prefixes))
            or (bool(self.suffixes) and name.endswith(self.suffixes))
        )

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes or self.suffixes)
