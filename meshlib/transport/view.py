"""httpx's request as policy sees it: wire strings, taken from it only when a rule asks."""

from __future__ import annotations

from typing import Any


class HttpxView:
    """A ``RequestView`` on an httpx (or httpx2) request."""

    __slots__ = ("_headers", "authority", "method", "path", "query", "raw_headers", "scheme", "target")

    def __init__(self, request: Any) -> None:
        url = request.url
        self.method: str = request.method
        self.scheme: str = url.scheme
        raw: list[tuple[bytes, bytes]] = request.headers.raw
        self.raw_headers = raw
        self._headers: dict[str, str] | None = None
        target: bytes = url.raw_path
        self.target = target
        text = target.decode("latin-1")
        self.path, _, self.query = text.partition("?")
        # httpx puts Host first; a client that sets its own may put it anywhere
        if raw and raw[0][0].lower() == b"host":
            self.authority = raw[0][1].decode("latin-1")
        else:
            self.authority = self.header("host") or url.netloc.decode("latin-1")

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; None when absent."""
        headers = self._headers
        if headers is None:
            raw = self.raw_headers
            headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in raw}
            if len(headers) < len(raw):
                headers = _joined(raw)
            self._headers = headers
        return headers.get(name)


def _joined(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers of which some are repeated."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1")
        have = headers.get(name)
        headers[name] = value if have is None else f"{have},{value}"
    return headers


class PlainView:
    """A ``RequestView`` made of plain values: for ``mesh.explain`` and tests."""

    __slots__ = ("_headers", "authority", "method", "path", "query", "scheme")

    def __init__(self, method: str, scheme: str, authority: str, target: str, headers: dict[str, str]) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        target = target.partition("#")[0]
        self.path, _, self.query = target.partition("?")
        self._headers = {k.lower(): v for k, v in headers.items()}

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case); None when absent."""
        return self._headers.get(name)
