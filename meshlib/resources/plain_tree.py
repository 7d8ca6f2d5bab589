"""A document without anything unusual while it is read: which map or list is open, and what waits for its value."""

from __future__ import annotations

from meshlib.resources.values import Place, Value
from meshlib.resources.yaml_scalars import NO_KEYS

MAX_DEPTH = 100
"""Containers inside one another, aliases counted as what they stand for."""


class NotPlain(Exception):
    """The text has something in it that needs the full reader: an error, an alias, a tag."""


Plain = tuple[Value, Place, list[Place] | None]
"""A document's value, its place and, of a list of resources, the places of its items; line and column from 0."""


class PlainTree:
    """Builds one document. ``fields`` is the map that is open (None: a list is), ``key`` what waits there for
    its value, ``depth`` how many maps and lists are open, ``nodes`` how many keys, values, maps and lists there were."""

    __slots__ = (
        "_entries",
        "_items",
        "_listed",
        "_names",
        "_open",
        "_place",
        "_root",
        "depth",
        "fields",
        "key",
        "nodes",
    )

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # each key once in memory, not once a rule
        self.nodes = 0
        self._root: list[Value] = []
        self._open: list[tuple[dict[str, Value] | None, list[Value]]] = []
        self._listed: list[Value] = []  # the list of resources that the document is
        self._items: list[Place] = []
        self._place: Place = (0, 0)
        self._entries = self._root  # of the list that is open
        self.fields: dict[str, Value] | None = None
        self.key: str | None = None
        self.depth = 0

    def name(self, key: str, *, unquoted: bool) -> None:
        """A key of the map that is open. Raises NotPlain."""
        fields = self.fields
        if fields is None or self.key is not None or key in fields or (unquoted and key in NO_KEYS):
            raise NotPlain
        self.nodes += 1
        self.key = self._names.setdefault(key, key)

    def add(self, value: Value, row: int, column: int) -> None:
        """A value under the key that waits for it, or of the list that is open. Raises NotPlain."""
        self.nodes += 1
        if self.fields is None:
            if not self.depth:
                self._place = (row, column)
            self._entries.append(value)
        elif self.key is None:
            raise NotPlain
        else:
            self.fields[self.key] = value
            self.key = None

    def open_map(self, row: int, column: int) -> None:
        """A map in the place of a value. Raises NotPlain."""
        made: dict[str, Value] = {}
        self._open_one(made, row, column)
        self.fields = made

    def open_list(self, row: int, column: int) -> None:
        """A list in the place of a value. Raises NotPlain."""
        made: list[Value] = []
        if self.depth == 1 and self.key == "items":
            self._listed = made
        self._open_one(made, row, column)
        self.fields, self._entries = None, made

    def _open_one(self, made: Value, row: int, column: int) -> None:
        if self.depth >= MAX_DEPTH:
            raise NotPlain
        if self.fields is None and self._entries is self._listed:
            self._items.append((row, column))
        self._open.append((self.fields, self._entries))
        self.nodes += 1
        if self.fields is None:
            if not self.depth:
                self._place = (row, column)
            self._entries.append(made)
        elif self.key is None:
            raise NotPlain
        else:
            self.fields[self.key] = made
            self.key = None
        self.depth += 1

    def close(self) -> None:
        """The end of the map or list that is open. Raises NotPlain."""
        if self.key is not None or not self.depth:
            raise NotPlain
        self.fields, self._entries = self._open.pop()
        self.depth -= 1

    def end(self) -> Plain | None:
        """The end of a document; None for one of nothing."""
        root, place, items = self._root, self._place, self._items
        whole = items and len(items) == len(self._listed)  # else some are not objects
        return None if not root or root[0] is None else (root[0], place, items if whole else None)
