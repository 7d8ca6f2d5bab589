"""An identity from a SPIFFE Workload API (SPIRE's agent, ``meshlib ca serve``): FetchX509SVID, followed as long as the mesh
lives. What it has told last stays in use while it is away."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.identity import grpc_process
from meshlib.identity.errors import BadCredentials
from meshlib.identity.told import Told
from meshlib.identity.workload_svid import chosen
from meshlib.policy import reconnect
from meshlib.policy.workload_endpoint import EXAMPLES, VARIABLE, target_of
from meshlib.security.workload_messages import FETCH_SVID, HEADER, SERVICE, read_svids

if TYPE_CHECKING:
    import grpc

    from meshlib.alarms import Alarm, Alarms
    from meshlib.clock import Clock
    from meshlib.identity.source import Publish, Report

log = logging.getLogger("meshlib.identity")

SILENCE = 10.0
"""Seconds that a server may take to tell the first certificate of a connection; then another one is made."""
PATIENCE = 2.0
"""Seconds that ``start`` waits for a server that has not said anything yet, of the machine's time."""
KEEPALIVE_MS = 360_000
"""Between pings. Servers of grpc-go, as SPIRE's agent, break off at more than one in five minutes."""

FATAL = "INVALID_ARGUMENT"
"""After which the specification forbids to ask again."""
_ADVICE = {
    "PERMISSION_DENIED": "it has no identity for this process: register the workload (its user, path or pod) there",
    FATAL: "it does not accept what a Workload API is asked; it is not asked again",
    "UNAVAILABLE": "is it running, and may this process open its socket?",
    "UNIMPLEMENTED": "it is not a Workload API for X.509",
}


def endpoint(socket: str | None, environ: Mapping[str, str]) -> str:
    """gRPC's target for ``socket``, or what the environment says. Raises ``BadCredentials``."""
    uri, where = (socket, "the socket") if socket is not None else (environ.get(VARIABLE, ""), VARIABLE)
    if not uri:
        raise BadCredentials(f"{where} is not set: there is no Workload API to ask; {EXAMPLES}")
    try:
        return target_of(uri)
    except ValueError as error:
        raise BadCredentials(f"{where} is not a valid SPIFFE Workload Endpoint: {uri!r} {error}; {EXAMPLES}") from None


