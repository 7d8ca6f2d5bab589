"""The process of Envoy, and its admin pages; any program will do here."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.envoy.child import Child, EnvoyAdmin
from tests.support.eventually import eventually


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Runs until it is told to end, and then takes its time where the bootstrap says so."""
    path = tmp_path / "envoy"
    path.write_text("#!/bin/sh\ntrap 'exit 0' TERM\n[ -e stubborn ] && trap '' TERM\nwhile :; do sleep 0.05; done\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def child(program: str, tmp_path: Path) -> Iterator[Child]:
    made = Child(program, tmp_path, {"node": {"id": "a"}}, workers=2, drain=3, log_level="info")
    yield made
    made.end(0)


def test_it_is_begun_with_its_bootstrap_and_ends_when_it_is_told(child: Child, tmp_path: Path) -> None:
    assert child.pid == 0
    assert (tmp_path / "bootstrap.json").read_text() == '{"node": {"id": "a"}}'
    child.begin()
    assert child.pid
    assert child.ended() is None
    child.end(20)
    assert child.pid == 0


def test_one_that_is_killed_is_told_once(child: Child) -> None:
    child.begin()
    child._process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
    codes: list[int | None] = []
    assert eventually(lambda: codes.append(child.ended()) or codes[-1] is not None)
    assert codes[-1] == -signal.SIGKILL
    assert child.ended() is None


def test_pages_are_asked_for_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def respond() -> None:
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(1000).startswith(b"POST /reopen_logs HTTP/1.1\r\n")
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-type: text/x\r\n\r\nOK\n")

        thread = threading.Thread(target=respond)
        thread.start()
        reply = EnvoyAdmin(path).ask("/reopen_logs", "POST")
        thread.join(60)
    assert (reply.status, reply.kind, reply.body) == (200, "text/x", b"OK\n")


def test_where_nothing_responds_that_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        EnvoyAdmin(str(tmp_path / "gone.sock")).ask("/ready")
