"""gRPC calls through a mesh, the same for threads, futures and asyncio: one specification for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import grpc

import meshlib
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.resources import destination_rule, to, virtual_service

HOST = "echo.test"
TARGET = "echo.test:9080"
Rule = dict[str, Any]


def entry(*addresses: tuple[str, int, str], host: str = HOST, **spec: Any) -> dict[str, Any]:
    """A ServiceEntry for (address, port, version) endpoints."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": host, "namespace": "default"},
        "spec": {
            "hosts": [host],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 9080, "name": "grpc", "protocol": "GRPC"}],
            "endpoints": [
                {"address": address, "ports": {"grpc": port}, "labels": {"version": version}}
                for address, port, version in addresses
            ],
            **spec,
        },
    }


def resources(*servers: EchoServer | int, rules: Iterable[Rule] = (), policy: Any = None) -> list[dict[str, Any]]:
    """A service of these servers (a number: a port), a subset each named as the server, and rules (default: all of them)."""
    found = [("127.0.0.1", s, f"p{s}") if isinstance(s, int) else ("127.0.0.1", s.port, s.name) for s in servers]
    return [
        entry(*found),
        destination_rule(HOST, *[name for _, _, name in found], **(policy or {})),
        virtual_service("echo", *(list(rules) or [{"route": [to(HOST)]}]), hosts=[HOST]),
    ]


def mesh_of(
    *servers: EchoServer | int, rules: Iterable[Rule] = (), policy: Any = None, more: Iterable[Any] = (), **kwargs: Any
) -> meshlib.Mesh:
    """A mesh with that service."""
    return meshlib.Mesh.from_resources([*resources(*servers, rules=rules, policy=policy), *more], **kwargs)


def quick(retry_on: str, attempts: int = 3, **more: Any) -> dict[str, Any]:
    """A retry policy that does not wait long."""
    return {"attempts": attempts, "retryOn": retry_on, "backoff": "1ms", **more}


class Threads:
    """Blocking calls, each in a thread of its own so that tests can be written once."""

    name = "threads"

    def __init__(self, mesh: meshlib.Mesh, target: str = TARGET, **kwargs: Any) -> None:
        self.channel = mesh.grpc_channel(target, **kwargs)
        self.stub = stubs.EchoStub(self.channel)

    async def unary(self, text: str = "", **kwargs: Any) -> Any:
        message = kwargs.pop("message", None) or Message(text=text)
        return await asyncio.to_thread(self._unary, message, **kwargs)

    def _unary(self, message: Any, **kwargs: Any) -> Any:
        return self.stub.Unary(message, **kwargs)

    async def with_call(self, text: str = "", **kwargs: Any) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
        """Answer, initial and trailing metadata, and the mesh's exchange."""
        answer, call = await asyncio.to_thread(self.stub.Unary.with_call, Message(text=text), **kwargs)
        return answer, dict(iter(call.initial_metadata())), dict(iter(call.trailing_metadata())), call.exchange

    async def expand(self, count: int, text: str = "", **kwargs: Any) -> list[str]:
        return await asyncio.to_thread(
            lambda: [m.text for m in self.stub.Expand(Message(text=text, count=count), **kwargs)]
        )

    async def collect(self, *texts: str, **kwargs: Any) -> str:
        return (await asyncio.to_thread(self.stub.Collect, iter([Message(text=t) for t in texts]), **kwargs)).text

    async def chat(self, *texts: str, **kwargs: Any) -> list[str]:
        return await asyncio.to_thread(
            lambda: [m.text for m in self.stub.Chat(iter([Message(text=t) for t in texts]), **kwargs)]
        )

    async def server(self, kind: str = "unary", **kwargs: Any) -> str:
        """Which server answers."""
        return await asyncio.to_thread(self._server, kind, kwargs)

    def _server(self, kind: str, kwargs: Any) -> str:
        if kind == "unary":
            return self._unary(Message(), **kwargs).server
        if kind == "expand":
            return next(iter(self.stub.Expand(Message(count=1), **kwargs))).server
        if kind == "collect":
            return self.stub.Collect(iter([Message()]), **kwargs).server
        return next(iter(self.stub.Chat(iter([Message()]), **kwargs))).server

    async def close(self) -> None:
        self.channel.close()


