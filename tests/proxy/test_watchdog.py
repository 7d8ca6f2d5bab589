"""systemd hears that the proxy is alive as long as its event loops turn, and no longer."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from meshlib.proxy.watchdog import Beat, Heartbeats, LoopBeat, interval, told
from tests.support.fake_clock import FakeClock
from tests.support.proxy_command import ProxyCommand
from tests.support.servers import EchoServer


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_it_is_asked_for_by_the_units_environment(environ: dict[str, str], seconds: float | None) -> None:
    assert interval(environ, 7) == seconds
    assert (told({**environ, "WATCHDOG_PID": str(os.getpid())}) is None) == ("30000000" not in environ.values())


def test_a_single_process_tells_it_twice_as_often_as_it_has_to(tmp_path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        found = told({"WATCHDOG_USEC": "4000000", "NOTIFY_SOCKET": address})
        assert found is not None
        assert found.every == 2.0
        found.tell()
        assert systemd.recv(100) == b"WATCHDOG=1"


class Loop:
    """Keeps what is to be called."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, object]] = []

    def call_later(self, seconds, call):
        self.calls.append((seconds, call))
        return self

    def cancel(self) -> None:
        self.calls.clear()


def test_the_loop_beats_at_once_and_with_each_turn_until_it_is_closed() -> None:
    loop, beats = Loop(), []
    beating = LoopBeat(loop, Beat(5.0, lambda: beats.append(1)))  # type: ignore[arg-type]
    assert (beats, [seconds for seconds, _ in loop.calls]) == ([1], [5.0])
    loop.calls.pop()[1]()  # type: ignore[operator]
    assert (beats, len(loop.calls)) == ([1, 1], 1)
    beating.close()
    assert loop.calls == []


def test_the_parent_of_several_knows_one_whose_loop_is_stuck() -> None:
    clock = FakeClock()
    beats = Heartbeats(2, 10.0, clock.monotonic)
    assert beats.alive((0, 1))
    clock.advance(9.0)
    assert beats.of(0).every == 2.5
    beats.of(0).tell()
    clock.advance(2.0)
    assert (beats.alive((0, 1)), beats.alive((0,)), beats.alive(())) == (False, True, True)
    beats.beat(1)
    assert beats.alive((0, 1))
    beats.close()


def test_a_beat_of_a_forked_worker_is_seen() -> None:
    clock = FakeClock()
    beats = Heartbeats(1, 10.0, clock.monotonic)
    clock.advance(11.0)
    assert not beats.alive((0,))
    pid = os.fork()
    if not pid:
        beats.beat(0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert beats.alive((0,))
    beats.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_tells_systemd_whatever_the_number_of_its_processes(tmp_path, workers: int) -> None:
    address = str(tmp_path / "notify")
    with EchoServer("v1") as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        asks = {"WATCHDOG_USEC": "200000", "NOTIFY_SOCKET": address}
        with ProxyCommand(tmp_path, server.port, "--workers", str(workers), env=asks) as proxy:
            heard = [systemd.recv(100)]
            while heard.count(b"WATCHDOG=1") < 3 or b"READY=1" not in heard:
                heard.append(systemd.recv(100))
            assert set(heard) <= {b"READY=1", b"WATCHDOG=1"}
            proxy.process.terminate()


async def test_a_real_loop_does() -> None:
    heard = asyncio.Event()
    beating = LoopBeat(asyncio.get_running_loop(), Beat(0.0, heard.set))
    heard.clear()
    await asyncio.wait_for(heard.wait(), 20)
    beating.close()
