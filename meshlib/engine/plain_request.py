"""A request made of plain values: for ``mesh.explain``, for what a check asks, and wherever no door has made one."""

from __future__ import annotations

from typing import Self

from meshlib.engine.as_sent import AsSent
from meshlib.engine.wire_headers import HOST
from meshlib.policy.header_ops import RawHeaders
from meshlib.policy.regex import wire


class PlainRequest(AsSent):
    """A ``Request`` whose body, if it has one, is at hand."""

    __slots__ = (
        "_values",
        "authority",
        "dialled",
        "full_path",
        "has_envoy_headers",
        "headers",
        "method",
        "path",
        "query",
        "scheme",
    )

    protocol = "http"
    version: str | None = None

    def __init__(
        self,
        method: str,
        scheme: str,
        authority: str,
        target: str,
        headers: dict[str, str],
        dialled: str = "",
        body: bytes | None = None,
    ) -> None:
        self.method = wire(method)
        self.scheme = scheme
        self.authority = wire(authority)
        self.dialled = wire(dialled or authority)
        self.full_path = target = wire(target.partition("#")[0])
        self.path, _, self.query = target.partition("?")
        super().__init__(target.encode("latin-1"), body)
        self._values = {wire(k.lower()): wire(v) for k, v in headers.items()}
        self.has_envoy_headers = any(name.startswith("x-envoy-") for name in self._values)
        self.headers: RawHeaders = [
            (HOST, self.authority.encode("latin-1")),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in self._values.items()),
        ]

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case); None when absent."""
        return self._values.get(name)

    def header_values(self, _name: str) -> list[str] | None:
        """None: no header is repeated here."""
        return None

    def shadow(self) -> Self:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        copy = type(self)(
            self.method, self.scheme, self.authority, self.full_path, self._values, self.dialled, self.body
        )
        copy.target, copy.counted = self.target, self.counted
        copy.headers = self._shadow_headers()
        return copy
