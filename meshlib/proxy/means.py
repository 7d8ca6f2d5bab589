"""What the requests of one event loop are forwarded with: a mesh, connections to its upstreams, and what is told of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.proxy import grpc
from meshlib.proxy.zero_copy import Pipes
from meshlib.transport.protocol.raw_response import RawResponseReader
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.loop_connection import closed
from meshlib.transport.upstream.loop_turn import Turn

if TYPE_CHECKING:
    from meshlib.engine.effects import Send
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.responder import Tells
    from meshlib.transport.core.mesh_core import MeshCore


class Means:
    """Of one event loop and one mesh."""

    def __init__(self, core: MeshCore) -> None:
        self.core = core
        self.telemetry: Tells = core.telemetry
        self.settings = ClientSettings()
        self.said_of: set[str] = set()
        """Resources of which the log has been told what does not act."""
        self.runtime = grpc.Network(core, self.settings)
        self.upstream = core.loop_upstream()
        self.upstream.reader = RawResponseReader
        self.loop = self.upstream.loop
        self.turn = self.upstream.turn = Turn(self.loop)
        self.pipes = Pipes()

    def attempt(self, send: Send[ProxyRequest], request: ProxyRequest) -> Attempt:
        """What is known of an attempt once it is under way: where it goes, and its times."""
        target = find_target(self.core, send.cluster, send.endpoint, request, self.settings)
        deadline = send.deadline
        if deadline is not None:
            deadline += self.loop.time() - self.core.clock.monotonic()
        return Attempt(b"", b"", [], None, target, send.timeout, deadline)

    async def close(self) -> None:
        """Close the connections to upstreams; requests under way fail."""
        self.upstream.close()
        await closed()