class WorkloadApiSource:
    """A thread reads the stream; alarms of the mesh make the next connection after one is lost. ``hint``: which of several
    certificates is ours; the first one when it is empty."""

    __slots__ = (
        "_alarm",
        "_alarms",
        "_began",
        "_environ",
        "_failures",
        "_hint",
        "_lock",
        "_patience",
        "_rng",
        "_run",
        "_running",
        "_target",
        "_told",
        "_wall",
    )

    def __init__(
        self,
        socket: str | None = None,
        *,
        hint: str = "",
        environ: Mapping[str, str] = os.environ,
        rng: random.Random | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._target = endpoint(socket, environ)
        self._hint = hint
        self._patience = patience
        self._rng = rng or random.Random()
        self._lock = threading.RLock()
        self._running = False
        self._failures = 0
        self._run: _Run | None = None
        self._alarm: Alarm | None = None
        self._told: Told | None = None

    @property
    def what(self) -> str:
        """For people."""
        return f"the Workload API at {self._target}"

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        """Raises ``BadCredentials`` without grpcio; nothing for a server that is not there yet."""
        grpc_process.library()
        self._wall = clock.time
        self._alarms = alarms
        self._began = threading.Event()
        with self._lock:
            self._told = Told(publish, report)
            self._running = True
        self._connect()
        self._began.wait(self._patience)

    def look(self) -> None:
        """The server tells by itself."""

    def close(self) -> None:
        """Break off; the thread ends with the stream."""
        with self._lock:
            self._running = False
            run, self._run = self._run, None
            alarm, self._alarm = self._alarm, None
            if self._told is not None:
                self._told.stop()
        if alarm is not None:
            alarm.cancel()
        if run is not None:
            run.stop()

    def after_fork(self) -> None:
        """Begin anew where grpcio can; else keep what there is, and say that it will not be renewed here."""
        self._lock = threading.RLock()
        run, self._run, self._alarm = self._run, None, None
        if run is not None:
            grpc_process.keep(run)
        if self._told is None or not self._running:
            return
        self._told.after_fork()
        self._failures = 0
        if grpc_process.may_be_used():
            grpc_process.once_settled(self._connect_soon)
        else:
            self._told.failed(f"{self.what} is not followed here: {grpc_process.FORKED}", "forked")

    def _connect_soon(self) -> None:
        self._alarm = self._alarms.after(0, self._connect)

    # -- a connection -----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        with self._lock:
            self._alarm = None
            if not self._running:
                return
            if not grpc_process.may_be_used():
                assert self._told is not None
                self._told.failed(f"{self.what} is not followed here: {grpc_process.FORKED}", "forked")
                self._began.set()
                return
            self._run = run = _Run(self._target)
            run.silence = self._alarms.after(SILENCE, run.too_slow)
        threading.Thread(target=self._follow, args=(run,), name="meshlib-workload-api", daemon=True).start()

    def _follow(self, run: _Run) -> None:
        """In a thread of its own, until the stream ends."""
        library, kind = grpc_process.library(), "ended"
        try:
            for raw in run.call:
                self._take(run, raw)
            problem = f"{self.what} has ended the stream"
        except NotUsed as error:
            kind = str(error)
            problem = f"{self.what} has sent what is not used: {error}"
        except library.RpcError as error:
            code, text = grpc_process.said(error)
            problem, kind = self._lost(run, code, text), "slow" if run.was_slow else code
        except Exception as error:  # whatever it is, the next connection is to be made
            kind = type(error).__name__
            log.warning("what was not expected of %s", self.what, exc_info=True)
            problem = f"{self.what} cannot be followed ({kind})"
        finally:
            run.stop()
        with self._lock:
            if run is not self._run or not self._running or self._told is None:
                return
            self._failures += 1
            self._told.failed(problem, kind)
            if kind != FATAL:
                self._alarm = self._alarms.after(reconnect.delay(self._failures, self._rng), self._connect)
            self._began.set()

    def _take(self, run: _Run, raw: bytes) -> None:
        """A response: published when it is good. Raises ``NotUsed``, on which it is asked for again: it may be one that is not
        valid yet."""
        run.has_told()
        told = self._told
        if run is not self._run or told is None:
            return
        try:
            svid, bundles = chosen(read_svids(raw), self._hint, self._wall())
        except ValueError as error:
            raise NotUsed(str(error)) from None
        self._failures = 0
        told.good(svid, bundles)
        self._began.set()

    def _lost(self, run: _Run, code: str, text: str) -> str:
        if run.was_slow:
            return f"{self.what} has sent nothing for {SILENCE:.0f} s"
        advice = _ADVICE.get(code, "")
        said = f"{code}: {text}" if text else code
        return f"{self.what} gives no certificate ({said}){f': {advice}' if advice else ''}"

    def __repr__(self) -> str:
        return f"<WorkloadApiSource {self._target}>"


class NotUsed(Exception):
    """What a server has sent may not be used."""


class _Run:
    """One connection and the stream on it."""

    __slots__ = ("call", "channel", "silence", "was_slow")

    def __init__(self, target: str) -> None:
        library = grpc_process.library()
        self.silence: Alarm | None = None
        self.was_slow = False
        options = [
            *grpc_process.OPTIONS,
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.default_authority", "localhost"),
        ]
        self.channel: grpc.Channel = library.insecure_channel(target, options)
        grpc_process.used()
        method = self.channel.unary_stream(f"/{SERVICE}/{FETCH_SVID}", None, None)
        self.call = method(b"", metadata=(HEADER,))

    def has_told(self) -> None:
        """The first response of the connection is there."""
        silence, self.silence = self.silence, None
        if silence is not None:
            silence.cancel()

    def too_slow(self) -> None:
        """By an alarm, unless it has told something."""
        if self.silence is not None:
            self.was_slow = True
            self.call.cancel()

    def stop(self) -> None:
        """The thread that reads is woken."""
        self.has_told()
        self.call.cancel()
        self.channel.close()
