"""HTTP callers: in threads and on event loops. Each call is written down when it begins and when it has ended, whichever way.

Only exceptions of the mesh and of httpx are taken for endings; whatever else a call raises is written down as such, and the
referee excuses none of it.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import httpx

import meshlib
from tests.soak.history import Ledger
from tests.soak.plans import Plan, Planner
from tests.soak.response import answer_in, id_in

PATIENCE = 60.0
"""Seconds that callers wait who are in no hurry: more than any server is down, on a busy machine too."""


def of_response(plan: Plan, response: httpx.Response) -> dict[str, Any]:
    """What an ending says of a response that was read whole."""
    record = response.extensions["mesh"]
    return {
        "status": response.status_code,
        "answer": agreed(response, answer_in(plan.id, response.content, plan.body, plan.size)),
        "endpoint": record.endpoint,
        "flags": record.flags,
    }


def agreed(response: httpx.Response, answer: str) -> str:
    """The id that head and body carry; "" for what the mesh itself has answered, which carries none."""
    head = response.headers.get("x-soak-id", "")
    if response.status_code != 200 and not head:
        return ""
    return answer if head == answer else f"{answer!r} with the head of {head!r}"


def of_piece(plan: Plan, response: httpx.Response, piece: bytes) -> dict[str, Any]:
    """What an ending says of a response of which ``piece`` was read."""
    answer = id_in(piece) if len(piece) > len(plan.id) else plan.id
    return {"status": response.status_code, "answer": agreed(response, answer)}


def of_error(error: BaseException, stage: str = "") -> dict[str, Any]:
    """What an ending says of an exception."""
    exchange = getattr(error, "exchange", None)
    return {
        "error": type(error).__name__,
        "text": str(error)[:300],
        "endpoint": getattr(exchange, "endpoint", "") or "",
        "flags": getattr(exchange, "flags", "") or "",
        "stage": stage,
    }


class Stage:
    """How far a call has come."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = ""


def call(ledger: Ledger, client: httpx.Client, plan: Plan, runtime: str) -> None:
    """One call of a blocking client, to its end."""
    ledger.begin(plan.id, runtime, plan.method, plan.host, plan.asked)
    stage = Stage()
    try:
        ending, found = _call(client, plan, stage)
    except BaseException as error:
        ledger.end(plan.id, "failed", **of_error(error, stage.now))
        if not isinstance(error, Exception):
            raise
    else:
        ledger.end(plan.id, ending, **found)


def _call(client: httpx.Client, plan: Plan, stage: Stage) -> tuple[str, dict[str, Any]]:
    timeout = plan.patience if plan.asked == "timeout" else PATIENCE
    request = client.build_request(plan.method, plan.url, headers=plan.headers, content=plan.content(), timeout=timeout)
    if plan.asked not in ("abandon", "drop"):
        response = client.send(request, stream=True)
        stage.now = "body"
        try:
            response.read()
        finally:
            response.close()
        return "answered", of_response(plan, response)
    response = client.send(request, stream=True)
    stage.now = "body"
    pieces = response.iter_raw()
    piece = next(pieces, b"")
    if plan.asked == "abandon":
        response.close()
    return "partial", of_piece(plan, response, piece)  # dropped: nobody closes it


async def call_async(ledger: Ledger, client: httpx.AsyncClient, plan: Plan, runtime: str) -> None:
    """One call of an asyncio client, to its end."""
    ledger.begin(plan.id, runtime, plan.method, plan.host, plan.asked)
    stage = Stage()
    task = asyncio.ensure_future(_call_async(client, plan, stage))
    try:
        if plan.asked == "cancel":
            await asyncio.wait({task}, timeout=plan.patience)
            task.cancel()
        ending, found = await task
    except asyncio.CancelledError as error:
        ledger.end(plan.id, "cancelled" if plan.asked == "cancel" else "failed", **of_error(error, stage.now))
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
    except BaseException as error:
        ledger.end(plan.id, "failed", **of_error(error, stage.now))
        if not isinstance(error, Exception):
            raise
    else:
        ledger.end(plan.id, ending, **found)


async def _call_async(client: httpx.AsyncClient, plan: Plan, stage: Stage) -> tuple[str, dict[str, Any]]:
    timeout = plan.patience if plan.asked == "timeout" else PATIENCE
    request = client.build_request(
        plan.method, plan.url, headers=plan.headers, content=plan.content_async(), timeout=timeout
    )
    response = await client.send(request, stream=True)
    stage.now = "body"
    if plan.asked not in ("abandon", "drop"):
        try:
            await response.aread()
        finally:
            await response.aclose()
        return "answered", of_response(plan, response)
    piece = await anext(response.aiter_raw(), b"")
    if plan.asked == "abandon":
        await response.aclose()
    return "partial", of_piece(plan, response, piece)  # dropped: nobody closes it


class Stop:
    """Callers go on until it is set."""

    def __init__(self) -> None:
        self.event = threading.Event()

    @property
    def now(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)


def threads_worker(mesh: meshlib.Mesh, ledger: Ledger, planner: Planner, stop: Stop, own: bool) -> None:
    """Calls of a thread: with ``mesh.client()``, or with an ``httpx.Client`` of its own over the mesh's transport."""
    rng = planner.random
    while not stop.now:
        client = httpx.Client(transport=mesh.http_transport(), trust_env=False) if own else mesh.client(trust_env=False)
        with client:
            for _ in range(300):  # now and then a new client
                if stop.now:
                    break
                call(ledger, client, planner.next(asynchronous=False), "threads")
                stop.wait(rng.random() * 0.05)


async def loop_worker(
    mesh: meshlib.Mesh, ledger: Ledger, planner: Planner, stop: Stop, own: bool, runtime: str
) -> None:
    """Calls of a task."""
    rng = planner.random
    while not stop.now:
        client = (
            httpx.AsyncClient(transport=mesh.async_http_transport(), trust_env=False)
            if own
            else mesh.async_client(trust_env=False)
        )
        async with client:
            for _ in range(300):
                if stop.now:
                    break
                await call_async(ledger, client, planner.next(asynchronous=True), runtime)
                await asyncio.sleep(rng.random() * 0.1)


async def brief_loop(mesh: meshlib.Mesh, ledger: Ledger, planner: Planner) -> None:
    """A loop that makes some calls, the last of them cut off, and ends."""
    async with mesh.async_client(trust_env=False) as client:
        await asyncio.gather(
            *[call_async(ledger, client, planner.next(asynchronous=True), "brief loops") for _ in range(6)]
        )


def in_child(mesh: meshlib.Mesh, client: httpx.Client, ledger: Ledger, planner: Planner) -> None:
    """What a forked child does: calls with the client it inherited, with one of its own, and on a loop."""
    gc.collect()
    for _ in range(4):
        call(ledger, client, planner.next(asynchronous=False), "forked")
    with mesh.client(trust_env=False) as own:
        for _ in range(4):
            call(ledger, own, planner.next(asynchronous=False), "forked")

    async def on_a_loop() -> None:
        async with mesh.async_client(trust_env=False) as there:
            await asyncio.gather(
                *[call_async(ledger, there, planner.next(asynchronous=True), "forked") for _ in range(4)]
            )

    asyncio.run(on_a_loop())


def until(condition: Any, seconds: float) -> bool:
    """Wait for something, a while."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
