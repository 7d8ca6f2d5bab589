"""``MeshASGIMiddleware``: an ASGI application that obeys the mesh."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from meshlib.engine import deadlines
from meshlib.engine.body_source import NO_BODY
from meshlib.engine.drivers import run_async
from meshlib.engine.effects import Serve
from meshlib.engine.inbound import asked_at_once, inbound
from meshlib.engine.inbound_context import current, enter, leave
from meshlib.engine.inbound_state import SHUT
from meshlib.engine.stand_in import STAND_IN
from meshlib.policy import deadline
from meshlib.transport.asgi.changed_scope import changed
from meshlib.transport.asgi.http import ClientGone, HttpServing
from meshlib.transport.asgi.known_head import LINE, NOBODY, KnownHead, known_head
from meshlib.transport.asgi.messages import size, size_of
from meshlib.transport.asgi.peer import peers_of
from meshlib.transport.asgi.request import AsgiRequest, requests_of, told_of
from meshlib.transport.asgi.straight import Straight
from meshlib.transport.asgi.websocket import WebSocketServing
from meshlib.transport.runtimes.loop_threads import LoopThreads
from meshlib.transport.runtimes.requests_met import RequestsMet
from meshlib.transport.runtimes.serving import DEADLINE_NAMES, server_of
from meshlib.transport.runtimes.thread_line import PoolThreads

if TYPE_CHECKING:
    from meshlib.engine.check import Check
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.inbound_state import BoundInbound, BoundPorts
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.known_head import Met, MetHead
    from meshlib.transport.asgi.messages import App, Receive, Scope, Send
    from meshlib.transport.runtimes.serving import Server, Serves

log = logging.getLogger("meshlib.asgi")

# bound once: CPython 3.11 would bind them anew at each call (row asgi-cost of the benchmarks)
deadline_around = deadlines.current.get
set_current, reset_current = current.set, current.reset

NO_THREADS = (
    "nothing here uses the threads of anyio, in which Starlette and FastAPI run plain functions, and the line for others "
    "cannot be seen"
)

CALL = "meshlib.call"
"""Where the call is in the scope that the application gets, for who serves it to look at."""


class MeshASGIMiddleware:
    """ASGI middleware that enforces the mesh's policies around ``app``. For each HTTP request and WebSocket it identifies the
    caller (``mesh.inbound()``), enforces policies, limits and faults, and records metrics and spans. Put it outside every
    other middleware that can respond.

    ``port`` is the container's port that requests arrive at, for policies that name one; None means the port that the server
    reports. Raises ValueError for a port that is not valid, TypeError for a ``mesh`` that is not a mesh.

    The caller's identity comes from the ASGI extension ``tls``, in which a server passes on the peer's certificate; with
    servers that do not have it, callers are unauthenticated. Run uvicorn with ``--no-proxy-headers``: otherwise it replaces the
    peer's address by one from X-Forwarded-For, and the peer's address is unknown, which counts against the caller.
    """

    def __init__(self, app: App, mesh: Serves, port: int | None = None) -> None:
        if port is not None and not 0 < port < 65536:
            raise ValueError(f"port must be a number from 1 to 65535, not {port!r}")
        self._app = app
        self._port = port
        self._server = server_of(mesh, type(self).__name__)
        self._core = self._server.core
        self._tracing = self._server.telemetry.tracing
        self._peer_of = peers_of(self._server.peers)
        self._request_of = requests_of(self._peer_of, port)
        self._met: tuple[BoundPorts, Met] = SHUT, RequestsMet()
        """What was met of the configuration in force. One tuple: other threads see all of it or nothing."""
        self._names: tuple[str, ...] = ()
        self._deadline_headers: list[tuple[str, bytes]] = []
        self._warned = False
        self._threads = self._threads_of(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it. Raises what the application raises, and NotImplementedError for connections of a type that no
        policy knows."""
        kind = scope["type"]
        if kind == "http":
            key: Hashable
            known: MetHead | None
            live = self._core.live
            ports, met = self._met
            if live is None or live.inbound is not ports:
                ports, met = self._begin(live)
            headers, of = scope["headers"], met.of
            if of is not None and type(headers) is list:
                try:
                    if "extensions" in scope and (extensions := scope["extensions"]) and "tls" in extensions:
                        identity, mutual = self._peer_of(extensions["tls"])
                        key = LINE(scope), tuple(headers), identity and identity.text, mutual
                    else:
                        key = LINE(scope), tuple(headers)
                    known = of(key)
                except (KeyError, TypeError):  # servers need not tell all of these, nor as tuples
                    key = known = None
            else:
                key = known = None
            straight: Straight | None
            if known is not None and STAND_IN not in scope and ((let := known.let_in) is None or let.holds()):
                known.met = True
                straight = Straight(known, scope, receive, send)
                if let is not None and known.changed is not None:
                    scope = straight.scope = {**scope, "headers": list(known.changed)}
            else:
                straight, request, bound, left = self._look(scope, receive, send, ports)
                if straight is not None:
                    if of is None:
                        met.passed()
                    elif key is not None and met.wants():
                        self._remember(straight, request, scope, ports, met, key)
                    scope = straight.scope
            if straight is not None:
                # in this coroutine: another one would cost as much as the counting (row asgi-cost of the benchmarks)
                tracing = self._tracing
                tokens = None
                if tracing.unrecorded > 0 and deadline_around() is None:
                    tracing.unrecorded -= 1  # all that ``began`` and ``enter`` would do
                    token = set_current(straight)
                else:
                    straight.began()
                    scope = straight.scope
                    if straight.around is None and deadline_around() is None:
                        token = set_current(straight)
                    else:
                        tokens = enter(straight)
                scope[CALL] = straight
                app = self._app
                try:
                    await app(scope, straight.receive, straight.send)
                except BaseException as error:
                    straight.raised(error)
                    raise
                else:
                    if not straight.over:
                        straight.returned()
                finally:
                    if tokens is None:
                        reset_current(token)
                    else:
                        leave(straight, tokens)
                    scope.pop(CALL, None)  # they refer to each other: not one request is left to the garbage collector
                return
            web_socket = False
            assert request is not None
        elif kind == "websocket":
            web_socket, request, bound, left = True, self._request_of(scope, receive), None, None
        elif kind == "lifespan":
            await self._app(scope, receive, send)
            return
        else:
            raise NotImplementedError(f"no policy applies to connections of type {kind!r}: they are not served")
        if request.forwarded and not self._warned:
            self._warn()
        server = self._server
        call = self._call(request, bound, left, web_socket)
        telemetry = server.telemetry
        span = telemetry.began(call)
        exchange = inbound(call)
        serving: HttpServing | WebSocketServing
        if web_socket:
            serving = WebSocketServing(call, exchange, telemetry, span, scope, receive, send)
            request.body_source = NO_BODY
        else:
            serving = request.body_source = HttpServing(call, exchange, telemetry, span, scope, receive, send)
        refusal = None
        try:
            effect = next(exchange)
            if type(effect) is not Serve:  # nearly always it is, and no coroutine is needed
                effect = await run_async(exchange, server.awaited, effect)
            refusal = effect.refusal
        except ClientGone:
            telemetry.broken(call, span)
            return
        except BaseException:
            telemetry.broken(call, span)
            raise
        request.body_source = None  # they refer to each other
        if refusal is not None:
            await serving.refuse(refusal)
            return
        scope[CALL] = call
        if request.for_application is not None or request.absolute:
            scope = serving.scope = changed(scope, request)
        tokens = enter(call)
        try:
            await self._app(scope, serving.receive, serving.send)
        except BaseException as error:
            serving.raised(error)
            if not (serving.cut and isinstance(error, Exception)):  # else it is about a client that it took for gone
                raise
        else:
            serving.returned()
        finally:
            leave(call, tokens)

    def tells_routes(self) -> Server:
        """Whoever calls this tells each request's route, once it is matched, to the limits that count by it
        (``engine/routed_limits.py``), by what is returned. For integrations."""
        self._server.routes_told = True
        return self._server

    def _threads_of(self, app: App) -> PoolThreads | LoopThreads:
        """Where requests stand in line for a thread behind this door."""
        now = self._server.clock.monotonic
        threads = getattr(app, "threads", None)
        if not isinstance(threads, PoolThreads):
            return LoopThreads(now)
        threads.go_by(now)
        return threads

    def _begin(self, live: LiveMesh | None) -> tuple[BoundPorts, Met]:
        """Nothing was met yet of the configuration in force; None: of a mesh that is closed."""
        made: tuple[BoundPorts, Met] = SHUT if live is None else live.inbound, RequestsMet()
        self._met = made
        return made

    def _look(
        self, scope: Scope, receive: Receive, send: Send, ports: BoundPorts
    ) -> tuple[Straight | None, AsgiRequest | None, BoundInbound | None, tuple[Check, ...] | None]:
        """An HTTP request of which nothing is known yet: where it goes straight, that; else the request, and where checks were
        asked, what is bound and the checks that are left."""
        server, port = self._server, self._port
        told = told_of(scope) if ports.unchecked else None
        if told is not None:  # the request itself is made when somebody asks for it
            target = told[2]
            bound = server.straight(target.port if port is None else port)
            if bound is not None and not bound.checks:
                query = scope.get("query_string")
                head_size = target.size + size(told[0]) + (len(query) + 1 if query else 0)
                known = KnownHead(server, bound, told, port, NOBODY, head_size, bound.of_nobody, True)
                return Straight(known, scope, receive, send), None, None, None
        request = self._request_of(scope, receive)
        bound = server.straight(request.port)
        if bound is None or (request.special and not self._is_usual(request)):
            return None, request, None, None
        if bound.checks:
            left = asked_at_once(request, bound.checks)
            if left is not None:
                return None, request, bound, left
        shown = scope if request.for_application is None else changed(scope, request)
        who = request.peer_id, request.principal, request.mutual
        came = scope["headers"], dict(request.values), request.line
        noting = bound.noting(request.principal, request.mutual)
        plain = not (bound.checks or request.special or STAND_IN in scope)
        known = KnownHead(server, bound, came, port, who, size_of(request, shown), noting, plain)
        straight = Straight(known, shown, receive, send)
        straight.request = request
        return straight, request, bound, None

    def _remember(
        self, straight: Straight, request: AsgiRequest | None, scope: Scope, ports: BoundPorts, met: Met, key: Hashable
    ) -> None:
        """For the next request like this one, of what ``ports`` say."""
        known = straight.known
        if request is None:
            request = known.request(scope)
        if ports.of(request.port) is known.bound:  # else another configuration has come meanwhile
            found = known_head(known, request, scope)
            if found is not None:
                met.keep(key, found)

    def _call(
        self, request: AsgiRequest, bound: BoundInbound | None, left: tuple[Check, ...] | None, web_socket: bool
    ) -> InboundCall:
        """The call that serves ``request``, of which the checks of ``bound`` were asked already but for those ``left``."""
        server = self._server
        names = server.deadline_names()
        by = None
        if (request.special or names is not DEADLINE_NAMES) and not web_socket:
            by = self._deadline(request.values, names)
        call = server.call(request, by, lasts=web_socket)
        if request.malformed is not None:
            call.checks = (_malformed,)
        elif left is not None and bound is not None and call.checks is bound.checks:
            call.checks = left
        if call.admission is not None and call.admission.looks_at_queue:
            call.queued = self._threads.seconds()
            if not self._threads.known:
                server.queue_unknown(call, NO_THREADS, "maxLag looks at the event loop")
        return call

    def _is_usual(self, request: AsgiRequest) -> bool:
        """Whether ``request``, which has headers of its own, goes straight all the same: it has no deadline, is not gRPC."""
        if request.forwarded and not self._warned:
            self._warn()
        return (
            request.malformed is None
            and not request.absolute
            and request.protocol == "http"
            and self._deadline(request.values, DEADLINE_NAMES) is None
        )

    def _deadline(self, values: Mapping[bytes, bytes], names: tuple[str, ...]) -> float | None:
        """When the caller gives up, by the mesh's clock; None: it does not say."""
        if names is not self._names:
            self._names, self._deadline_headers = names, [(name, name.encode("latin-1")) for name in names]
        for name, key in self._deadline_headers:
            value = values.get(key)
            if value is not None:
                seconds = deadline.read(name, value.decode("latin-1"))
                if seconds is not None:
                    return self._server.clock.monotonic() + seconds
        return None

    def _warn(self) -> None:
        self._warned = True
        log.warning(
            "the server puts an address of X-Forwarded-For in place of the peer's (uvicorn: --proxy-headers, on by default): "
            "policies do not know the address of such peers, and what they cannot know counts against the caller; "
            "run it with --no-proxy-headers"
        )


def _malformed(request: InboundRequest) -> Refusal | None:
    assert isinstance(request, AsgiRequest)
    return request.malformed
