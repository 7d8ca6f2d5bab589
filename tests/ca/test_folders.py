"""Files with keys: whole, private, one writer."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from meshlib.ca.folders import PATIENCE, BadStore, locked, read_secret, replace, write_new
from tests.support.fake_clock import FakeClock
from tests.support.stores import Crash, crashing_at


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    replace(file, b"old")
    with crashing_at(0, monkeypatch), pytest.raises(Crash):
        replace(file, b"new, and much longer")
    assert file.read_bytes() == b"old"
    replace(file, b"new")  # what the interrupted one has left is no obstacle
    assert file.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_new_file_is_new(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "link", b"a key for whoever has laid the link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match="root.key cannot be read: No such file or directory"):
        read_secret(tmp_path / "root.key")


def _hold(folder: Path, held: object, go: object) -> None:
    with locked(folder, FakeClock()):
        held.set()  # type: ignore[attr-defined]
        go.wait(60)  # type: ignore[attr-defined]


def test_a_lock_of_another_process_is_waited_for_and_ends_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, go))
    other.start()
    assert held.wait(60)
    clock = FakeClock()
    with pytest.raises(BadStore, match="is being written by another process"), locked(tmp_path, clock):
        pass
    assert sum(clock.slept) >= PATIENCE
    other.kill()
    other.join(60)
    with locked(tmp_path, FakeClock()):
        pass
