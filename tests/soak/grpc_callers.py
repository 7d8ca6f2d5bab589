"""gRPC callers: the four kinds of calls, in threads (blocking, futures, streams) and on asyncio."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from tests.soak.callers import PATIENCE, Stop
from tests.soak.history import Ledger
from tests.soak.plans import Planner, drawn
from tests.soak.response import answer_in, step

HOSTS = {"grpc.test": 3, "grpconce.test": 2}
KINDS = {"unary": 5, "future": 2, "collect": 2, "expand": 3, "chat": 3}
WISHES = {"": 80, "cancel": 6, "timeout": 3, "abandon": 4, "drop": 2, "UNAVAILABLE": 4}
STREAMS = ("expand", "chat")


class Rpc:
    """One gRPC call."""

    def __init__(self, planner: Planner, *, plain: bool = False, host: str = "", kind: str = "") -> None:
        rng = planner.random
        self.id = planner.name()
        self.host = host or drawn(rng, HOSTS)
        self.kind = kind or drawn(rng, KINDS)
        self.asked = "" if plain else drawn(rng, WISHES)
        if self.asked in ("abandon", "drop") and self.kind not in STREAMS:
            self.asked = "cancel"
        self.count = rng.choice((1, 5, 20)) if self.asked not in ("abandon", "drop") else 20
        self.patience = rng.choice((0.0, 0.0005, 0.002, 0.01, 0.05))
        fault = self.asked if self.asked == "UNAVAILABLE" else rng.choice(("", "", "", "slow", "trickle"))
        self.metadata = [("x-soak-id", self.id), ("x-soak-host", f"{self.host}:80")]
        if fault and not plain:
            self.metadata.append(("x-soak-fault", fault))
        self.timeout = max(self.patience, 0.0005) if self.asked == "timeout" else PATIENCE
        self.messages = [b"%s %d" % (self.id.encode(), n) for n in range(self.count)]
        self.request = b"%s %d" % (self.id.encode(), self.count)

    @property
    def options(self) -> dict[str, Any]:
        return {"timeout": self.timeout, "metadata": self.metadata}

    def whole(self, answer: bytes) -> dict[str, Any]:
        """What an ending says of a single answer."""
        received = b"".join(self.messages) if self.kind == "collect" else self.request
        return {"status": 200, "answer": answer_in(self.id, answer, received, 0)}

    def steps(self, answers: list[bytes]) -> dict[str, Any]:
        """What an ending says of a stream's answers, all or the first few."""
        wanted = [step(self.id.encode(), n) for n in range(len(answers))]
        ok = answers == wanted
        return {"status": 200, "answer": self.id if ok else f"other messages: {answers[:3]!r} of {len(answers)}"}

    def all_steps(self, answers: list[bytes]) -> dict[str, Any]:
        found = self.steps(answers)
        if len(answers) != self.count:
            found["answer"] = f"{len(answers)} messages of {self.count}"
        return found


class Stub:
    """The four methods over any channel."""

    def __init__(self, channel: Any) -> None:
        self.unary = channel.unary_unary("/soak.Soak/Unary")
        self.collect = channel.stream_unary("/soak.Soak/Collect")
        self.expand = channel.unary_stream("/soak.Soak/Expand")
        self.chat = channel.stream_stream("/soak.Soak/Chat")


def of_error(error: BaseException, stage: str) -> dict[str, Any]:
    exchange = getattr(error, "exchange", None)
    code = error.code() if isinstance(error, grpc.RpcError) else None  # type: ignore[attr-defined]
    return {
        "error": code.name if code is not None else type(error).__name__,
        "text": (str(error.details()) if code is not None else str(error))[:300],  # type: ignore[attr-defined]
        "endpoint": getattr(exchange, "endpoint", "") or "",
        "flags": getattr(exchange, "flags", "") or "",
        "stage": stage,
    }


def ending_of(error: BaseException, rpc: Rpc) -> str:
    """A cancellation that the caller asked for, or a failure."""
    if rpc.asked == "cancel":
        if isinstance(error, (grpc.FutureCancelledError, asyncio.CancelledError)):
            return "cancelled"
        if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.CANCELLED:  # type: ignore[attr-defined]
            return "cancelled"
    return "failed"


# -- threads --------------------------------------------------------------------------------------------------------------


def call(ledger: Ledger, stub: Stub, rpc: Rpc, stop: Stop, runtime: str = "grpc threads") -> None:
    """One call, to its end."""
    ledger.begin(rpc.id, runtime, rpc.kind, rpc.host, rpc.asked)
    answers: list[bytes] = []
    try:
        ending, found = _call(stub, rpc, stop, answers)
    except BaseException as error:
        ledger.end(rpc.id, ending_of(error, rpc), **of_error(error, "body" if answers else ""))
        if not isinstance(error, Exception):
            raise
    else:
        ledger.end(rpc.id, ending, **found)


