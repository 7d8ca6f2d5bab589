"""A gRPC call as policy sees it: an HTTP/2 POST to ``/package.Service/Method``, its metadata the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.deadline import GRPC_TIMEOUT, write
from meshlib.transport.grpcio.metadata import to_text

if TYPE_CHECKING:
    from meshlib.transport.grpcio.metadata import Metadata

ALWAYS = {
    "content-type": "application/grpc",
    "te": "trailers",
    "grpc-accept-encoding": "identity, deflate, gzip",
}
"""Headers that grpcio sends by itself and that a rule may match."""


class GrpcView:
    """A ``RequestView`` on a gRPC call."""

    __slots__ = ("_headers", "_metadata", "_repeated", "_timeout", "asks", "authority", "dialled", "path", "scheme")

    protocol = "HTTP/2"
    method = "POST"
    query = ""

    def __init__(
        self,
        path: str,
        scheme: str,
        authority: str,
        metadata: Metadata,
        timeout: float | None,
        dialled: str = "",
    ) -> None:
        self.path = path
        self.scheme = scheme
        self.authority = authority
        self.dialled = dialled or authority
        self._metadata = metadata
        self.asks = bool(metadata)  # whether there may be a header whose name begins with x-envoy-
        self._timeout = timeout
        self._headers: dict[str, str] | None = None
        self._repeated: dict[str, list[str]] | None = None

    @property
    def full_path(self) -> str:
        return self.path

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; binary metadata in base64."""
        headers = self._headers
        if headers is None:
            if not self._metadata:
                found = ALWAYS.get(name)
                return self._grpc_timeout() if found is None and name == GRPC_TIMEOUT else found
            headers = self._read()
        found = headers.get(name)
        if found is None:
            found = self._grpc_timeout() if name == GRPC_TIMEOUT else ALWAYS.get(name)
        return found

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        if self._headers is None and self._metadata:
            self._read()
        return self._repeated.get(name) if self._repeated is not None else None

    def _read(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in self._metadata:
            text = value if type(value) is str and value.isascii() else to_text(name, value)
            if name in headers:
                if self._repeated is None:
                    self._repeated = {}
                self._repeated.setdefault(name, [headers[name]]).append(text)
                headers[name] = ",".join(self._repeated[name])
            else:
                headers[name] = text
        self._headers = headers
        return headers

    def _grpc_timeout(self) -> str | None:
        return None if self._timeout is None else write(GRPC_TIMEOUT, self._timeout)
