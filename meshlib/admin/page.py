"""What the admin endpoint answers with: a page, made piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """``pieces`` are made as they are sent; ``whole`` is the body of a page that is at hand."""

    pieces: Iterable[bytes] = field(repr=False)
    kind: str = TEXT
    status: int = 200
    whole: bytes | None = field(default=None, repr=False)

    def begun(self) -> Page:
        """The same page with its first piece made: what it raises is raised here."""
        if self.whole is not None:
            return self
        rest = iter(self.pieces)
        return Page(chain([next(rest, b"")], rest), self.kind, self.status)


def whole(body: bytes, kind: str = TEXT, status: int = 200) -> Page:
    """A page that is at hand."""
    return Page((body,), kind, status, body)


def text(said: str, status: int = 200, kind: str = TEXT) -> Page:
    """A short text."""
    return whole(said.encode("utf-8", "backslashreplace"), kind, status)


def as_json(value: object, status: int = 200) -> Page:
    """A short value."""
    return text(json.dumps(value, indent=1) + "\n", status, JSON)


def json_list(before: str, items: Iterable[object], after: str) -> Iterator[bytes]:
    """A list that may be long, an item a piece, between two texts."""
    yield before.encode()
    for number, item in enumerate(items):
        yield (",\n" if number else "\n").encode() + json.dumps(item, indent=1).encode("ascii")
    yield after.encode()
