"""The server's part of the exchange of workload metadata in headers: what a caller says of itself is read and taken away before
anybody else sees the request, and the response says who has served it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.peer_metadata import METADATA, METADATA_ID, NAMES, read

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.peer_metadata import OwnMetadata


class PeerMetadataCheck:
    """Lets everybody in. As in Istio only who has told of himself is told: each header in return for the same."""

    __slots__ = ("_own",)

    def __init__(self, own: OwnMetadata) -> None:
        self._own = own

    def __call__(self, request: InboundRequest) -> None:
        """Nothing is refused."""
        said, ident = request.header(METADATA), request.header(METADATA_ID)
        if said is not None:
            request.peer_metadata = read(said)
            request.take_away(METADATA)
        # gRPC core keeps this header to itself, and leaves the other
        if said is not None or (ident is not None and request.protocol == "grpc"):
            request.for_caller.append((NAMES[0], self._own.value))
        if ident is not None:
            request.take_away(METADATA_ID)
            request.for_caller.append((NAMES[1], self._own.id))
