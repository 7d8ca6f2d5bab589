"""What a server answers instead of its application: the result of a check, a limit or an injected fault."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshlib.policy.grpc_status import grpc_of_http


@dataclass(frozen=True, slots=True)
class Refusal:
    """``status`` is the HTTP status and ``body`` its text, or bytes (the message of a gRPC call); ``grpc_status`` the gRPC
    status when it is another than Envoy's mapping gives; ``flag`` Envoy's response flag, or ""; ``detail`` Envoy's response
    code details, for people, never for the caller. ``headers`` are the caller's, beside those that say how long the body is and
    that it is plain text (which one of them may say otherwise)."""

    status: int
    body: str | bytes = ""
    grpc_status: int | None = None
    flag: str = ""
    detail: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)  # a realm has the query of the request

    @property
    def grpc(self) -> int:
        """The gRPC status that a gRPC caller gets."""
        return grpc_of_http(self.status) if self.grpc_status is None else self.grpc_status

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return self.body if isinstance(self.body, bytes) else self.body.encode()

    @property
    def text(self) -> str:
        """The body as text: what is not UTF-8 in it is replaced."""
        return self.body if isinstance(self.body, str) else self.body.decode("utf-8", "replace")

    def http_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers of the HTTP response: ``headers``, the length of the body and, as Envoy's local replies have, its
        type."""
        content = self.content
        headers = list(self.headers)
        if content and not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"content-type", b"text/plain"))
        headers.append((b"content-length", b"%d" % len(content)))
        return headers
