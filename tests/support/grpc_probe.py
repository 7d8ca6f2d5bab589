"""A service that does what its callers ask and notes what its handlers can see; the same in every way of writing one.

Runtimes: "threads" (grpc.server), "asyncio" (coroutines and async generators), "writer" (coroutines with context.read and
context.write), "plain" (functions of threads on an asyncio server). The client is always a plain channel of threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
from opentelemetry import trace

import meshlib
from meshlib.engine import deadlines
from tests.support.grpc_echo import Message, stubs

RUNTIMES = ("threads", "asyncio", "writer", "plain")


class Seen:
    """What a piece of a handler could see."""

    def __init__(self, mesh: meshlib.Mesh, where: str) -> None:
        self.where = where
        self.request = mesh.inbound()
        self.deadline = deadlines.around()
        self.span = trace.get_current_span().get_span_context()

    def __repr__(self) -> str:
        return f"<Seen {self.where} {self.request}>"


class Notes:
    """What all handlers of a server share. Texts of requests are orders: "abort NOT_FOUND", "raise", "code ABORTED",
    "swallow ABORTED" (abort, and return as if nothing had happened), "wait" (until released or cancelled)."""

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.seen: list[Seen] = []
        self.waiting = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.context: Any = None  # of the call that waits, in threads

    def note(self, where: str) -> None:
        self.seen.append(Seen(self.mesh, where))

    def answer(self, text: str) -> Any:
        request = self.mesh.inbound()
        return Message(text=text, server=request.principal if request is not None else "nobody is served here")

    @property
    def wheres(self) -> list[str]:
        return [s.where for s in self.seen]


class Threads(stubs.EchoServicer):  # type: ignore[misc]
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def _obey(self, text: str, context: Any) -> None:
        order, _, what = text.partition(" ")
        if order == "abort":
            context.abort(grpc.StatusCode[what], "as asked")
        elif order == "swallow":
            with contextlib.suppress(Exception):
                context.abort(grpc.StatusCode[what], "as asked")
        elif order == "raise":
            raise ValueError("as asked")
        elif order == "code":
            context.set_code(grpc.StatusCode[what])
        elif order == "wait":
            self.notes.context = context
            self.notes.waiting.set()
            self.notes.release.wait(60)

    def Unary(self, request: Any, context: Any) -> Any:
        self.notes.note("Unary")
        self._obey(request.text, context)
        return self.notes.answer(request.text)

    def Expand(self, request: Any, context: Any) -> Iterator[Any]:
        try:
            for i in range(request.count):
                self.notes.note(f"Expand {i}")
                yield self.notes.answer(f"{request.text}{i}")
            self._obey(request.text, context)
        finally:
            self.notes.note("Expand closed")
            self.notes.closed.set()

    def Collect(self, requests: Any, context: Any) -> Any:
        texts = []
        for request in requests:
            self.notes.note("Collect")
            self._obey(request.text, context)
            texts.append(request.text)
        return self.notes.answer("".join(texts))

    def Chat(self, requests: Any, context: Any) -> Iterator[Any]:
        try:
            for request in requests:
                self.notes.note("Chat")
                self._obey(request.text, context)
                yield self.notes.answer(request.text)
        finally:
            self.notes.note("Chat closed")
            self.notes.closed.set()


class Asyncio(stubs.EchoServicer):  # type: ignore[misc]
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    async def _obey(self, text: str, context: Any) -> None:
        order, _, what = text.partition(" ")
        if order == "abort":
            await context.abort(grpc.StatusCode[what], "as asked")
        elif order == "swallow":
            with contextlib.suppress(Exception):
                await context.abort(grpc.StatusCode[what], "as asked")
        elif order == "raise":
            raise ValueError("as asked")
        elif order == "code":
            context.set_code(grpc.StatusCode[what])
        elif order == "wait":
            self.notes.waiting.set()
            await asyncio.get_running_loop().run_in_executor(None, self.notes.release.wait, 10)

    async def Unary(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        self.notes.note("Unary")
        await self._obey(request.text, context)
        return self.notes.answer(request.text)

    async def Expand(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            for i in range(request.count):
                await asyncio.sleep(0)
                self.notes.note(f"Expand {i}")
                yield self.notes.answer(f"{request.text}{i}")
            await self._obey(request.text, context)
        finally:
            self.notes.note("Expand closed")
            self.notes.closed.set()

    async def Collect(self, requests: Any, context: Any) -> Any:
        texts = []
        async for request in requests:
            self.notes.note("Collect")
            await self._obey(request.text, context)
            texts.append(request.text)
        return self.notes.answer("".join(texts))

    async def Chat(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for request in requests:
                self.notes.note("Chat")
                await self._obey(request.text, context)
                yield self.notes.answer(request.text)
        finally:
            self.notes.note("Chat closed")
            self.notes.closed.set()


class Writer(Asyncio):
    async def Expand(self, request: Any, context: Any) -> None:
        try:
            for i in range(request.count):
                self.notes.note(f"Expand {i}")
                await context.write(self.notes.answer(f"{request.text}{i}"))
            await self._obey(request.text, context)
        finally:
            self.notes.note("Expand closed")
            self.notes.closed.set()

    async def Collect(self, _requests: Any, context: Any) -> Any:
        texts = []
        while (request := await context.read()) is not grpc.aio.EOF:
            self.notes.note("Collect")
            await self._obey(request.text, context)
            texts.append(request.text)
        return self.notes.answer("".join(texts))

    async def Chat(self, _requests: Any, context: Any) -> None:
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                self.notes.note("Chat")
                await self._obey(request.text, context)
                await context.write(self.notes.answer(request.text))
        finally:
            self.notes.note("Chat closed")
            self.notes.closed.set()


class Probe:
    """A running server: where it listens and what its handlers noted."""

    def __init__(self, notes: Notes, port: int) -> None:
        self.notes = notes
        self.address = f"127.0.0.1:{port}"

    @contextlib.contextmanager
    def stub(self, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Any]:
        make = grpc.insecure_channel if credentials is None else grpc.secure_channel
        with make(self.address, *(() if credentials is None else (credentials,))) as channel:
            yield stubs.EchoStub(channel)


def _listen(server: Any, credentials: Any) -> int:
    port: int = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    return port


@contextlib.contextmanager
def probe(
    runtime: str,
    mesh: meshlib.Mesh,
    *,
    credentials: Any = None,
    interceptors: Any = (),
    handlers: Any = (),
    workers: int = 8,
    **options: Any,
) -> Iterator[Probe]:
    """Serve in a runtime. ``interceptors`` come before the mesh's; ``handlers`` are generic ones beside the service."""
    notes = Notes(mesh)
    if runtime == "threads":
        server = grpc.server(
            futures.ThreadPoolExecutor(workers), interceptors=[*interceptors, *mesh.grpc_server_interceptors(**options)]
        )
        stubs.add_EchoServicer_to_server(Threads(notes), server)
        server.add_generic_rpc_handlers(tuple(handlers))
        port = _listen(server, credentials)
        server.start()
        try:
            yield Probe(notes, port)
        finally:
            notes.release.set()
            server.stop(None).wait(60)
        return

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servicer = {"asyncio": Asyncio, "writer": Writer, "plain": Threads}[runtime](notes)
    pool = futures.ThreadPoolExecutor(workers)

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(pool, interceptors=[*interceptors, *mesh.aio_grpc_server_interceptors(**options)])
        stubs.add_EchoServicer_to_server(servicer, server)
        server.add_generic_rpc_handlers(tuple(handlers))
        port = _listen(server, credentials)
        await server.start()
        return server, port

    async def stop(server: Any) -> None:
        await server.stop(None)
        # a plain function that aborts waits, in its thread, for the loop: who stops the loop first leaves it there for ever
        await asyncio.to_thread(pool.shutdown)

    try:
        aio_server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        try:
            yield Probe(notes, port)
        finally:
            notes.release.set()
            asyncio.run_coroutine_threadsafe(stop(aio_server), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
