"""Requests that were refused before anything was decided about them, as they are told of: a line of the access log and a count,
as Envoy has it, by what is known of them.

A request whose head could not be read has neither method nor path. A malformed stream of HTTP/2, which is reset, and what was
turned away because there is too much to do have a line and no count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlib.compiler.routes import VirtualHost
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.explanation import Exchange
from meshlib.engine.replies import reply
from meshlib.policy.refusal import Refusal
from meshlib.policy.rule_index import RuleIndex
from meshlib.proxy import grpc
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.http1_request import Refused

if TYPE_CHECKING:
    from meshlib.proxy.inbound_request import ServedRequest
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.runtimes.serving import Server

NOWHERE = VirtualHost("", 0, "", (), RuleIndex(()), note="the request was refused before it was routed")
"""Where such a request goes."""


class Asked(NamedTuple):
    """What is known of the request. ``lines`` are header lines, each with its line end, ``lower`` the same in lower case behind
    a line end."""

    method: bytes = b""
    target: bytes = b""
    authority: bytes = b""
    lines: bytes = b""
    lower: bytes = b"\r\n"
    version: str = "HTTP/1.1"


BROKEN = "a request could not be forwarded: a fault of meshlib, please report it"
SILENT = "stream_idle_timeout", "SI"
"""Envoy's details and flag for a client that does not finish a body."""
NOTHING = Asked()
MALFORMED = Asked(version="HTTP/2")


class RefusedRequest(ProxyRequest):
    """A request that goes nowhere."""

    __slots__ = ("version",)

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked.method, asked.authority, asked.target, asked.lines, asked.lower, None)
        self.version = asked.version


TURNED_AWAY = Refused(503, "there is too much to do")


def asked_of(request: ProxyRequest) -> Asked:
    """The same of a request that could be read."""
    return Asked(
        request.method.encode("latin-1"),
        request.target,
        request.authority.encode("latin-1"),
        request.lines,
        request.lower,
        request.version or "HTTP/1.1",
    )


def told_of_outbound(core: MeshCore, refused: Refused, asked: Asked) -> None:
    """An application's own request. ``refused.status`` 0: its stream was reset."""
    live = core.live
    if live is None:
        return
    call: Call[ProxyRequest] = Call(RefusedRequest(asked), live, core.clock, core.rng, NO_TIMEOUTS)
    call.record = record = Exchange(NOWHERE, None, live.snapshot.version)
    record.started = core.clock.monotonic()
    note(call, refused)
    core.telemetry.refused(call, counted=_counts(refused))


def note(call: Call[ProxyRequest], refused: Refused) -> None:
    """What a call has come to that was refused, unless its response had begun."""
    record = call.record
    record.add_flag(refused.flag)
    if record.status:
        return
    outcome = reply(refused.status, detail=refused.detail)
    if refused.status and call.request.protocol == "grpc":
        outcome = grpc.local_reply(outcome)
        record.grpc_status = outcome.grpc_status
    record.status = outcome.status
    record.answered = outcome, call.clock.monotonic(), True
    call.outcome = outcome


def told_of_inbound(server: Server, refused: Refused, request: ServedRequest) -> None:
    """A request to the application."""
    call = server.call(request)
    call.admission = None  # it was never among those under way
    call.started = server.now()
    call.refuse(refusal_of(refused))
    server.telemetry.refused(call, counted=_counts(refused))


def _counts(refused: Refused) -> bool:
    """Whether it is among Istio's requests: Envoy's filter that counts does not see those that are reset or turned away."""
    return refused.status != 0 and refused is not TURNED_AWAY


def refusal_of(refused: Refused) -> Refusal:
    """The same, as a served call has it."""
    return Refusal(refused.status, flag=refused.flag, detail=refused.detail)
