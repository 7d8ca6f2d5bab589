"""What a server answers instead of its application: the result of a check, a limit or an injected fault."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.policy.grpc_status import grpc_of_http


@dataclass(frozen=True, slots=True)
class Refusal:
    """``status`` is the HTTP status and ``body`` its text (the message of a gRPC call); ``grpc_status`` the gRPC status
    when it is another than Envoy's mapping gives; ``flag`` Envoy's response flag, or ""; ``detail`` Envoy's response code
    details, for people."""

    status: int
    body: str = ""
    grpc_status: int | None = None
    flag: str = ""
    detail: str = ""

    @property
    def grpc(self) -> int:
        """The gRPC status that a gRPC caller gets."""
        return grpc_of_http(self.status) if self.grpc_status is None else self.grpc_status