def _call(stub: Stub, rpc: Rpc, stop: Stop, answers: list[bytes]) -> tuple[str, dict[str, Any]]:
    if rpc.kind in STREAMS:
        stream = (
            stub.expand(rpc.request, **rpc.options)
            if rpc.kind == "expand"
            else stub.chat(iter(rpc.messages), **rpc.options)
        )
        if rpc.asked == "cancel":
            stop.wait(rpc.patience)
            stream.cancel()
        for message in stream:
            answers.append(message)
            if rpc.asked in ("abandon", "drop"):
                if rpc.asked == "abandon":
                    stream.cancel()
                return "partial", rpc.steps(answers)
        return "answered", rpc.all_steps(answers)
    if rpc.kind == "unary" and rpc.asked != "cancel":
        return "answered", rpc.whole(stub.unary(rpc.request, **rpc.options))
    if rpc.kind == "collect" and rpc.asked != "cancel":
        return "answered", rpc.whole(stub.collect(iter(rpc.messages), **rpc.options))
    future = (
        stub.collect.future(iter(rpc.messages), **rpc.options)
        if rpc.kind == "collect"
        else stub.unary.future(rpc.request, **rpc.options)
    )
    if rpc.asked == "cancel":
        stop.wait(rpc.patience)
        future.cancel()
    return "answered", rpc.whole(future.result())


def threads_worker(mesh: Any, ledger: Ledger, planner: Planner, stop: Stop) -> None:
    rng = planner.random
    while not stop.now:
        with mesh.grpc_channel("grpc.test:80") as retried, mesh.grpc_channel("grpconce.test:80") as once:
            stubs = {"grpc.test": Stub(retried), "grpconce.test": Stub(once)}
            for _ in range(200):
                if stop.now:
                    break
                rpc = Rpc(planner)
                call(ledger, stubs[rpc.host], rpc, stop)
                stop.wait(rng.random() * 0.1)


# -- asyncio --------------------------------------------------------------------------------------------------------------


async def call_async(ledger: Ledger, stub: Stub, rpc: Rpc, rng: random.Random, runtime: str) -> None:
    """One call, to its end."""
    ledger.begin(rpc.id, runtime, rpc.kind, rpc.host, rpc.asked)
    answers: list[bytes] = []
    task = asyncio.ensure_future(_call_async(stub, rpc, answers, rng.random() < 0.5))
    try:
        if rpc.asked == "cancel":
            await asyncio.wait({task}, timeout=rpc.patience)
            task.cancel()
        ending, found = await task
    except BaseException as error:
        ledger.end(rpc.id, ending_of(error, rpc), **of_error(error, "body" if answers else ""))
        current = asyncio.current_task()
        if not isinstance(error, Exception) and (current is None or current.cancelling()):
            raise
    else:
        ledger.end(rpc.id, ending, **found)


async def _call_async(stub: Stub, rpc: Rpc, answers: list[bytes], by_reading: bool) -> tuple[str, dict[str, Any]]:
    async def messages() -> AsyncIterator[bytes]:
        for message in rpc.messages:
            yield message

    def source() -> AsyncIterator[bytes] | Iterator[bytes]:
        return iter(rpc.messages) if by_reading else messages()

    if rpc.kind in ("unary", "future"):
        return "answered", rpc.whole(await stub.unary(rpc.request, **rpc.options))
    if rpc.kind == "collect":
        return "answered", rpc.whole(await stub.collect(source(), **rpc.options))
    stream = stub.expand(rpc.request, **rpc.options) if rpc.kind == "expand" else stub.chat(source(), **rpc.options)
    if by_reading:
        while (message := await stream.read()) is not grpc.aio.EOF:
            answers.append(message)
            if rpc.asked in ("abandon", "drop"):
                break
    else:
        async for message in stream:
            answers.append(message)
            if rpc.asked in ("abandon", "drop"):
                break
    if rpc.asked == "abandon":
        stream.cancel()
    if rpc.asked in ("abandon", "drop"):
        return "partial", rpc.steps(answers)
    return "answered", rpc.all_steps(answers)


async def loop_worker(mesh: Any, ledger: Ledger, planner: Planner, stop: Stop, runtime: str) -> None:
    rng = planner.random
    while not stop.now:
        async with mesh.aio_grpc_channel("grpc.test:80") as retried, mesh.aio_grpc_channel("grpconce.test:80") as once:
            stubs = {"grpc.test": Stub(retried), "grpconce.test": Stub(once)}
            for _ in range(200):
                if stop.now:
                    break
                rpc = Rpc(planner)
                await call_async(ledger, stubs[rpc.host], rpc, rng, runtime)
                await asyncio.sleep(rng.random() * 0.2)


async def brief_loop(mesh: Any, ledger: Ledger, planner: Planner) -> None:
    """A loop that makes some calls and ends."""
    async with mesh.aio_grpc_channel("grpc.test:80") as channel:
        stub = Stub(channel)
        await asyncio.gather(
            *[
                call_async(ledger, stub, Rpc(planner, host="grpc.test"), planner.random, "grpc brief loops")
                for _ in range(3)
            ]
        )


def in_child(mesh: Any, ledger: Ledger, planner: Planner, stop: Stop) -> None:
    """In a forked child, without grpcio's fork support: a call is told at once that it cannot be made."""
    with mesh.grpc_channel("grpconce.test:80") as channel:
        rpc = Rpc(planner, plain=True, host="grpconce.test", kind="unary")
        rpc.asked = "fork"
        call(ledger, Stub(channel), rpc, stop, "grpc forked")
