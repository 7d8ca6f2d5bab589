"""What is told of requests that a gateway's policies refuse. Those that are let in are told by the call that they become: a
gateway reports as a caller does (``reporter="source"``), as Istio's do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.call import Call
from meshlib.engine.explanation import Exchange
from meshlib.engine.outcome import Outcome

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.proxy.gateway_request import GatewayServed
    from meshlib.proxy.request import ProxyRequest
    from meshlib.transport.core.mesh_core import MeshCore


class Refusals:
    """In place of the telemetry of a server."""

    notes = False

    def __init__(self, core: MeshCore) -> None:
        self._core = core

    def began(self, _served: InboundCall) -> None:
        """No span: the call that it becomes has one."""

    def ended(self, served: InboundCall, _span: object) -> None:
        """It is over."""
        if served.hop is None:
            self._tell(served)

    def broken(self, served: InboundCall, _span: object) -> None:
        """Its client has gone before it was decided."""
        served.add_flag("DC")
        self._tell(served)

    def _tell(self, served: InboundCall) -> None:
        live = self._core.live
        if live is None:
            return
        request: GatewayServed = served.request  # type: ignore[assignment]
        call: Call[ProxyRequest] = Call(request.sent_on, live, served.clock, served.rng)
        call.record = record = Exchange(live.snapshot.passthrough, None, live.snapshot.version)
        record.started = served.started
        record.status, record.grpc_status = served.status, served.grpc_status
        record.add_flag(served.flags)
        call.outcome = Outcome(status=served.status, whole=b"")
        call.outcome.size = served.response_bytes
        if live.tells:
            record.answered = call.outcome, served.clock.monotonic(), True
        self._core.telemetry.ended(call, None)
