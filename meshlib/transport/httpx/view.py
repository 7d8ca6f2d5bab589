"""httpx's request as policy sees it: wire strings, taken from it only when a rule asks."""

from __future__ import annotations

import operator
from typing import Any

from meshlib.policy.regex import wire
from meshlib.transport.httpx.origins import origin_of

_NAME = operator.itemgetter(0)


class HttpxView:
    """A ``RequestView`` on an httpx (or httpx2) request. Raises ``BadUrl`` for a URL that leads nowhere."""

    __slots__ = (
        "_headers",
        "_repeated",
        "authority",
        "dialled",
        "full_path",
        "method",
        "path",
        "query",
        "raw_headers",
        "scheme",
        "target",
    )

    def __init__(self, request: Any) -> None:
        url = request.url
        self.method: str = wire(request.method)
        self.scheme, self.dialled = origin_of(url)
        raw: list[tuple[bytes, bytes]] = request.headers.raw
        self.raw_headers = raw
        self._headers: dict[str, str] | None = None
        self._repeated: dict[str, list[str]] | None = None
        target: bytes = url.raw_path
        self.target = target
        self.full_path = text = target.decode("latin-1")
        self.path, _, self.query = text.partition("?")
        # httpx puts Host first; a client that sets its own may put it anywhere
        if raw and raw[0][0].lower() == b"host":
            self.authority = raw[0][1].decode("latin-1") or self.dialled
        else:
            host = self.header("host")
            self.authority = host or self.dialled
            if host is None:  # HTTP/1.1 wants one, whoever removed it
                self.raw_headers = [(b"Host", self.dialled.encode("latin-1")), *raw]

    @property
    def asks(self) -> bool:
        """Whether there may be a header whose name begins with ``x-envoy-``."""
        # names in one piece, made without a step of bytecode a header (row "policy cost of a call")
        return b"x-envoy-" in b" ".join(map(_NAME, self.raw_headers)).lower()

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; None when absent."""
        headers = self._headers
        if headers is None:
            raw = self.raw_headers
            headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in raw}
            if len(headers) < len(raw):
                self._repeated = _values(raw)
                headers = {name: ",".join(values) for name, values in self._repeated.items()}
            self._headers = headers
        return headers.get(name)

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        if self._headers is None:
            self.header(name)
        repeated = self._repeated
        return repeated.get(name) if repeated is not None else None


def _values(raw: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Headers of which some are repeated."""
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        headers.setdefault(raw_name.decode("latin-1").lower(), []).append(raw_value.decode("latin-1"))
    return headers
