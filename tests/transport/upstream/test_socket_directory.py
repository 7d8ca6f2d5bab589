"""Where unix sockets have their names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from meshlib.problems import MeshError
from meshlib.transport.upstream import socket_directory
from meshlib.transport.upstream.socket_directory import LONGEST


def test_nobody_else_can_enter_it() -> None:
    made = socket_directory.socket_directory()
    assert os.stat(made).st_mode & 0o777 == 0o700
    os.rmdir(made)


def test_a_path_that_is_too_long_for_sockets_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * LONGEST)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    made = socket_directory.socket_directory()
    assert not made.startswith(str(deep))
    os.rmdir(made)
    assert list(deep.iterdir()) == []
    monkeypatch.setattr(socket_directory, "PARENTS", (None,))
    with pytest.raises(MeshError, match="set TMPDIR to one that can be written, whose path is short .* is too long"):
        socket_directory.socket_directory()


def test_where_nothing_can_be_written_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_directory, "PARENTS", ("/nowhere",))
    with pytest.raises(MeshError, match="set TMPDIR"):
        socket_directory.socket_directory()
