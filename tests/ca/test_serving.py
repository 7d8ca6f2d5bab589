"""``meshlib ca serve``: a process that is asked for certificates, and follows what is changed on disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from meshlib.ca.rotation import take
from meshlib.ca.serving import Serving, Socket
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from meshlib.identity.istiod import IstiodSource
from meshlib.identity.workload_api import WorkloadApiSource
from meshlib.problems import MeshError
from tests.support.fake_clock import FakeClock
from tests.support.forked import MAIN, Forked
from tests.support.workload_api import LONG, Listener, clock_at

REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
CLOCK = SystemClock()


def store(folder: Path) -> Store:
    return Store.create(folder / "ca", "cluster.local", CLOCK)


def test_each_step_of_a_change_reaches_those_who_follow(tmp_path: Path) -> None:
    """At the next look of the server, by its alarms, or when it is told to look."""
    made = store(tmp_path)
    serving = Serving(made.current, CLOCK, sockets=[Socket(f"unix:{tmp_path}/a.sock", REVIEWS)])
    serving.start()
    old = made.current().bundles
    try:
        with Listener(WorkloadApiSource(f"unix:{tmp_path}/a.sock", patience=LONG), clock_at(CLOCK.time())) as heard:
            assert heard.next()[1] == old
            seen = []
            for _ in range(3):
                take(made, force=True)
                serving._issued[0].look()
                svid, bundles = heard.next()
                assert bundles == made.current().bundles
                seen.append(len(bundles.roots))
            assert seen == [2, 2, 1]
            assert made.current().bundles != old
            assert set(heard.said) <= {""}
    finally:
        serving.close()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({}, "there is nothing to serve"),
        ({"sockets": [Socket("agent.sock", REVIEWS)]}, "must have the scheme unix or tcp"),
        ({"sockets": [Socket("unix:/nowhere/at/all/a.sock", REVIEWS)]}, "cannot be served"),
        (
            {"sockets": [Socket("unix:/tmp/never.sock", "spiffe://other.test/x")]},
            "spiffe://other.test/x cannot be issued",
        ),
        ({"istiod_address": "nowhere"}, "is not an address"),
    ],
)
def test_what_cannot_be_served_is_said(what: dict[str, object], why: str, tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=why):
        Serving(store(tmp_path).current, FakeClock(CLOCK.time() - 1_700_000_000), **what).start()  # type: ignore[arg-type]


def test_the_command_serves_both_until_it_is_ended(tmp_path: Path) -> None:
    made = store(tmp_path)
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"t0k3n": REVIEWS}))
    tokens.chmod(0o600)
    (tmp_path / "token").write_text("t0k3n\n")
    command = ["ca", "serve", str(made.folder)]
    command += ["--socket", f"unix:{tmp_path}/a.sock", "-n", "default", "--service-account", "reviews"]
    command += ["--istiod-address", "127.0.0.1:0", "--tokens", str(tokens)]
    with Forked(MAIN, *command) as run:
        first, second = run.stdout.readline(), run.stdout.readline()
        assert first == f"the Workload API for {REVIEWS}: SPIFFE_ENDPOINT_SOCKET=unix:{tmp_path}/a.sock\n"
        address = second.split()[3].rstrip(";")
        for source in (
            WorkloadApiSource(f"unix:{tmp_path}/a.sock", patience=LONG),
            IstiodSource(address, tmp_path / "token", made.folder / "bundle.pem", patience=LONG),
        ):
            with Listener(source, clock_at(CLOCK.time())) as heard:
                assert heard.next()[0].identity.text == REVIEWS
        run.send_signal(signal.SIGTERM)
        assert run.wait(LONG) == 0
    assert not (tmp_path / "a.sock").exists()
