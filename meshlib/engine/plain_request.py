"""A request made of plain values, for what is asked without a call."""

from __future__ import annotations

from meshlib.policy.regex import wire


class PlainView:
    """A ``RequestView`` made of plain values: for ``mesh.explain`` and tests."""

    __slots__ = ("_headers", "asks", "authority", "dialled", "full_path", "method", "path", "query", "scheme")

    def __init__(
        self, method: str, scheme: str, authority: str, target: str, headers: dict[str, str], dialled: str = ""
    ) -> None:
        self.method = wire(method)
        self.scheme = scheme
        self.authority = wire(authority)
        self.dialled = wire(dialled or authority)
        self.full_path = target = wire(target.partition("#")[0])
        self.path, _, self.query = target.partition("?")
        self._headers = {wire(k.lower()): wire(v) for k, v in headers.items()}
        self.asks = any(name.startswith("x-envoy-") for name in self._headers)

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case); None when absent."""
        return self._headers.get(name)

    def header_values(self, _name: str) -> list[str] | None:
        """None: no header is repeated here."""
        return None
