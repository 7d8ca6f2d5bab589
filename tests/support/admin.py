"""A plain client of the admin endpoint, which knows nothing of ours."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import meshlib
from meshlib.admin.runtime_folder import folders
from meshlib.admin.seen import Seen
from meshlib.mesh.admin import _Seen
from meshlib.telemetry.recent import Recent


class _Unix(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of what an address of ``mesh.status()["admin"]`` answers."""
    if address.startswith("unix:"):
        connection: HTTPConnection = _Unix(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        connection = HTTPConnection(host.strip("[]"), int(port), timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def get(address: str, path: str) -> str:
    """The page."""
    status, body = ask(address, path)
    assert status == 200, (status, body)
    return body


def get_json(address: str, path: str) -> Any:
    return json.loads(get(address, path))


def seen(mesh: meshlib.Mesh, recent: Recent | None = None) -> Seen:
    """What pages see of a mesh, be its endpoint on or off."""
    if recent is None:
        recent = Recent(mesh._core.clock.time) if mesh._admin is None else mesh._admin.recent
    return _Seen(mesh, 0.0, recent)


def runtime_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """``folder`` is where this process, and those that it starts, have their runtime folder, and the only place where others
    are looked for: this machine may run some."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr("meshlib.admin.attach.folders", lambda environ, uid: folders(environ, uid)[:1])
