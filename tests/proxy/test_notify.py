"""systemd is told by a datagram, and nobody minds when it is not there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from meshlib.proxy.notify import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_at_its_socket(tmp_path: Path, abstract: bool) -> None:
    address = f"@meshlib-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:] if abstract else address)
        assert notify("READY=1", {"NOTIFY_SOCKET": address})
        assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_it_nothing_happens(address: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": address})
    assert not notify("READY=1", {})
