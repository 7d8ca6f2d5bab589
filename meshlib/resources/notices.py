"""Things worth saying about a resource that loads: deprecated spellings, fields that mean something else today."""

from __future__ import annotations

from dataclasses import dataclass

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """``loc`` is the field as YAML keys and list positions, from the top of the document."""

    code: str
    severity: str  # "warning" | "notice"
    loc: Loc
    message: str
    hint: str = ""


def deprecated(loc: Loc, old: str, new: str) -> Notice:
    """An old spelling that still works."""
    return Notice("deprecated", "notice", loc, f"{old} is deprecated", f"write {new}")
