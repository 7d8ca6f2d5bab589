"""``MeshASGIMiddleware``: an ASGI application that obeys the mesh."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.engine.body_source import NO_BODY
from meshlib.engine.deadlines import current as deadline_around
from meshlib.engine.drivers import run_async
from meshlib.engine.effects import Serve
from meshlib.engine.inbound import asked_at_once, inbound
from meshlib.engine.inbound_context import current, enter, leave
from meshlib.policy import deadline
from meshlib.transport.asgi.changed_scope import changed
from meshlib.transport.asgi.http import ClientGone, HttpServing
from meshlib.transport.asgi.peer import peers_of
from meshlib.transport.asgi.request import AsgiRequest, requests_of, told_of
from meshlib.transport.asgi.straight import Straight
from meshlib.transport.asgi.websocket import WebSocketServing
from meshlib.transport.runtimes.serving import DEADLINE_NAMES, server_of

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.asgi.messages import App, Receive, Scope, Send
    from meshlib.transport.runtimes.serving import Serves

log = logging.getLogger("meshlib.asgi")

CALL = "meshlib.call"
"""Where the call is in the scope that the application gets, for who serves it to look at."""


class MeshASGIMiddleware:
    """An ASGI application around ``app``: each HTTP request and WebSocket is identified (``mesh.inbound()``), may be refused or
    hit by a fault, is counted and traced. Put it outside of every other middleware that responds.

    ``port``: the port (of the container) that requests come to, for policies that say one; None: as the server says. Raises
    ValueError for a port that is none, TypeError for a mesh that is none.

    Who the caller is: a server that knows the certificate of its peer says so in the ASGI extension ``tls``; otherwise callers
    have no identity. uvicorn should run with ``--no-proxy-headers``: where it takes the peer's address from X-Forwarded-For,
    nobody knows the peer's, and that counts against the caller.
    """

    def __init__(self, app: App, mesh: Serves, port: int | None = None) -> None:
        if port is not None and not 0 < port < 65536:
            raise ValueError(f"port is a number from 1 to 65535, not {port!r}")
        self._app = app
        self._port = port
        self._server = server_of(mesh, type(self).__name__)
        self._request_of = requests_of(peers_of(self._server.peers), port)
        self._names: tuple[str, ...] = ()
        self._deadline_headers: list[tuple[str, bytes]] = []
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it. Raises what the application raises, and NotImplementedError for connections of a type that no
        policy knows."""
        kind = scope["type"]
        server = self._server
        bound = left = None
        if kind == "http":
            web_socket, straight, port = False, None, self._port
            told = told_of(scope)
            if told is not None:  # the request itself is made when somebody asks for it
                bound = server.straight(told[2].port if port is None else port)
                if bound is not None and not bound.checks:
                    straight = Straight(bound, server, scope, receive, send, told[2].method)
                    straight.told, straight.port = told, port
            if straight is None:
                request = self._request_of(scope, receive)
                bound = server.straight(request.port)
                if bound is not None and (not request.special or self._is_usual(request)):
                    straight = Straight(bound, server, scope, receive, send, request.method)
                    straight.request = request
                    if bound.checks:
                        straight.checks = bound.checks
                        left = asked_at_once(request, bound.checks)
                else:
                    bound = None
            if straight is not None and bound is not None and left is None:
                # in this coroutine: another one would cost as much as the counting (row asgi-cost of the benchmarks)
                straight.span = server.telemetry.began(straight)
                outer = scope
                scope[CALL] = straight
                if bound.checks and request.for_application is not None:
                    scope = straight.scope = changed(scope, request)
                token = tokens = None
                if straight.around is None and deadline_around.get() is None:
                    token = current.set(straight)  # all that ``enter`` would do
                else:
                    tokens = enter(straight)
                try:
                    await self._app(scope, straight.receive, straight.send)
                except BaseException as error:
                    straight.raised(error)
                    raise
                else:
                    if not straight.over:
                        straight.returned()
                finally:
                    if token is not None:
                        current.reset(token)
                    elif tokens is not None:
                        leave(straight, tokens)
                    outer.pop(CALL, None)  # they refer to each other: not one request is left to the garbage collector
                return
        elif kind == "websocket":
            web_socket, request = True, self._request_of(scope, receive)
        elif kind == "lifespan":
            await self._app(scope, receive, send)
            return
        else:
            raise NotImplementedError(f"no policy knows connections of type {kind!r}: they are not served")
        if request.forwarded and not self._warned:
            self._warn()
        names = server.deadline_names()
        by = None
        if (request.special or names is not DEADLINE_NAMES) and not web_socket:
            by = self._deadline(request.values, names)
        call = server.call(request, by, lasts=web_socket)
        if request.malformed is not None:
            call.checks = (_malformed,)
        elif left is not None and bound is not None and call.checks is bound.checks:
            call.checks = left
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

    def _is_usual(self, request: AsgiRequest) -> bool:
        """Whether ``request``, which has headers of its own, goes straight all the same: it says no deadline, is no gRPC."""
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
