"""A document that was read: its value, and where each key and value of it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Positions:
    """Where each node of a document is: a tree beside the values. ``raw`` is the text of a scalar that became a number,
    and ``|`` of a text that stands as a block of lines."""

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


class LazyPositions:
    """The positions below ``prefix`` in a document that was read without them, found by reading it once more when somebody
    asks: nearly nobody does, and they are the largest part of a document. ``top`` is the place of the node itself."""

    __slots__ = ("_prefix", "_source", "_top")

    def __init__(self, source: Source, top: tuple[int, int], prefix: tuple[str | int, ...] = ()) -> None:
        self._source = source
        self._top = top
        self._prefix = prefix

    def find(self, path: tuple[str | int, ...]) -> tuple[Positions, int]:
        """As of ``Positions``."""
        if not path:
            return Positions(*self._top), 0
        node, steps = self._source.positions().find((*self._prefix, *path))
        return node, max(0, steps - len(self._prefix))

    def __getattr__(self, name: str) -> Any:
        """The rest of ``Positions``."""
        return getattr(self._source.positions().find(self._prefix)[0], name)

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """As of ``Positions``."""
        if not path:
            return self._top
        return self._source.positions().place((*self._prefix, *path))


class Source:
    """The text that a document was read from. ``read_again`` gives its value and positions; ``size`` is its length."""

    __slots__ = ("_again", "_read_again", "size")

    def __init__(self, read_again: Callable[[], tuple[Any, Any]], size: int) -> None:
        self._read_again = read_again
        self._again: tuple[Any, Any] | None = None
        self.size = size

    def positions(self) -> Positions:
        """Read again at the first question; kept until ``forget``."""
        found: Positions = self._both()[1]
        return found

    def value(self) -> Any:
        """The same for the document's value."""
        return self._both()[0]

    def _both(self) -> tuple[Any, Any]:
        if self._again is None:
            self._again = self._read_again()
        return self._again

    def forget(self) -> None:
        """Nobody asks for the time being."""
        self._again = None


class Document:
    """One document of a file. ``broken``: an error in it has been reported already: worth checking further, not worth using.
    ``source`` can read it again (None when it cannot): its value may then be used up. ``items`` are the places of what a list
    of resources holds, ``parts`` the documents that were made of those, and ``head`` the kind and apiVersion they may lack."""

    __slots__ = ("_value", "broken", "head", "items", "parts", "positions", "source")

    def __init__(
        self,
        value: Any,
        positions: Positions | LazyPositions,
        broken: bool = False,
        source: Source | None = None,
        items: list[tuple[int, int]] | None = None,
    ) -> None:
        self._value = value
        self.positions = positions
        self.broken = broken
        self.source = source
        self.items = items
        self.parts: list[Document] | None = None
        self.head: tuple[Any, Any] = (None, None)

    @property
    def value(self) -> Any:
        """What the text says; read again when it was used up."""
        if self._value is _USED_UP and self.source is not None:
            return self.source.value()
        return self._value

    def take(self) -> Any:
        """The value, to do with it what one likes: it is read again for whoever asks next."""
        value = self.value
        if self.source is not None:
            self._value = _USED_UP
        return value

    def rest(self) -> None:
        """Hold no more than it takes to read it again, if that can be done: the load is over."""
        if self.source is not None:
            self._value = _USED_UP
            self.source.forget()

    def with_parts(self) -> Iterator[Document]:
        """This document, and those inside it."""
        yield self
        for part in self.parts or ():
            yield from part.with_parts()

    def part(self, index: int) -> Document:
        """One item of a list of resources, which is this document."""
        value = self.value["items"][index]
        if self.source is None or self.items is None:
            child, steps = self.positions.find(("items", index))
            return Document(value, child if steps == 2 else self.positions, self.broken)
        source = self.source
        positions = LazyPositions(source, self.items[index], ("items", index))
        again = Source(lambda: (source.value()["items"][index], None), source.size // len(self.items))
        return Document(value, positions, self.broken, again)


_USED_UP = object()
