"""CONNECT: a tunnel to where the mesh's rules of connections lead, and what is told of it.

The exchange is ``engine/connection.py``; here it gets its connection, by the dialling that all upstreams have, and is over when
the client's connection has gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from meshlib.engine import replies
from meshlib.engine.call import NO_TIMEOUTS, Call
from meshlib.engine.connection import CONNECTED, connection
from meshlib.engine.drivers import finish
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.route import route_connection
from meshlib.policy.circuit_limits import CircuitLimits
from meshlib.proxy.connect_tunnel import ConnectClient, ConnectTunnel
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.loop_dial import hear_refusal
from meshlib.transport.upstream.mutual import vouched_of
from meshlib.transport.upstream.problems import connect_problem, mesh_closed
from meshlib.transport.upstream.tls import OPAQUE, PeerNameMismatch

if TYPE_CHECKING:
    from meshlib.compiler.resilience import Resilience
    from meshlib.engine.effects import Exchange
    from meshlib.proxy.connect_request import ConnectRequest
    from meshlib.proxy.means import Means
    from meshlib.telemetry.tcp_series import TcpSeries
    from meshlib.transport.protocol.http1_request import Refused

DEFAULT_LIMITS = CircuitLimits()

log = logging.getLogger("meshlib.proxy")


def connect(forwarder: Means, request: ConnectRequest, client: ConnectClient) -> Connecting | None:
    """Begin. What this returns cancels it, until the client is told; None: the mesh is closed, and the client was told."""
    core = forwarder.core
    live = core.live
    if live is None:
        _respond(client, replies.for_failure(Outcome(Failure.CLOSED)))
        return None
    call: Call[ConnectRequest] = Call(request, live, core.clock, core.rng, NO_TIMEOUTS)
    call.record = route_connection(live.snapshot, request.authority)
    return Connecting(forwarder, call, client)


class Told(Protocol):
    """Who hears of a connection: as ``Telemetry``."""

    def connected(self, call: Call[ConnectRequest], /) -> TcpSeries: ...
    def disconnected(self, call: Call[ConnectRequest], series: TcpSeries, /) -> None: ...
    def not_connected(self, call: Call[ConnectRequest], /) -> None: ...


class Connecting:
    """One CONNECT on its way, and its tunnel's exchange until that is over."""

    __slots__ = ("_call", "_client", "_exchange", "_forwarder", "_series", "_task", "_told", "_tunnel")

    def __init__(
        self, forwarder: Means, call: Call[ConnectRequest], client: ConnectClient, told: Told | None = None
    ) -> None:
        """``told``: who is told what it came to; None: the telemetry of calls that are made."""
        self._told: Told = forwarder.core.telemetry if told is None else told
        self._forwarder = forwarder
        self._call = call
        self._client = client
        self._exchange: Exchange[ConnectRequest] = connection(call)
        self._tunnel = ConnectTunnel(forwarder.loop, forwarder.upstream.alarms, forwarder.pipes)
        self._series: TcpSeries
        self._task = forwarder.loop.create_task(self._run())

    def cancel(self, _refused: Refused | None = None) -> None:
        """The client has gone before there was a tunnel."""
        self._task.cancel()

    def client_takes(self, _writable: bool) -> None:
        """Nothing is written yet."""

    async def _run(self) -> None:
        call, exchange = self._call, self._exchange
        limits = DEFAULT_LIMITS
        try:
            effect = next(exchange)
            if type(effect) is Send:
                limits = effect.cluster.spec.limits
                if effect.cluster.guard is not None:
                    self._say_what_does_not_act(effect.cluster.guard.settings)
                effect.outcome = await self._dialled(effect)
                effect = next(exchange)
            assert type(effect) is Deliver
            outcome = effect.outcome
            if effect.local or outcome.failure is not None:
                self._refuse(outcome)
            else:
                self._open(outcome, limits)
        except asyncio.CancelledError:
            call.record.add_flag("DC")
            self._abandon()
            self._told.not_connected(call)
            raise
        except Exception:  # a bug of ours: the client gets a response, we the traceback
            log.exception("no tunnel to %s could be made: a fault of meshlib, please report it", call.request.authority)
            self._abandon()
            _respond(self._client, replies.reply(500))

    def _say_what_does_not_act(self, policy: Resilience) -> None:
        """Once a policy."""
        said, other = self._forwarder.said_of, _of_calls(policy)
        if other and policy.resource not in said:
            said.add(policy.resource)
            log.warning(
                "%s: %s %s not act on connections that are forwarded unread (CONNECT to %s); its circuitBreaker does",
                *(policy.resource, ", ".join(other), "do" if len(other) > 1 else "does", self._call.request.authority),
            )

    async def _dialled(self, send: Send[ConnectRequest]) -> Outcome:
        """A connection to the endpoint, for the tunnel."""
        forwarder, tunnel = self._forwarder, self._tunnel
        upstream = forwarder.upstream
        target = find_target(forwarder.core, send.cluster, send.endpoint, self._call.request, forwarder.settings)
        limit = target.connect_timeout
        try:
            async with upstream.until_closed(limit):
                await hear_refusal(await upstream.dial(tunnel, target, OPAQUE))
                if tunnel.upstream_lost and tunnel.lost_by is not None:
                    raise tunnel.lost_by
        except TimeoutError as error:
            self._abort()
            if upstream.closed:
                return mesh_closed(error)
            return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit:g} s", error)
        except (OSError, PeerNameMismatch) as error:
            self._abort()
            return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)
        tunnel.vouched = vouched_of(tunnel.upstream.get_extra_info("ssl_object"))
        if tunnel.vouched is not None:
            upstream.tunnels.add(tunnel)
        return Outcome(status=CONNECTED)

    def _refuse(self, outcome: Outcome) -> None:
        """No tunnel: what the client is told is Envoy's."""
        call = self._call
        reply = replies.for_failure(outcome) if outcome.failure is not None else outcome
        call.record.status = reply.status
        finish(self._exchange)
        self._told.not_connected(call)
        _respond(self._client, reply)

    def _open(self, outcome: Outcome, limits: CircuitLimits) -> None:
        call = self._call
        call.record.status = outcome.status
        self._series = series = self._told.connected(call)
        self._tunnel.begin(series, limits.tcp_idle_timeout, limits.max_connection_duration, self._over)
        self._client.connected(self._tunnel)

    def _over(self) -> None:
        """The tunnel has ended."""
        call, tunnel = self._call, self._tunnel
        self._forwarder.upstream.tunnels.discard(tunnel)
        call.request.received = tunnel.bytes_received
        call.streamed = tunnel.bytes_sent
        if tunnel.why:
            log.debug("the tunnel to %s has ended: %s", call.record.endpoint, tunnel.why)
        if tunnel.flag:
            call.record.add_flag(tunnel.flag)
        finish(self._exchange)
        self._told.disconnected(call, self._series)

    def _abandon(self) -> None:
        self._abort()
        self._exchange.close()

    def _abort(self) -> None:
        tunnel = self._tunnel
        self._forwarder.upstream.tunnels.discard(tunnel)
        if tunnel.upstream is not None and not tunnel.upstream_lost:
            tunnel.upstream.abort()


def _of_calls(policy: Resilience) -> list[str]:
    """What a policy has that is for calls."""
    every = {
        "bulkhead": policy.bulkhead,
        "retryBudget": policy.retry_budget,
        "hedging": policy.hedging,
        "adaptiveConcurrency": policy.adaptive,
        "deadline": policy.deadline,
        "fallback": policy.fallback,
    }
    return [name for name, there in every.items() if there is not None]


def _respond(client: ConnectClient, reply: Outcome) -> None:
    client.respond(reply.status, reply.reason, reply.headers, reply.whole or b"", None)
