"""A request made of plain values: for ``mesh.explain``, and wherever no door has made one."""

from __future__ import annotations

from meshlib.engine.message import RawHeaders
from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, shadow_host
from meshlib.policy.deadline import write as write_deadline
from meshlib.policy.regex import wire


class PlainRequest:
    """A ``Request`` without a body."""

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
        "target",
    )

    protocol = "http"
    version: str | None = None
    multiplexed = False
    replayable = True
    whole = True
    sent = True

    def __init__(
        self, method: str, scheme: str, authority: str, target: str, headers: dict[str, str], dialled: str = ""
    ) -> None:
        self.method = wire(method)
        self.scheme = scheme
        self.authority = wire(authority)
        self.dialled = wire(dialled or authority)
        self.full_path = target = wire(target.partition("#")[0])
        self.path, _, self.query = target.partition("?")
        self.target = target.encode("latin-1")
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

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them."""
        return [*self.headers, (ATTEMPT_COUNT, b"1")]

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self.headers = [*rest, (name, write_deadline(header, seconds).encode())]

    def shadow(self) -> PlainRequest:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        copy = PlainRequest(self.method, self.scheme, self.authority, self.full_path, self._values, self.dialled)
        copy.target = self.target
        copy.headers = [
            (name, shadow_host(value)) if name.lower() == HOST else (name, value) for name, value in self.headers
        ]
        return copy
