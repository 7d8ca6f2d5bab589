"""What an upstream is to do with its requests, one after another, and what it has got."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

PATIENCE: Final = 30.0
"""Seconds of the machine's time that a test waits for requests that do not come, before it is told so."""


@dataclass(frozen=True, slots=True)
class Request:
    """What has arrived. ``path`` has the query; of gRPC it is ``/package.Service/Method``, and ``messages`` are its serialized
    requests. ``abandoned``: the response would have come later than the caller waits, so that nobody sent a body."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    messages: tuple[bytes, ...] = ()
    abandoned: bool = False

    def header(self, name: str) -> str | None:
        """The value of a header, repeated ones joined with ", "; None without."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    def json(self) -> object:
        """The body, read as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:  # headers and bodies may have secrets
        return f"<Request {self.method} {self.path}{' abandoned' if self.abandoned else ''}>"


class Gate:
    """Holds responses until ``open()``. ``waiting`` is how many it holds."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._futures: list[asyncio.Future[None]] = []
        self.waiting = 0

    def open(self) -> None:
        """Let through whoever waits, and whoever comes."""
        with self._changed:
            self._open = True
            futures, self._futures = self._futures, []
            self._changed.notify_all()
        for future in futures:
            wake_from_anywhere(future)

    def hold(self) -> None:
        """Block this thread until it is open."""
        with self._changed:
            self.waiting += 1
            try:
                while not self._open:
                    self._changed.wait()
            finally:
                self.waiting -= 1

    async def hold_async(self) -> None:
        """The same for a task."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._open:
                return
            self._futures.append(future)
            self.waiting += 1
        try:
            await future
        finally:
            with self._changed:
                self.waiting -= 1


def wake_from_anywhere(future: asyncio.Future[None]) -> None:
    """End the wait for a future of whichever loop."""

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    with contextlib.suppress(RuntimeError):  # its loop was closed
        future.get_loop().call_soon_threadsafe(wake)


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with one request. ``delay``: seconds, by the clock of the mesh that calls. ``breaks``: "" or how the
    connection ends, "reset" or "close", ``after`` so many bytes of the response's body (None: before it begins)."""

    delay: float = 0.0
    gate: Gate | None = None
    breaks: str = ""
    after: int | None = None


S = TypeVar("S", bound=Step)


class Script(Generic[S]):
    """Steps in their order; ``default`` when there are none left. A step may be reserved for a request that is to come with a
    token, so that whoever sends it knows its delay."""

    def __init__(self, default: S) -> None:
        self.default = default
        self._steps: deque[S] = deque()
        self._reserved: dict[str, S] = {}
        self._tokens = itertools.count(1)
        self._changed = threading.Condition()
        self._futures: list[asyncio.Future[None]] = []
        self.requests: list[Request] = []

    def add(self, step: S, times: int = 1) -> None:
        """At the end."""
        with self._changed:
            self._steps.extend([step] * times)

    @property
    def left(self) -> int:
        """Steps that no request has come for yet."""
        return len(self._steps)

    def reserve(self) -> tuple[str, S]:
        """For a request that is about to be sent."""
        with self._changed:
            token, step = str(next(self._tokens)), self._steps.popleft() if self._steps else self.default
            self._reserved[token] = step
            return token, step

    def put_back(self, token: str) -> None:
        """The request did not come after all: the next one gets its step."""
        with self._changed:
            step = self._reserved.pop(token, None)
            if step is not None and step is not self.default:
                self._steps.appendleft(step)

    def take(self, token: str) -> tuple[S, bool]:
        """The step of a request that has arrived, and whether it was reserved."""
        with self._changed:
            step = self._reserved.pop(token, None) if token else None
            if step is not None:
                return step, True
            return self._steps.popleft() if self._steps else self.default, False

    def record(self, request: Request) -> None:
        """It has arrived."""
        with self._changed:
            self.requests.append(request)
            futures, self._futures = self._futures, []
            self._changed.notify_all()
        for future in futures:
            wake_from_anywhere(future)

    def until(self, count: int, seconds: float) -> None:
        """Block until so many requests have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(self._too_few(count, seconds))

    async def until_async(self, count: int, seconds: float) -> None:
        """The same for a task."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with self._changed:
                        if len(self.requests) >= count:
                            return
                        future = asyncio.get_running_loop().create_future()
                        self._futures.append(future)
                    await future
        except TimeoutError:
            raise TimeoutError(self._too_few(count, seconds)) from None

    def _too_few(self, count: int, seconds: float) -> str:
        return f"{len(self.requests)} of {count} requests have arrived in {seconds:g} s: {self.requests}"
