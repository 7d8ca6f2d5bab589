"""What checks change of a request before its application sees it."""

from __future__ import annotations


class HeaderChanges:
    """``remove``: names (lower case) of headers that are taken away, whoever sent them; ``set``: headers that come in their
    place; ``target``: path and query in place of the request's, None: as they are. A server's door applies it."""

    __slots__ = ("remove", "set", "target")

    def __init__(self) -> None:
        self.remove: set[str] = set()
        self.set: list[tuple[bytes, bytes]] = []
        self.target: bytes | None = None

    def put(self, name: str, value: bytes) -> None:
        """Set a header (``name`` in lower case), and take away what the request has of that name."""
        self.take_away(name)
        self.add(name, value)

    def add(self, name: str, value: bytes) -> None:
        """A header more (``name`` in lower case), beside those of that name."""
        self.set.append((name.encode("latin-1"), value))

    def take_away(self, name: str) -> None:
        """No header of that name (in lower case) any more, whoever set it."""
        self.remove.add(name)
        key = name.encode("latin-1")
        self.set = [pair for pair in self.set if pair[0] != key]

    def applied(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """``headers`` as the application gets them."""
        remove = self.remove
        return [*(pair for pair in headers if pair[0].decode("latin-1").lower() not in remove), *self.set]

    def __repr__(self) -> str:
        names = sorted(name.decode("latin-1") for name, _ in self.set)
        return f"<HeaderChanges remove={sorted(self.remove)} set={names}>"  # values may be secret
