"""A WSGI server of the tests' own: environs as real servers make them, and what comes back, piece by piece."""

from __future__ import annotations

import io
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound import InboundCall
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from tests.support.fake_clock import FakeClock

GUNICORN = "gunicorn/27.0.1"


class Sock:
    """gunicorn's socket. ``certificate``: DER that the peer has shown; None with TLS: it has shown none."""

    def __init__(
        self,
        certificate: bytes | None = None,
        *,
        here: object = ("10.0.0.9", 8443),
        peer: object = ("10.0.0.1", 4711),
        sni: str | None = None,
        verify: ssl.VerifyMode = ssl.CERT_OPTIONAL,
        error: Exception | None = None,
    ) -> None:
        self._certificate = certificate
        self._here = here
        self._peer = peer
        self._error = error
        self.server_hostname = sni
        self.context = type("Context", (), {"verify_mode": verify})()

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        assert binary_form
        if self._error is not None:
            raise self._error
        return self._certificate

    def getsockname(self) -> object:
        if isinstance(self._here, Exception):
            raise self._here
        return self._here

    def getpeername(self) -> object:
        return self._peer


class PlainSock:
    """gunicorn's socket without TLS."""

    def __init__(self, here: object = ("10.0.0.9", 8000), peer: object = ("10.0.0.1", 4711)) -> None:
        self.getsockname = lambda: here
        self.getpeername = lambda: peer


def environ(target: str = "/", method: str = "GET", *, without: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """As gunicorn makes one of a request over plain TCP; ``more`` (None: taken away) and ``without`` change it."""
    from urllib.parse import unquote_to_bytes

    path, _, query = target.partition("?")
    made = {
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "10.0.0.9",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": GUNICORN,
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "shop.example:8000",
        "gunicorn.socket": PlainSock(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **more,
    }
    return {key: value for key, value in made.items() if value is not None and key not in without}


class Answered:
    """A server's side of one response. ``begun``: each call of ``start_response``; ``body``: what would go to the client."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.begun: list[tuple[str, list[tuple[str, str]], bool]] = []
        self.body: list[bytes] = []
        self.fails_at = fails_at
        """The piece at which the client is gone."""

    @property
    def status(self) -> str:
        return self.begun[-1][0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        return self.begun[-1][1]

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and any(self.body):
            raise exc_info[1]
        assert exc_info is not None or not self.begun, "begun twice"
        self.begun.append((status, headers, exc_info is not None))
        return self.write

    def write(self, piece: bytes) -> None:
        if self.fails_at == len(self.body):
            raise BrokenPipeError
        self.body.append(piece)

    def serve(self, app: Any, environ: dict[str, Any]) -> Answered:
        """As PEP 3333 has servers do it, ``close`` whatever happens."""
        pieces = app(environ, self.start_response)
        try:
            for piece in pieces:
                self.write(piece)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        return self


class Watched:
    """A mesh, and the calls that it has served."""

    def __init__(self, *resources: dict[str, Any], **more: Any) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, clock=self.clock, **more)
        self.calls: list[InboundCall] = []
        self._noting = False

    def around(self, app: Any, *checks: Any, port: int | None = None) -> MeshWSGIMiddleware:
        """The middleware, with ``checks`` in place of the mesh's own when there are some; each call is kept."""
        middleware = MeshWSGIMiddleware(app, self.mesh, port)
        make = middleware._server.call
        if not self._noting:
            self._note()

        class Server(type(middleware._server)):  # type: ignore[misc]
            __slots__ = ()

            def call(inner, request: Any, deadline: float | None = None) -> InboundCall:
                call = make(request, deadline)
                if checks:
                    call.checks = checks
                return call

            def straight_for(inner, request: Any) -> Any:
                return None if checks else super().straight_for(request)

        middleware._server = Server(self.mesh._core, self.mesh._telemetry_of_servers())
        return middleware

    def _note(self) -> None:
        telemetry = self.mesh._telemetry_of_servers()
        began = telemetry.began

        def note(call: InboundCall) -> Any:
            self.calls.append(call)
            return began(call)

        telemetry.began = note  # type: ignore[method-assign]
        self._noting = True

    @property
    def results(self) -> list[tuple[int, str]]:
        """(status, flags) of each call."""
        return [(call.status, call.flags) for call in self.calls]

    def counted(self) -> dict[tuple[str, str], float]:
        """Calls that the metrics have counted, by (response_code, response_flags)."""
        found: dict[tuple[str, str], float] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "istio_requests_total" and sample.value:
                    key = (sample.labels["response_code"], sample.labels["response_flags"])
                    found[key] = found.get(key, 0) + sample.value
        return found


@contextmanager
def watched(*resources: dict[str, Any], **more: Any) -> Iterator[Watched]:
    made = Watched(*resources, **more)
    with made.mesh:
        yield made
