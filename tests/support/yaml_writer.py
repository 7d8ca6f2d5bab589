"""Writes a value as YAML in block or flow style and remembers where it put each key and value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Place = tuple[int, int]


class Writer:
    """``text`` after ``write``; ``keys`` and ``values`` give line and column (from 1) by path."""

    def __init__(self, choices: Iterator[bool]) -> None:
        self._choices = choices  # True: block style for the next collection
        self._lines = [""]
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def write(self, value: Any) -> str:
        self._node(value, (), 0, inside_flow=False)
        return "\n".join(self._lines) + "\n"

    def _here(self) -> Place:
        return len(self._lines), len(self._lines[-1]) + 1

    def _put(self, text: str) -> None:
        self._lines[-1] += text

    def _new_line(self, indent: int) -> None:
        self._lines.append(" " * indent)

    def _node(self, value: Any, path: Path, indent: int, *, inside_flow: bool) -> None:
        block = bool(value) and not inside_flow and isinstance(value, (dict, list)) and next(self._choices)
        if not block:
            self.values[path] = self._here()
            self._flow(value, path, indent)
            return
        if path:
            self._new_line(indent)
        self.values[path] = self._here()
        for position, step in enumerate(value if isinstance(value, dict) else range(len(value))):
            if position:
                self._new_line(indent)
            if isinstance(value, dict):
                self.keys[(*path, step)] = self._here()
                self._put(f"{json.dumps(step, ensure_ascii=False)}: ")
            else:
                self._put("- ")
            self._node(value[step], (*path, step), indent + 2, inside_flow=False)

    def _flow(self, value: Any, path: Path, indent: int) -> None:
        if not isinstance(value, (dict, list)):
            self._put(json.dumps(value, ensure_ascii=False))
            return
        is_map = isinstance(value, dict)
        self._put("{" if is_map else "[")
        for position, step in enumerate(value if is_map else range(len(value))):
            if position:
                self._put(", ")
                if next(self._choices):
                    self._new_line(indent + 1)
            if is_map:
                self.keys[(*path, step)] = self._here()
                self._put(f"{json.dumps(step, ensure_ascii=False)}: ")
            self._node(value[step], (*path, step), indent, inside_flow=True)
        self._put("}" if is_map else "]")
