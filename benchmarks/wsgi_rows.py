"""What MeshWSGIMiddleware costs: a Flask application that says hello, with no server, is 1."""

from __future__ import annotations

import io
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks import inbound_resources
from benchmarks.measure import Row, Unit


class Socket:
    """gunicorn's, without TLS."""

    def getsockname(self) -> tuple[str, int]:
        return "10.0.0.2", 8000


class SecureSocket(Socket):
    """gunicorn's, of a peer with a certificate."""

    def __init__(self) -> None:
        self._certificate = ssl.PEM_cert_to_DER_cert(inbound_resources.certificate())

    def getpeercert(self, binary_form: bool = False) -> bytes:
        return self._certificate


class FileWrapper:
    """The server's."""


def hello() -> Flask:
    app = Flask("hello")
    app.add_url_rule("/hello", view_func=lambda: {"hello": "world"})
    return app


def environ(sock: Socket, more: dict[str, str]) -> dict[str, Any]:
    """As gunicorn makes it, for each request anew."""
    return {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn/27.0.1",
        "gunicorn.socket": sock,
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "",
        "RAW_URI": "/hello",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "hello.default:8000",
        "HTTP_USER_AGENT": "python-httpx/0.28.1",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_CONNECTION": "keep-alive",
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "4711",
        "SERVER_NAME": "10.0.0.2",
        "SERVER_PORT": "8000",
        "PATH_INFO": "/hello",
        "SCRIPT_NAME": "",
        **more,
    }


def _start(_status: str, _headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
    return len


def _round(app: Any, sock: Socket, more: dict[str, str], calls: int) -> float:
    clock = time.perf_counter
    began = clock()
    for _ in range(calls):
        pieces = app(environ(sock, more), _start)
        for _piece in pieces:
            pass
        pieces.close()
    return (clock() - began) / calls


def wsgi_cost(quick: bool) -> list[Row]:
    """Interleaved rounds, the best of each: only what the middleware adds is told."""
    rounds, calls = (80, 20) if quick else (1000, 15)
    unit = Unit()
    plain = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
    policed = meshlib.Mesh.from_resources(inbound_resources.twenty_rules(), registry=CollectorRegistry())
    token = {"HTTP_AUTHORIZATION": f"Bearer {inbound_resources.token()}"}
    sock, secure = Socket(), SecureSocket()
    cases: list[tuple[Any, Socket, dict[str, str]]] = [
        (hello(), sock, {}),
        (meshlib.MeshWSGIMiddleware(hello(), plain), sock, {}),
        (hello(), secure, token),
        (meshlib.MeshWSGIMiddleware(hello(), policed), secure, token),
    ]
    for app, known, more in cases:  # a refusal would be quick
        statuses: list[str] = []
        app(environ(known, more), lambda status, headers, error=None, found=statuses: found.append(status)).close()
        assert statuses == ["200 OK"], statuses
    best = [float("inf")] * len(cases)
    for _ in range(rounds):
        unit.take(100)
        for n, (app, known, more) in enumerate(cases):
            best[n] = min(best[n], _round(app, known, more, calls))
    for mesh in (plain, policed):
        mesh.close()
    rows = []
    for name, bare, meshed, target in (("telemetry only", 0, 1, 0.20), ("20 rules, cached JWT, metrics", 2, 3, 0.28)):
        added = best[meshed] - best[bare]
        rows.append(
            Row(
                f"WSGI: {name}, excess over Flask's hello",
                added / best[bare],
                "x",
                target,
                details=f"{added * 1e6:.1f} us over {best[bare] * 1e6:.1f} us",
                json=added * 1e6 / unit.us,
            )
        )
    return rows
