"""HTTP/2 upstreams in both runtimes: while a connection is made, and what comes of calls that wait for it."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading

import pytest

from benchmarks.free_ports import free_port
from meshlib.engine.outcome import Failure
from meshlib.transport.upstream.target import Target
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server, Peer
from tests.support.more_time import with_more_time

UNTIL_ALL_WAIT = {"threads": (1.5, 15.0), "asyncio": (0.15, 1.5, 15.0)}
"""Seconds that many calls may take to begin: threads have to be started, tasks begin in one turn of the loop. On a busy
machine they may take longer than the first."""


def test_nobody_listening_is_connect_failed_for_all_that_wait(runtime):
    port = free_port()
    results = runtime.many(Target("127.0.0.1", port, http2=True), [Call() for _ in range(20)])
    assert {result.outcome.failure for result in results} == {Failure.CONNECT_FAILED}


def test_a_server_that_says_nothing_is_connect_timeout_for_all_that_wait(runtime, serve):
    def wait(seconds: float) -> None:
        server, target = serve(greeting=b"", target={"connect_timeout": seconds})
        results = runtime.many(target, [Call() for _ in range(20)])
        assert {result.outcome.failure for result in results} == {Failure.CONNECT_TIMEOUT}
        assert server.connections == 1, "nobody waits twice"

    with_more_time(wait, *UNTIL_ALL_WAIT[runtime.name])


def test_a_call_in_a_hurry_does_not_wait_for_the_connect_timeout(runtime, serve):
    _, target = serve(greeting=b"", target={"connect_timeout": 120.0})
    began = runtime.now()
    assert runtime.call(target, Call(limits={"head": 0.1})).outcome.failure is Failure.TIMEOUT
    assert runtime.call(target, Call(limits={"connect": 0.1})).outcome.failure is Failure.CONNECT_TIMEOUT
    assert runtime.now() - began < 60.0


def test_a_server_of_http1_is_a_protocol_error(runtime):
    with EvilServer([OK]) as server:
        outcome = runtime.call(Target("127.0.0.1", server.port, http2=True), Call()).outcome
        assert outcome.failure is Failure.PROTOCOL_ERROR
        assert "HTTP/1" in outcome.detail
        runtime.settle()


def test_a_server_that_closes_at_once_is_connect_failed(runtime, serve):
    _, target = serve(on_connect=Peer.close, greeting=b"")
    assert runtime.call(target, Call()).outcome.failure is Failure.CONNECT_FAILED


def test_those_that_wait_for_a_connection_that_fails_do_not_try_it_again_one_by_one(runtime, serve):
    def wait(seconds: float) -> None:
        def hesitate(peer: Peer) -> None:
            threading.Event().wait(seconds)
            peer.close()

        server, target = serve(on_connect=hesitate, greeting=b"")
        results = runtime.many(target, [Call() for _ in range(10)])
        assert {result.outcome.failure for result in results} == {Failure.CONNECT_FAILED}
        assert server.connections == 1

    with_more_time(wait, *UNTIL_ALL_WAIT[runtime.name])


def test_a_server_that_goes_away_as_it_greets_is_connect_failed(runtime, serve):
    server, target = serve(on_connect=lambda peer: peer.goaway(0))
    outcomes = {runtime.call(target, Call()).outcome.failure for _ in range(3)}
    assert outcomes <= {Failure.CONNECT_FAILED, Failure.RESET, Failure.REFUSED}
    assert server.connections <= 3


def test_without_any_library_the_outcome_says_what_to_install(runtime, serve, monkeypatch):
    real_import = builtins.__import__

    def no_h2(name, *args, **kwargs):
        if name.partition(".")[0] in ("h2", "hpack", "ngh2"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    for name in list(sys.modules):
        if name.startswith(("meshlib.transport.protocol.http2", "meshlib.transport.upstream.http2")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_h2)
    server, target = serve()
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "pip install 'sidecarless[http2]'" in outcome.detail
    assert server.connections == 0


def test_closing_what_is_idle_leaves_a_connection_that_somebody_waits_for(runtime):
    server = H2Server()  # listens, and says nothing yet
    target = Target("127.0.0.1", server.port, http2=True)

    def close_meanwhile() -> None:
        runtime.upstream.close_idle()
        server.__enter__()

    assert [r.data for r in call_while_it_connects(runtime, target, close_meanwhile)] == [b"GET /", b"GET /"]
    runtime.close()
    server.__exit__()


def call_while_it_connects(runtime, target, then):
    """Two calls that wait for the same connection, and something that happens meanwhile."""

    def waiting() -> bool:
        return bool(runtime.upstream._http2 and runtime.upstream._http2._open)

    if isinstance(runtime, Loop):

        async def together():
            calls = asyncio.gather(runtime.call_async(target, Call()), runtime.call_async(target, Call()))
            while not waiting():
                await asyncio.sleep(0.002)
            then()
            return await calls

        return runtime.run(together())
    results = []
    threads = [threading.Thread(target=lambda: results.append(runtime.call(target, Call()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert runtime.until(waiting)
    then()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("why", ["closed as idle", "target dropped"])
def test_a_connection_that_goes_before_its_first_stream_by_our_own_doing_is_made_again(
    runtime, serve, monkeypatch, why
):
    server, target = serve()
    assert runtime.call(target, Call()).data == b"GET /"
    runtime.upstream.close_idle()
    http2_part = runtime.upstream._http2
    connect, closed = http2_part._connect, []

    def close_once():
        if not closed:
            closed.append(True)
            if why == "closed as idle":
                runtime.upstream.close_idle()
            else:
                target.retire()
                http2_part.drop_target(target)

    def connect_and_close(*arguments):
        made = connect(*arguments)
        close_once()
        return made

    async def connect_and_close_on_loop(*arguments):
        made = await connect(*arguments)
        close_once()
        return made

    monkeypatch.setattr(
        http2_part, "_connect", connect_and_close_on_loop if isinstance(runtime, Loop) else connect_and_close
    )
    assert runtime.call(target, Call()).data == b"GET /"
    assert closed
    assert server.connections == (2 if why == "target dropped" and isinstance(runtime, Threads) else 3)