class Futures(Threads):
    """The same with ``future()`` where there is one."""

    name = "futures"

    def _unary(self, message: Any, **kwargs: Any) -> Any:
        return self.stub.Unary.future(message, **kwargs).result(60)

    async def with_call(self, text: str = "", **kwargs: Any) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
        call = self.stub.Unary.future(Message(text=text), **kwargs)
        answer = await asyncio.to_thread(call.result, 10)
        return answer, dict(iter(call.initial_metadata())), dict(iter(call.trailing_metadata())), call.exchange

    async def collect(self, *texts: str, **kwargs: Any) -> str:
        call = self.stub.Collect.future(iter([Message(text=t) for t in texts]), **kwargs)
        return (await asyncio.to_thread(call.result, 10)).text


class Asyncio:
    """grpc.aio."""

    name = "asyncio"

    def __init__(self, mesh: meshlib.Mesh, target: str = TARGET, **kwargs: Any) -> None:
        self.channel = mesh.aio_grpc_channel(target, **kwargs)
        self.stub = stubs.EchoStub(self.channel)

    async def unary(self, text: str = "", **kwargs: Any) -> Any:
        return await self.stub.Unary(kwargs.pop("message", None) or Message(text=text), **kwargs)

    async def with_call(self, text: str = "", **kwargs: Any) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
        call = self.stub.Unary(Message(text=text), **kwargs)
        return (
            await call,
            dict(iter(await call.initial_metadata())),
            dict(iter(await call.trailing_metadata())),
            call.exchange,
        )

    async def expand(self, count: int, text: str = "", **kwargs: Any) -> list[str]:
        return [m.text async for m in self.stub.Expand(Message(text=text, count=count), **kwargs)]

    async def collect(self, *texts: str, **kwargs: Any) -> str:
        return (await self.stub.Collect(iter([Message(text=t) for t in texts]), **kwargs)).text

    async def chat(self, *texts: str, **kwargs: Any) -> list[str]:
        return [m.text async for m in self.stub.Chat(_slowly([Message(text=t) for t in texts]), **kwargs)]

    async def server(self, kind: str = "unary", **kwargs: Any) -> str:
        if kind == "unary":
            return (await self.stub.Unary(Message(), **kwargs)).server
        if kind == "expand":
            return (await anext(aiter(self.stub.Expand(Message(count=1), **kwargs)))).server
        if kind == "collect":
            return (await self.stub.Collect(iter([Message()]), **kwargs)).server
        return (await anext(aiter(self.stub.Chat(iter([Message()]), **kwargs)))).server

    async def close(self) -> None:
        await self.channel.close()


async def _slowly(messages: list[Any]) -> AsyncIterator[Any]:
    for message in messages:
        await asyncio.sleep(0)
        yield message


RUNTIMES = (Threads, Futures, Asyncio)
KINDS = ("unary", "expand", "collect", "chat")


async def by_kind(runtime: Any, kind: str, **kwargs: Any) -> Any:
    """A call of any kind, with two messages where there are several."""
    if kind == "unary":
        return (await runtime.unary("ab", **kwargs)).text
    if kind == "expand":
        return await runtime.expand(2, "x", **kwargs)
    if kind == "collect":
        return await runtime.collect("a", "b", **kwargs)
    return await runtime.chat("a", "b", **kwargs)


ANSWERS = {"unary": "ab", "expand": ["x0", "x1"], "collect": "ab", "chat": ["a", "b"]}


async def refused(awaitable: Any) -> grpc.RpcError:
    """The error of a call that fails."""
    try:
        answer = await asyncio.wait_for(awaitable, 60)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"expected an RpcError, got {answer!r}")


TIMEOUTS = ("0.7s", "5s", "50s")
"""Of a stream that is to have a message before it is over: the first in which one comes, on a machine however busy."""


async def messages_until_it_is_over(runtime: Any) -> tuple[int, grpc.RpcError]:
    """How many messages a stream that is never ended by its caller has brought, and its error."""
    count, over = 0, asyncio.Event()
    if runtime.name == "asyncio":

        async def asked() -> AsyncIterator[Message]:
            yield Message(text="a")
            await over.wait()

        call = runtime.stub.Chat(asked())

        async def read_on() -> None:
            nonlocal count
            while await call.read() is not grpc.aio.EOF:
                count += 1

        error = await refused(read_on())
        over.set()
    else:
        hold = threading.Event()

        def said() -> Iterator[Message]:
            yield Message(text="a")
            hold.wait(60)

        responses = runtime.stub.Chat(said())

        def take_all() -> None:
            nonlocal count
            for _ in responses:
                count += 1

        error = await refused(asyncio.to_thread(take_all))
        hold.set()
    return count, error


async def soon(condition: Any, seconds: float = 60.0) -> bool:
    """Wait for what goes on beside the test, on its loop too; False when it did not come."""
    for _ in range(int(seconds * 100)):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


def active(mesh):
    return sum(c["active"] for c in mesh.status()["clusters"])
