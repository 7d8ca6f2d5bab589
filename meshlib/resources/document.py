"""A document that was read: its value, and where each key and value of it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Positions:
    """Where each node of a document is: a tree beside the values. ``raw`` is the text of a scalar that became a number."""

    __slots__ = ("children", "column", "keys", "line", "raw", "size")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.children: Any = None  # dict by key, or list
        self.keys: dict[str, tuple[int, int]] | None = None
        self.raw = ""
        self.size = 1

    def find(self, path: tuple[str | int, ...]) -> tuple[Positions, int]:
        """The deepest node on ``path`` and how many steps of it were found."""
        node: Positions = self
        for steps, step in enumerate(path):
            children: Any = node.children
            if isinstance(children, dict):
                child = children.get(step)
            elif isinstance(children, list) and isinstance(step, int) and 0 <= step < len(children):
                child = children[step]
            else:
                child = None
            if child is None:
                return node, steps
            node = child
        return node, len(path)

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column (from 1) of the field at ``path``: of its key, or of the nearest parent that is there."""
        node, steps = self.find(path)
        if steps and isinstance(path[steps - 1], str):
            parent, _ = self.find(path[: steps - 1])
            if parent.keys and path[steps - 1] in parent.keys:
                return parent.keys[str(path[steps - 1])]
        return node.line, node.column


@dataclass(slots=True)
class Document:
    """One document of a file."""

    value: Any
    positions: Positions
    broken: bool = False
    """An error in it has been reported already: worth checking further, not worth using."""
