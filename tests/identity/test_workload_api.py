"""An identity from the Workload API: followed, kept while it is away, and never taken on trust."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import grpc
import pytest

from meshlib.alarms import Alarms
from meshlib.ca.issued import Issued
from meshlib.ca.workload_api import WorkloadApiServer
from meshlib.clock import SystemClock
from meshlib.identity.errors import BadCredentials
from meshlib.identity.workload_api import SILENCE, WorkloadApiSource, endpoint
from meshlib.policy.reconnect import LONGEST
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.support.eventually import eventually
from tests.support.standing import Standing
from tests.support.workload_api import LONG, Jumping, Listener, Refuse, Scripted, clock_at
from tests.support.workload_svids import response_of

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW - 100_000)
OTHER = Authority.root("cluster.local", NOW)
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


def svid(now: float = NOW, ttl: float = 3600) -> Svid:
    return ROOT.issue(REVIEWS, now, ttl=ttl)


FIRST, SECOND = svid(), svid()


def listener(server: Scripted, clock: Jumping | None = None) -> Listener:
    """``start`` waits for nothing but what the test has said before."""
    source = WorkloadApiSource(server.uri, rng=random.Random(1), patience=0.0 if server.says.empty() else LONG)
    return Listener(source, clock or clock_at(NOW))


def test_every_call_has_the_security_header_and_the_first_certificate_is_there_when_start_returns() -> None:
    with Scripted() as server:
        server.says.put(response_of(FIRST, ROOT))
        with listener(server) as heard:
            assert heard.published.get_nowait()[0].leaf == FIRST.leaf
            assert server.calls.get(timeout=LONG)["workload.spiffe.io"] == "true"
            assert heard.problem == ""


def test_each_rotation_is_published() -> None:
    with Scripted() as server, listener(server) as heard:
        for _ in range(20):
            now = svid()
            server.says.put(response_of(now, ROOT))
            assert heard.next()[0].leaf == now.leaf
        assert server.calls.qsize() == 1


def test_late_by_five_seconds() -> None:
    """The socket is not there at the start: said, asked again, found."""
    server = Scripted()
    with listener(server) as heard:
        assert "UNAVAILABLE" in heard.hears("no mTLS")
        heard.clock.advance(5)
        with server:
            assert heard.asks_again(server, response_of(FIRST, ROOT))[0].leaf == FIRST.leaf
            heard.hears_that_all_is_well()


def test_killed_and_back() -> None:
    server = Scripted().start()
    server.says.put(response_of(FIRST, ROOT))
    with listener(server) as heard:
        heard.next()
        server.stop()
        heard.hears("the Workload API")
        server.start()
        assert heard.asks_again(server, response_of(SECOND, ROOT))[0].leaf == SECOND.leaf
        heard.hears_that_all_is_well()
        server.stop()


def test_no_identity_yet_is_asked_again() -> None:
    with Scripted() as server, listener(server) as heard:
        server.says.put(Refuse(grpc.StatusCode.PERMISSION_DENIED, "no identity issued"))
        said = heard.hears("PERMISSION_DENIED: no identity issued")
        assert "register the workload" in said
        assert heard.asks_again(server, response_of(FIRST, ROOT))[0].leaf == FIRST.leaf


def test_an_invalid_argument_is_final() -> None:
    with Scripted() as server, listener(server) as heard:
        server.says.put(Refuse(grpc.StatusCode.INVALID_ARGUMENT, "what?"))
        assert "it is not asked again" in heard.hears("INVALID_ARGUMENT")
        assert eventually(lambda: heard.alarms._due)  # the look at the wall clock, unless it is looking
        heard.clock.advance(10 * LONGEST)
        server.calls.get(timeout=LONG)
        assert heard.source._alarm is None  # type: ignore[attr-defined]
        assert server.calls.empty()


def test_a_stream_that_ends_is_opened_again() -> None:
    with Scripted() as server, listener(server) as heard:
        server.says.put(response_of(FIRST, ROOT))
        heard.next()
        server.says.put(Scripted.END)
        heard.hears("has ended the stream")
        assert heard.asks_again(server, response_of(SECOND, ROOT))[0].leaf == SECOND.leaf


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "the response has no certificate"),
        (b"\xff\xff garbage", "has sent what is not used"),
        (response_of(FIRST, OTHER), "is not signed by|not a root of its trust domain"),
        (response_of(svid(NOW - 90_000), ROOT), "has expired"),
        (response_of(svid(NOW + 3600), ROOT), "is not valid before"),
        (b"\x0a" * 3, "has sent what is not used"),
    ],
)
def test_what_may_not_be_used_leaves_the_last_good_one(raw: bytes, why: str) -> None:
    with Scripted() as server, listener(server) as heard:
        server.says.put(response_of(FIRST, ROOT))
        heard.next()
        server.says.put(raw)
        heard.hears(why)
        assert heard.published.empty()
        assert heard.asks_again(server, response_of(SECOND, ROOT))[0].leaf == SECOND.leaf


def test_a_clock_that_was_an_hour_behind_takes_the_certificate_when_it_is_right() -> None:
    with Scripted() as server, listener(server, clock_at(NOW - 3600)) as heard:
        server.says.put(response_of(FIRST, ROOT))
        heard.hears("check the clock of this machine")
        heard.clock.jumped = 3600
        assert heard.asks_again(server, response_of(FIRST, ROOT))[0].leaf == FIRST.leaf


def test_a_server_that_says_nothing_is_left_for_another_connection() -> None:
    with Scripted() as server, listener(server) as heard:
        server.calls.get(timeout=LONG)
        heard.clock.advance(SILENCE)
        heard.hears(f"has sent nothing for {SILENCE:.0f} s")
        assert heard.asks_again(server, response_of(FIRST, ROOT))[0].leaf == FIRST.leaf


def test_closed_it_asks_no_more_and_says_nothing() -> None:
    with Scripted() as server:
        server.says.put(response_of(FIRST, ROOT))
        with listener(server) as heard:
            heard.next()
        said = list(heard.said)
        heard.source.close()
        server.says.put(response_of(SECOND, ROOT))
        heard.clock.advance(LONGEST)
        assert heard.published.empty()
        assert heard.said == said


@pytest.mark.parametrize(
    ("socket", "environ", "why"),
    [
        (None, {}, "SPIFFE_ENDPOINT_SOCKET is not set"),
        (None, {"SPIFFE_ENDPOINT_SOCKET": "/run/a"}, "SPIFFE_ENDPOINT_SOCKET is not a valid SPIFFE Workload Endpoint"),
        (
            "unix:a.sock",
            {"SPIFFE_ENDPOINT_SOCKET": "unix:/run/a"},
            "the socket is not a valid .* not absolute; write it as",
        ),
    ],
)
def test_where_it_is_must_be_said(socket: str | None, environ: dict[str, str], why: str) -> None:
    with pytest.raises(BadCredentials, match=why):
        endpoint(socket, environ)


def test_the_environment_says_where() -> None:
    assert endpoint(None, {"SPIFFE_ENDPOINT_SOCKET": "unix:///run/a.sock"}) == "unix:/run/a.sock"


def test_no_key_is_in_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Scripted() as server, listener(server) as heard:
        server.says.put(response_of(FIRST, ROOT)[:-40])
        heard.hears("is not used")
        shown = caplog.text + repr(heard.source) + heard.problem
        assert FIRST.key_pem.decode().splitlines()[1][:20] not in shown
        assert "PRIVATE" not in shown


CHILD = textwrap.dedent(
    """
    import os, sys, threading, traceback
    from meshlib.alarms import Alarms
    from meshlib.clock import SystemClock
    from meshlib.identity.identity import Identity

    identity = Identity.from_workload_api(sys.argv[1])
    alarms = Alarms()
    os.register_at_fork(after_in_child=identity.after_fork)
    identity.start(SystemClock(), alarms)
    mine = identity.current()
    assert mine is not None, identity.problem
    child = os.fork()
    if not child:
        status = 1
        try:
            assert identity.current() is mine
            pause = threading.Event()
            for _ in range(600):
                if identity.problem or identity.current() is not mine:
                    break
                print("ready", flush=True)
                pause.wait(0.05)
            print("child:", identity.problem, identity.current() is not mine, flush=True)
            identity.close()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    identity.close()
    sys.exit(os.waitstatus_to_exitcode(status))
    """
)


@pytest.mark.parametrize(("support", "said"), [("0", "set GRPC_ENABLE_FORK_SUPPORT=1"), ("1", "child:  True")])
def test_a_forked_child_keeps_the_certificate_and_begins_anew_where_grpc_can(
    support: str, said: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    root = Authority.root("cluster.local", clock.time())
    standing = Standing(root, TrustBundles({"cluster.local": (root.root_der,)}))
    issued = Issued(lambda: standing, REVIEWS, clock, Alarms(), ttl=3600)
    server = WorkloadApiServer(f"unix://{tmp_path}/a.sock", issued)
    server.start()
    try:
        environ = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": support}
        command = [sys.executable, "-c", CHILD, f"unix://{tmp_path}/a.sock"]
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            told = ""
            for line in run.stdout:  # the parent's own stream is told, too, and nobody minds
                told += line
                if line.startswith("ready"):
                    issued.renew()
            assert run.wait(LONG) == 0
        assert said in told
    finally:
        server.close()
