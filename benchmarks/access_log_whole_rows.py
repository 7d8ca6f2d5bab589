"""What an access log to a file costs the process, all threads together, in ``json.loads`` of a small document: CPU of calls (or
requests) with the log until their lines are in the file, less the same without. Lines come as a busy program's do, some 500 to
a batch. They are in the processor's caches, as those are that just end: requests are made one by one, and of ``CALLS`` calls
each ends again and again (no memory of it is kept), some microseconds after it began. ``own id``: each has a request id of its
own, as those of one program to another have; ``unique``: a target and a user agent as well.
For scale: a ready-made line through ``logging`` and its ``FileHandler``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit
from meshlib.engine.call import Call

TARGET = 2.0
LINES = 500
"""Of a round: what a thread that makes 10,000 calls a second leaves in the 50 ms that lines wait."""
CALLS = 25
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


Way = Callable[[], None]
"""A round, to the last line in the file."""


def access_log_whole(quick: bool) -> list[Row]:
    """See above."""
    rounds = 60 if quick else 400
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.log"
        ways: dict[str, Way] = {}
        less: dict[str, str] = {}
        for kind in ("alike", "own id", "unique"):
            calls = _calls(path, kind)
            ways[f"no log: a call ({kind})"] = _ended(None, None, calls)
            for form in ("text", "envoy", "json"):
                name = f"a call ({form}, {kind})"
                ways[name], less[name] = _ended(path, form, calls), f"no log: a call ({kind})"
            for door, served in (("ASGI", _asgi), ("WSGI", _wsgi)):
                ways[f"no log: {door} ({kind})"] = served(None, None, kind)
                for form in ("text", "json"):
                    name = f"a request served ({door}, {form}, {kind})"
                    ways[name] = served(path, form, kind)
                    less[name] = f"no log: {door} ({kind})"
        ways["logging's FileHandler"] = _logging(path)
        best, unit = _best(ways, rounds)
    for name, without in less.items():
        added = best[name] - best[without]
        details = f"{added:.2f} us; json.loads {unit:.2f} us"
        rows.append(Row(f"access log to a file, whole CPU of {name}", added / unit, "x", TARGET, details=details))
    there = best["logging's FileHandler"]
    details = f"{there:.2f} us"
    rows.append(Row("for scale: a ready-made line by logging's FileHandler", there / unit, "x", details=details))
    return rows


def _best(ways: dict[str, Way], rounds: int) -> tuple[dict[str, float], float]:
    """Microseconds of the process's CPU a line, the best of rounds taken in turn, and the unit."""
    unit, best, clock = Unit(), dict.fromkeys(ways, float("inf")), time.process_time
    for _ in range(rounds + 3):
        for name, way in ways.items():
            began = clock()
            way()
            best[name] = min(best[name], (clock() - began) / LINES * 1e6)
        unit.take()
        gc.collect()
    return best, unit.us


def own(n: int, kind: str) -> tuple[str, str, str]:
    """Target, request id and user agent of a request."""
    own = f"-{n}" if kind == "unique" else ""
    return (
        f"/reviews/1{own}",
        f"8a4b5c6d-0000-4711-8000-{0 if kind == 'alike' else n:012d}",
        f"Mozilla/5.0 (X11; Linux) bench/1{own}",
    )


def _calls(path: Path, kind: str) -> list[Call]:
    """Calls that were made over a real connection while there was a log."""
    calls: list[Call] = []
    with (
        _Server() as port,
        mesh_with(path, "text", port) as mesh,
        mesh.client(base_url="http://reviews:9080") as client,
    ):
        watcher = mesh._core.telemetry
        ended = watcher.ended

        def keep(call: Any, span: Any) -> None:
            calls.append(call)
            ended(call, span)

        watcher.ended = keep  # type: ignore[method-assign]
        for n in range(CALLS + 200):
            target, request_id, agent = own(n, kind)
            client.get(target, headers={"x-request-id": request_id, "user-agent": agent})
    return calls[-CALLS:]


