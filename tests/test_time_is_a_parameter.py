"""The law of ``meshlib/clock.py``, for the whole package: who reads a clock, sets a timer or waits for so long, does it by the
mesh's Clock, or is named here with the reason why it is the machine's time."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import meshlib

PACKAGE = Path(meshlib.__file__).parent
PROGRAMS = ("demo", "bench")  # programs around the library, which play and measure in real time

NETWORK = "how long the network and the server may take: they do not go by our clock"
GRPCIO = "how long grpcio and its core may take: they do not go by our clock"
ELSEWHERE = "how often what others change in real time is looked at (files, names, Redis)"

ALLOWED: dict[tuple[str, str], str] = {
    ("engine/drivers.py", "runtime.wait"): "an effect: the runtime waits, by the mesh's Clock",
    ("engine/guard.py", "hedging.wait"): "no wait: it computes one",
    ("identity/workload_api.py", "self._began.wait"): NETWORK,
    ("identity/istiod.py", "self._began.wait"): NETWORK,
    ("sources/watcher.py", "self._thread.join"): "the end of a thread",
    (
        "envoy/ads.py",
        "self._over.wait",
    ): "looks now and then at whether a step takes too long, which it does by the mesh's Clock",
    ("envoy/ads.py", "self._server.stop(None).wait"): "how long gRPC's threads take to end",
    ("envoy/child.py", "process.wait"): "how long another process takes to end",
    ("sources/watcher.py", "self.stopping.wait"): ELSEWHERE,
    ("sources/watcher.py", "notified.wait"): ELSEWHERE,
    (
        "testing/clock.py",
        "SystemClock.time",
    ): "the wall-clock time that a fake clock begins at: certificates are made by it",
    (
        "telemetry/access_log/writer.py",
        "self._hurry.wait",
    ): "lines gather before they are written: no call waits for it",
    ("telemetry/span_queue.py", "self._wake.get"): "spans gather before they are sent: no call waits for it",
    ("telemetry/span_queue.py", "done.wait"): "how long a collector takes is bounded in real time",
    ("telemetry/access_log/writer.py", "self._gone.wait_for"): "how long a sink takes is bounded in real time",
    ("testing/clock.py", "self._changed.wait_for"): "how long a test waits for sleepers that do not come",
    ("testing/upstreams/script.py", "self._changed.wait_for"): "how long a test waits for requests that do not come",
    ("testing/upstreams/script.py", "asyncio.timeout"): "how long a test waits for requests that do not come",
    (
        "admin/endpoint.py",
        "ended.wait",
    ): "how soon after a fork a child begins another program is no matter of our clock",
    ("alarms.py", "changed.wait"): "how long an idle thread stays",
    ("alarms.py", "loop.call_later"): "only where the Clock is the machine's",
    ("transport/upstream/loop_pending.py", "loop.time"): NETWORK,
    ("proxy/dns_upstream.py", "asyncio.timeout"): NETWORK,
    ("proxy/dns_server.py", "asyncio.timeout"): NETWORK,
    ("proxy/forwarding.py", "means.loop.time"): NETWORK,
    ("proxy/http2_forwarding.py", "means.loop.time"): NETWORK,
    ("proxy/plain_forwarding.py", "means.loop.time"): NETWORK,
    ("proxy/means.py", "self.loop.time"): NETWORK,
    ("proxy/http2_downstream.py", "loop.time"): NETWORK,
    ("proxy/http2_downstream.py", "self.loop.time"): NETWORK,
    ("proxy/http2_downstream.py", "self.loop.call_later"): NETWORK,
    ("proxy/closing.py", "loop.call_later"): NETWORK,
    ("proxy/closing.py", "self._loop.call_later"): NETWORK,
    ("proxy/tunnel.py", "self._loop.call_later"): NETWORK,
    (
        "proxy/watchdog.py",
        "self._loop.call_later",
    ): "systemd goes by the machine's clock; it is the loop that has to turn",
    ("proxy/listener.py", "asyncio.wait_for"): "how long clients may take to end what is under way",
    (
        "proxy/listener.py",
        "self.forwarder.loop.call_later",
    ): "how often slow clients are looked for: who is one goes by the Clock",
    ("transport/runtimes/lateness.py", "self._loop.time"): "how late a loop runs is told by the loop's own time",
    ("transport/runtimes/lateness.py", "self._loop.call_at"): "how late a loop runs is told by the loop's own time",
    ("transport/upstream/loop_pending.py", "lender.loop.time"): NETWORK,
    ("transport/upstream/loop_pending.py", "self._lender.loop.time"): NETWORK,
    ("transport/upstream/loop_deadlines.py", "self._loop.call_at"): NETWORK,
    ("transport/upstream/loop_deadlines.py", "self._loop.time"): NETWORK,
    ("transport/runtimes/loop.py", "upstream.loop.time"): "what the route's deadline is for the network",
    ("transport/upstream/loop.py", "self.loop.time"): NETWORK,
    ("transport/core/closing.py", "self._event.wait"): "only where the Clock is the machine's",
    (
        "transport/grpcio/client/aio_channel.py",
        "asyncio.wait",
    ): "the grace of channel.close(), for calls on the network",
    ("transport/httpx/direct_send.py", "from time"): "response.elapsed, which httpx measures by the machine's clock",
    ("transport/httpx/bound_streams.py", "from time"): "response.elapsed, which httpx measures by the machine's clock",
    ("transport/grpcio/client/aio_stream_run.py", "asyncio.wait"): NETWORK,
    ("transport/grpcio/client/aio_stream_run.py", "loop.time"): NETWORK,
    (
        "transport/grpcio/client/callback_run.py",
        "self.changed.wait_for",
    ): "a caller's result(timeout=), as of any future",
    ("transport/grpcio/client/core_unary.py", "SystemClock.time"): GRPCIO,
    ("transport/grpcio/client/future.py", "run.wait"): "a caller's result(timeout=), as of any future",
    ("transport/grpcio/client/stream.py", "run.changed.wait_for"): GRPCIO,
    ("transport/grpcio/client/stream.py", "run.wait"): GRPCIO,
    ("transport/grpcio/client/stream.py", "self._run.wait"): GRPCIO,
    ("transport/grpcio/client/upstream.py", "SystemClock.sleep"): GRPCIO,
    ("transport/upstream/http2_loop.py", "asyncio.timeout"): NETWORK,
    ("transport/upstream/http2_loop.py", "asyncio.wait"): NETWORK,
    ("transport/upstream/http2_loop.py", "self.loop.time"): NETWORK,
    ("transport/upstream/http2_loop_body.py", "connection.loop.time"): NETWORK,
    ("transport/upstream/http2_loop_connection.py", "self.loop.time"): NETWORK,
    ("transport/upstream/http2_loop_connection.py", "waiter.wait"): NETWORK,
    ("transport/upstream/http2_loop_waiter.py", "self._loop.time"): NETWORK,
    ("transport/upstream/http2_threads.py", "pool.changed.wait_for"): NETWORK,
    ("transport/upstream/http2_threads_connection.py", "self.socket.wait"): NETWORK,
    ("transport/upstream/http2_threads_waiter.py", "self._gate.acquire"): NETWORK,
    ("transport/httpx/inner.py", "asyncio.timeout"): NETWORK,
    ("transport/upstream/names.py", "looked.wait"): NETWORK,
    ("transport/upstream/names.py", "stop.wait"): ELSEWHERE,
    ("transport/core/shared_breaker.py", "self._asked.wait"): ELSEWHERE,
    ("transport/core/shared_breaker.py", "self._jobs.get"): ELSEWHERE,
    ("transport/upstream/switched.py", "SystemClock.monotonic"): NETWORK,
    ("transport/upstream/switched.py", "asyncio.timeout"): NETWORK,
    ("transport/upstream/switched.py", "asyncio.wait"): NETWORK,
}


def reads_time(node: ast.AST) -> str | None:
    """What in a piece of source reads a clock or waits for a time."""
    if isinstance(node, ast.Import):
        return next((f"import {a.name}" for a in node.names if a.name in ("time", "sched")), None)
    if isinstance(node, ast.ImportFrom):
        if node.module in ("time", "sched"):
            return f"from {node.module}"
        if any(a.name in ("sleep", "timeout", "timeout_at", "wait_for", "Timer") for a in node.names):
            return f"from {node.module} import a timer"
        return None
    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("SystemClock."):
        return ast.unparse(node)
    if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("loop.time"):
        return ast.unparse(node)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    told, name = ast.unparse(node.func), node.func.attr
    bounded = [a for a in node.args if not (isinstance(a, ast.Constant) and a.value is None)]
    bounded += [k.value for k in node.keywords if k.arg == "timeout"]
    if name in ("call_later", "call_at"):
        return told
    if name in ("now", "utcnow", "today") and told.startswith(("datetime", "date.")):
        return told
    if told in ("asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "threading.Timer", "signal.setitimer"):
        return told
    if told == "asyncio.sleep":
        return None if ast.unparse(node.args[0]) == "0" else told
    if told == "asyncio.wait":
        return told if any(k.arg == "timeout" for k in node.keywords) else None
    if name == "wait":
        return told if bounded and told != "core.wait" else None
    if name == "wait_for":
        return told if len(node.args) > 1 or node.keywords else None
    if name in ("get", "join", "result", "acquire"):
        return told if any(k.arg == "timeout" for k in node.keywords) else None
    return None


@functools.cache
def found() -> set[tuple[str, str]]:
    places = set()
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE).as_posix()
        if module == "clock.py" or module.startswith(tuple(f"{p}/" for p in PROGRAMS)):
            continue
        tree = ast.parse(file.read_text())
        places |= {(module, what) for node in ast.walk(tree) if (what := reads_time(node))}
    return places


def test_nobody_reads_a_clock_but_by_the_law():
    wrong = {f"meshlib/{module}: {what}" for module, what in found() - ALLOWED.keys()}
    assert not wrong, (
        "go by the mesh's Clock (core.clock, core.alarms, core.wait), or name the reason here: "
        + ", ".join(sorted(wrong))
    )


def test_no_exception_outlives_its_reason():
    assert not ALLOWED.keys() - found()


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "from asyncio import sleep",
        "asyncio.sleep(1)",
        "loop.time()",
        "self._loop.call_later(1, f)",
        "loop.call_at(1, f)",
        "now = self.loop.time",
        "async def f():\n async with asyncio.timeout(3): pass",
        "asyncio.wait_for(x, 3)",
        "asyncio.wait(x, timeout=3)",
        "threading.Timer(1, f)",
        "event.wait(1.0)",
        "event.wait(timeout=left)",
        "condition.wait_for(lambda: True, 3)",
        "datetime.now(UTC)",
        "thread.join(timeout=5)",
        "queue.get(timeout=1)",
        "SystemClock.sleep(1)",
    ],
)
def test_the_law_sees(source):
    assert any(reads_time(node) for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.sleep(0)",
        "event.wait()",
        "condition.wait_for(ready)",
        "', '.join(x)",
        "found.get(key)",
        "clock.monotonic()",
        "core.wait(changed, until)",
    ],
)
def test_the_law_lets_pass(source):
    assert not any(reads_time(node) for node in ast.walk(ast.parse(source)))
