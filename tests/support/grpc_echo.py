"""The Echo service over real sockets, with stubs generated from protos/echo.proto on first import."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc

PROTOS = Path(__file__).parent / "protos"


def _generated() -> tuple[Any, Any]:
    target = tempfile.mkdtemp(prefix="meshlib-protos-")
    code = protoc.main(
        ["protoc", f"-I{PROTOS}", f"--python_out={target}", f"--grpc_python_out={target}", str(PROTOS / "echo.proto")]
    )
    if code:
        raise RuntimeError(f"protoc failed with {code}")
    sys.path.insert(0, target)
    try:
        return importlib.import_module("echo_pb2"), importlib.import_module("echo_pb2_grpc")
    finally:
        sys.path.remove(target)


pb, stubs = _generated()
Message = pb.Message
SERVICE = "meshlib.test.Echo"


class Seen:
    """One call as the server saw it."""

    def __init__(self, method: str, context: Any, server: str) -> None:
        self.method = method
        self.server = server
        self.metadata: dict[str, Any] = dict(context.invocation_metadata())
        self.time_remaining: float | None = context.time_remaining()
        self.peer: str = context.peer()

    def __repr__(self) -> str:
        return f"<Seen {self.method} at {self.server} {self.metadata}>"


class Echo(stubs.EchoServicer):  # type: ignore[misc]
    """Answers what it is asked, or what its script says.

    ``script`` is a list of steps, one per call, the last repeated for ever; a step is "ok", a status name ("UNAVAILABLE":
    abort at once, before any message), a number (sleep so many seconds, then ok), ("after", n, status): abort after n
    messages, or ("head", status): initial metadata first, then abort.
    """

    def __init__(self, name: str, script: list[Any] | None = None) -> None:
        self.name = name
        self.script: list[Any] = list(script or ["ok"])
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.release = threading.Event()  # set: sleeping calls go on

    def _begin(self, method: str, context: Any) -> Any:
        with self.lock:
            self.seen.append(Seen(method, context, self.name))
            step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        context.set_trailing_metadata((("answered-by", self.name),))
        if isinstance(step, (int, float)):
            self.release.wait(step)
            return "ok"
        if isinstance(step, tuple) and step[0] == "head":
            context.send_initial_metadata((("head-sent", "yes"),))
            step = step[1]
            if step != "ok":
                # grpcio may tell asyncio of a status before it tells of the head that came right before it
                self.release.wait(0.3)
        if isinstance(step, str) and step != "ok":
            context.abort(grpc.StatusCode[step], f"scripted {step}")
        return step

    def _answer(self, text: str, context: Any, count: int = 0, payload: bytes = b"") -> Any:
        seen = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        return Message(text=text, server=self.name, metadata=seen, count=count, payload=payload)

    def _limit(self, step: Any, sent: int, context: Any) -> None:
        if isinstance(step, tuple) and step[0] == "after" and sent >= step[1]:
            context.abort(grpc.StatusCode[step[2]], f"scripted {step[2]} after {sent}")

    def Unary(self, request: Any, context: Any) -> Any:
        self._begin("Unary", context)
        return self._answer(request.text, context, payload=request.payload)

    def Expand(self, request: Any, context: Any) -> Iterator[Any]:
        step = self._begin("Expand", context)
        for i in range(request.count):
            self._limit(step, i, context)
            yield self._answer(f"{request.text}{i}", context)
        self._limit(step, request.count, context)

    def Collect(self, requests: Any, context: Any) -> Any:
        self._begin("Collect", context)
        texts = [r.text for r in requests]
        return self._answer("".join(texts), context, count=len(texts))

    def Chat(self, requests: Any, context: Any) -> Iterator[Any]:
        step = self._begin("Chat", context)
        for i, request in enumerate(requests):
            self._limit(step, i, context)
            yield self._answer(request.text, context)


class EchoServer:
    """An ``Echo`` on 127.0.0.1, or another address. ``credentials`` makes it TLS; ``options`` are grpc.server's."""

    def __init__(
        self,
        name: str = "one",
        script: list[Any] | None = None,
        *,
        ip: str = "127.0.0.1",
        port: int = 0,
        interceptors: Any = (),
        options: Any = (),
        credentials: Any = None,
        workers: int = 16,
    ) -> None:
        self.echo = Echo(name, script)
        self.server = grpc.server(
            futures.ThreadPoolExecutor(workers), interceptors=interceptors, options=[("grpc.so_reuseport", 0), *options]
        )
        stubs.add_EchoServicer_to_server(self.echo, self.server)
        address = f"{ip}:{port}"
        self.port: int = (
            self.server.add_insecure_port(address)
            if credentials is None
            else self.server.add_secure_port(address, credentials)
        )
        self._before_start()
        self.server.start()

    def _before_start(self) -> None:
        """More services, for those that derive from this one."""

    @property
    def name(self) -> str:
        return self.echo.name

    @property
    def seen(self) -> list[Seen]:
        return self.echo.seen

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End at once: calls under way are broken off."""
        self.echo.release.set()
        self.server.stop(None).wait(60)

    def stop(self, grace: float = 1.0) -> None:
        """End as a server should: GOAWAY, then calls under way may finish."""
        self.server.stop(grace).wait(grace + 5)

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextlib.contextmanager
def echo_servers(*scripts: Any) -> Iterator[list[EchoServer]]:
    """Several servers, named a, b, c ...; a script (or None) each."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(EchoServer("abcdefgh"[i], script if script is None else list(script)))
            for i, script in enumerate(scripts)
        ]


def eventually(condition: Any, seconds: float = 60.0) -> bool:
    """Wait for what other threads do; False when it did not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