def _ended(path: Path | None, form: str | None, calls: list[Call]) -> Way:
    """Calls come to their end."""
    mesh = mesh_with(path, form, 9080)
    telemetry = mesh._core.telemetry
    ended, flush = telemetry.ended, telemetry.flush_logs
    logged, clock = path is not None, time.monotonic

    def run() -> None:
        for call in calls * (LINES // CALLS):
            call.record.started = clock()
            if logged:
                call.record.answered = call.outcome, 0.0, False  # type: ignore[assignment]  # as the exchange does it
            ended(call, None)
        flush(60.0)

    return run


def _asgi(path: Path | None, form: str | None, kind: str) -> Way:
    """Requests to an ASGI application."""
    mesh = mesh_with(path, form, 9080)
    serve, loop = serving(mesh, kind), asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(serve(_numbers(kind)))
        mesh.flush_access_logs()

    return run


def serving(mesh: meshlib.Mesh, kind: str = "alike") -> Callable[[range], Coroutine[Any, Any, None]]:
    """An ASGI application behind the middleware: serves requests with these numbers."""
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    body = {"type": "http.response.body", "body": b"{}"}
    asked = {"type": "http.request", "body": b"", "more_body": False}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start)
        await send(body)

    async def receive() -> dict[str, Any]:
        return asked

    async def send(_message: Any) -> None:
        return

    middleware = meshlib.MeshASGIMiddleware(app, mesh)

    async def serve(numbers: range) -> None:
        for n in numbers:
            await middleware(_scope(n, kind), receive, send)

    return serve


_turn = iter(range(LINES, 1 << 60, LINES))


def _numbers(kind: str) -> range:
    """Of the requests of a round: such as no round had before, but where they are alike."""
    first = next(_turn) if kind != "alike" else 0
    return range(first, first + LINES)


def _scope(n: int, kind: str) -> dict[str, Any]:
    target, request_id, agent = own(n, kind)
    headers = [
        (b"host", b"reviews:9080"), (b"user-agent", agent.encode()), (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"), (b"connection", b"keep-alive"), (b"x-request-id", request_id.encode()),
    ]  # fmt: skip
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": target, "raw_path": target.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 4711), "server": ("127.0.0.1", 9080),
    }  # fmt: skip


def _wsgi(path: Path | None, form: str | None, kind: str) -> Way:
    """Requests to a WSGI application."""
    mesh = mesh_with(path, form, 9080)

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    def start_response(_status: str, _headers: Any, _error: Any = None) -> None:
        return

    middleware = meshlib.MeshWSGIMiddleware(app, mesh)

    def run() -> None:
        for n in _numbers(kind):
            made: Any = middleware(_environ(n, kind), start_response)
            for _ in made:
                pass
            made.close()
        mesh.flush_access_logs()

    return run


def _environ(n: int, kind: str) -> dict[str, Any]:
    target, request_id, agent = own(n, kind)
    return {
        "REQUEST_METHOD": "GET", "PATH_INFO": target, "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "9080",
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "4711", "wsgi.url_scheme": "http",
        "HTTP_HOST": "reviews:9080", "HTTP_USER_AGENT": agent, "HTTP_ACCEPT": "*/*", "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_X_REQUEST_ID": request_id, "SCRIPT_NAME": "",
    }  # fmt: skip


def _logging(path: Path) -> Way:
    """Lines that are there already, by ``logging``."""
    handler = logging.FileHandler(str(path) + ".logging")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("benchmark")
    logger.addHandler(handler)
    line = "x" * 300

    def run() -> None:
        for _ in range(LINES):
            logger.info(line)

    return run


class _Server:
    """A port at which each request gets ``REPLY``."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("", 0))  # the endpoints are 127.0.0.1 to 127.0.0.4
        threading.Thread(target=self._accept, daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        try:
            while True:
                there, _ = self._listener.accept()
                threading.Thread(target=self._respond, args=(there,), daemon=True).start()
        except OSError:
            return

    @staticmethod
    def _respond(there: socket.socket) -> None:
        with there:
            while there.recv(65536):
                there.sendall(REPLY)

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def mesh_with(path: Path | None, form: str | None, port: int) -> meshlib.Mesh:
    """One that logs to ``path``; None: it does not."""
    return meshlib.Mesh.from_resources(
        synthetic.reviews(port), registry=CollectorRegistry(), access_log=path, access_log_format=form
    )
