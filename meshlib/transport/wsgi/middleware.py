"""``MeshWSGIMiddleware``: a WSGI application that obeys the mesh, whatever server and framework it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Serve
from meshlib.engine.inbound import asked_at_once, inbound
from meshlib.engine.inbound_limits import whole_body_check
from meshlib.engine.inbound_state import SHUT
from meshlib.policy import deadline
from meshlib.transport.runtimes.requests_met import RequestsMet
from meshlib.transport.runtimes.serving import checked_port, server_of
from meshlib.transport.wsgi.changes import apply
from meshlib.transport.wsgi.connection import SOCKET, peers_of
from meshlib.transport.wsgi.known_environ import KnownEnviron, facts_of, known_environ, known_facts
from meshlib.transport.wsgi.refusals import refused
from meshlib.transport.wsgi.request import WsgiRequest, request_of
from meshlib.transport.wsgi.response import Head, context_of, responded
from meshlib.transport.wsgi.server_threads import ServerThreads
from meshlib.transport.wsgi.straight import Straight

if TYPE_CHECKING:
    from contextvars import Context

    from meshlib.engine.check import Check
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.inbound_state import BoundInbound, BoundPorts
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.runtimes.serving import Server, Serves
    from meshlib.transport.wsgi.connection import Peer
    from meshlib.transport.wsgi.contracts import Application, Environ, Pieces, StartResponse
    from meshlib.transport.wsgi.known_environ import Key, Met, MetEnviron

NO_LINE = "this WSGI server does not tell how long requests wait for a thread"


class MeshWSGIMiddleware:
    """WSGI middleware that enforces the mesh's policies around ``app``. For each request it identifies the caller
    (``mesh.inbound()``), enforces policies, limits and faults, and records metrics and spans. Put it outside every other
    middleware.

    ``port`` is the container's port that requests arrive at, for policies that name one; None means the port that the server
    reports. Raises ValueError for a port that is not valid, TypeError for a ``mesh`` that is not a mesh.

    The caller's identity comes from gunicorn, if it terminates TLS and requires client certificates (``--cert-reqs 2``, or an
    ``ssl_context`` hook), and from ``meshlib serve --wsgi``. With other servers callers are unauthenticated.
    """

    def __init__(self, app: Application, mesh: Serves, port: int | None = None) -> None:
        self._app = app
        self._port = checked_port(port)
        self._server = server_of(mesh, type(self).__name__)
        self._tracing = self._server.telemetry.tracing
        self._peer_of = peers_of(self._server.peers)
        self._met: tuple[BoundPorts, Met] = SHUT, RequestsMet()
        """What was met of the configuration in force. One tuple: other threads see all of it or nothing."""
        self._threads = ServerThreads(self._server.clock.monotonic, self._server.clock.time)
        self._names: tuple[str, ...] = ()
        self._deadline_keys: list[tuple[str, str]] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Pieces:
        server = self._server
        live = server.core.live
        ports, met = self._met
        if live is None or live.inbound is not ports:
            ports, met = self._begin(live)
        known: MetEnviron | None
        key: Key | None
        peer: Peer | None = None
        sock = environ.get(SOCKET)
        of = met.of
        if of is not None:
            facts = known_facts(tuple(environ)) or facts_of(environ)
            try:
                if hasattr(sock, "getpeercert"):
                    peer = identity, mutual, _ = self._peer_of(sock)
                    key = facts, facts(environ), None if identity is None else identity.text, mutual
                else:
                    key = facts, facts(environ)
                known = of(key)
            except (KeyError, TypeError):  # what is special, and what servers put there that is not text
                key = known = None
        else:
            key = known = None
            if hasattr(sock, "getpeercert"):
                peer = self._peer_of(sock)
        if known is not None and (known.let_in is None or known.let_in.holds()):
            known.met = True
            head = Straight(known, environ, server, start_response)
            tracing = self._tracing
            if tracing.unrecorded > 0:
                tracing.unrecorded -= 1  # all that ``began`` would do
            else:
                head.began()
            if known.changes:
                request = head.request = known.request(environ)
                if request.for_application is not None:
                    apply(request.for_application, request, environ)
            return self._served(head, head.context(), environ)
        request = request_of(environ, self._port, server.peers, peer)
        left = None
        bound = server.straight_for(request)
        if (
            bound is not None
            and request.malformed is None
            and not ("HTTP_X_REQUEST_DEADLINE" in environ or "HTTP_GRPC_TIMEOUT" in environ)
        ):
            new = KnownEnviron(request, bound, self._port, _announced(environ) or 0)
            head = Straight(new, environ, server, start_response)
            head.request = request
            if bound.checks:
                left = asked_at_once(request, bound.checks)
            if left is None:
                head.began()
                if of is None:
                    met.passed()
                elif key is not None and met.wants() and ports.of(request.port) is bound:
                    found = known_environ(new, key, environ)
                    if found is not None:
                        met.keep(key, found)
                if request.for_application is not None:
                    apply(request.for_application, request, environ)
                return self._served(head, head.context(), environ)
        call = self._call(request, environ, bound, left)
        telemetry = server.telemetry
        span = telemetry.began(call)
        exchange = inbound(call)
        try:
            effect = next(exchange)
            refusal = (effect if type(effect) is Serve else run(exchange, server.blocking, effect)).refusal
        except BaseException:
            telemetry.ended(call, span)
            raise
        if refusal is not None:
            try:
                return refused(call, refusal, start_response)
            finally:
                finish(exchange)
                telemetry.ended(call, span)
        if request.for_application is not None:
            apply(request.for_application, request, environ)
        return self._served(Head(call, start_response, exchange, telemetry, span), context_of(call), environ)

    def tells_routes(self) -> Server:
        """As ``MeshASGIMiddleware``'s."""
        self._server.routes_told = True
        return self._server

    def _call(
        self, request: WsgiRequest, environ: Environ, bound: BoundInbound | None, left: tuple[Check, ...] | None
    ) -> InboundCall:
        """The call that serves ``request``, of which the checks of ``bound`` were asked already but for those ``left``."""
        call = self._server.call(request, self._deadline(environ))
        if request.malformed is not None:
            call.checks = (_malformed,)
        elif left is not None and bound is not None and call.checks is bound.checks:
            call.checks = left
        announced = _announced(environ)
        if announced is not None:
            call.request_bytes = announced  # wsgi.input is the application's
        elif call.inbound.protection is not None:
            max_body = call.inbound.protection.max_body
            if max_body is not None and "HTTP_TRANSFER_ENCODING" in environ:
                call.checks = (*call.checks, whole_body_check(max_body))
        if call.admission is not None and call.admission.looks_at_queue:
            queued = self._threads.seconds(environ)
            if queued is None:
                self._server.queue_unknown(
                    call, NO_LINE, "run it by gunicorn's gthread, waitress or meshlib serve --wsgi"
                )
            else:
                call.queued = queued
        return call

    def _begin(self, live: LiveMesh | None) -> tuple[BoundPorts, Met]:
        """Nothing was met yet of the configuration in force; None: of a mesh that is closed."""
        made: tuple[BoundPorts, Met] = SHUT if live is None else live.inbound, RequestsMet()
        self._met = made
        return made

    def _served(self, head: Head, context: Context, environ: Environ) -> Pieces:
        """The application's response."""
        try:
            pieces = context.run(self._app, environ, head)
            return responded(head, context, pieces, environ.get("wsgi.file_wrapper"))
        except BaseException:
            head.end(head.failed())
            raise

    def _deadline(self, environ: Environ) -> float | None:
        """When the caller gives up, by the mesh's clock; None: it does not say."""
        server = self._server
        names = server.deadline_names()
        if names is not self._names:
            self._names, self._deadline_keys = names, [(f"HTTP_{n.replace('-', '_').upper()}", n) for n in names]
        for key, name in self._deadline_keys:
            if key in environ:
                seconds = deadline.read(name, environ[key])
                if seconds is not None:
                    return server.clock.monotonic() + seconds
        return None


def _announced(environ: Environ) -> int | None:
    """How long its body is, None: its head does not say."""
    length = environ.get("CONTENT_LENGTH")
    return int(length) if length and length.isascii() and length.isdigit() else None


def _malformed(request: InboundRequest) -> Refusal | None:
    assert isinstance(request, WsgiRequest)
    return request.malformed
