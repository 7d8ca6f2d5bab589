"""A Workload API that says what the test tells it, over real gRPC, and one that hears what a source publishes and reports."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from types import TracebackType
from typing import Self

import grpc

from meshlib.alarms import Alarms
from meshlib.identity.source import CredentialSource
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.support.fake_clock import FakeClock

LONG = 30.0
"""Seconds that an event may take on a busy machine."""


class Refuse(Exception):
    """End the stream so."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(code, details)
        self.code, self.details = code, details


class Scripted:
    """Each call of FetchX509SVID reads the same queue: bytes are sent, ``Refuse`` ends the stream, ``END`` too (with OK)."""

    END = object()

    def __init__(self, path: str | None = None) -> None:
        self.path = path or f"{tempfile.mkdtemp(prefix='wl')}/agent.sock"
        self.uri = f"unix://{self.path}"
        self.says: queue.Queue[object] = queue.Queue()
        self.calls: queue.Queue[dict[str, str]] = queue.Queue()
        self._gone = threading.Event()
        self._newest = object()
        self._server: grpc.Server | None = None

    def start(self) -> Self:
        self._gone.clear()
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_stream_rpc_method_handler(self._fetch)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": handler}),)
        )
        server.add_insecure_port(f"unix:{self.path}")
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        self._gone.set()
        self.says.put(None)
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait(60)
        while not self.says.empty():
            self.says.get()

    def _fetch(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._newest = mine = object()
        self.calls.put(dict(context.invocation_metadata()))
        while not self._gone.is_set() and context.is_active():
            try:
                said = self.says.get(timeout=0.05)
            except queue.Empty:
                continue
            if self._newest is not mine:
                self.says.put(said)  # for the call that has come meanwhile
                return
            if isinstance(said, Refuse):
                context.abort(said.code, said.details)
            if said is self.END or said is None:
                return
            assert isinstance(said, bytes)
            yield said

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()


class Listener:
    """Starts a source on a clock that is moved by hand, and waits for what it tells."""

    def __init__(self, source: CredentialSource, clock: Jumping) -> None:
        self.clock = clock
        self.alarms = Alarms(self.clock)
        self.source = source
        self.published: queue.Queue[tuple[Svid, TrustBundles]] = queue.Queue()
        self.said: list[str] = []
        self._changed = threading.Condition()

    def start(self) -> Self:
        self.source.start(
            lambda svid, bundles: self.published.put((svid, bundles)), self._report, self.clock, self.alarms
        )
        return self

    def _report(self, problem: str) -> None:
        with self._changed:
            if not self.said or self.said[-1] != problem:
                self.said.append(problem)
            self._changed.notify_all()

    def rest(self, seconds: float) -> None:
        """Let other threads go on."""
        threading.Event().wait(seconds)

    @property
    def problem(self) -> str:
        return self.said[-1] if self.said else ""

    def next(self) -> tuple[Svid, TrustBundles]:
        """What is published next."""
        return self.published.get(timeout=LONG)

    def asks_again(self, server: Scripted, raw: bytes) -> tuple[Svid, TrustBundles]:
        """What is published once the source has asked again, as the clock goes on, and was told ``raw``. A retry may be set at
        any moment, so the clock goes on bit by bit."""
        while not server.calls.empty():
            server.calls.get()
        for _ in range(round(LONG / 0.02)):
            try:
                server.calls.get(timeout=0.02)
            except queue.Empty:
                self.clock.advance(0.5)
            else:
                server.says.put(raw)
                return self.next()
        raise AssertionError(f"it does not ask again: {self.said}")

    def hears(self, part: str) -> str:
        """Wait until what is wrong has this in it (one of several, apart by ``|``)."""
        parts = part.split("|")
        with self._changed:
            found = self._changed.wait_for(lambda: any(each in self.problem for each in parts), LONG)
            assert found, f"{part!r} is not in {self.said}"
            return self.problem

    def hears_that_all_is_well(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self.problem, LONG), self.said

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.source.close()
        self.alarms.close()


class Jumping(FakeClock):
    """Its wall clock jumps by itself, as one that is set."""

    jumped = 0.0

    def time(self) -> float:
        return super().time() + self.jumped


def clock_at(now: float) -> Jumping:
    """One whose wall clock says ``now``."""
    return Jumping(now - 1_700_000_000.0)
