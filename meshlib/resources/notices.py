"""Things worth saying about a resource whose types are right: why Istio refuses it, deprecated spellings, fields that mean
something else today."""

from __future__ import annotations

from dataclasses import dataclass

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """``loc`` is the field as YAML keys and list positions, from the top of the document."""

    code: str
    severity: str  # "error" | "warning" | "notice"
    loc: Loc
    message: str
    hint: str = ""


def refused(code: str, loc: Loc, message: str, hint: str = "") -> Notice:
    """An error: a resource that Istio's validation refuses, although every value has the right type."""
    return Notice(code, "error", loc, message, hint)


def warned(code: str, loc: Loc, message: str, hint: str = "") -> Notice:
    """What Istio's validation warns of."""
    return Notice(code, "warning", loc, message, hint)


def deprecated(loc: Loc, old: str, new: str) -> Notice:
    """An old spelling that still works."""
    return Notice("deprecated", "notice", loc, f"{old} is deprecated", f"write {new}")
