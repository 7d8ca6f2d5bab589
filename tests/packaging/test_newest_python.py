"""``make newest-python`` where it cannot be had: that is said, and is no failure; and nothing of this machine is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.packaging import newest_python
from tests.packaging.newest_python import UNSHARED, made_root, main


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As root on Linux, with all tools, and no root made yet."""
    monkeypatch.setattr(newest_python, "KEPT", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    return tmp_path


def unshared(monkeypatch: pytest.MonkeyPatch, code: int, said: str = "") -> list[list[str]]:
    """What has been run; nothing is, and ``unshare`` ends so."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        assert command[: len(UNSHARED)] == [*UNSHARED], "only whether it may is asked"
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(subprocess, "run", run)
    return ran


def test_without_the_capability_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert unshared(monkeypatch, 1, "unshare: unshare failed: Operation not permitted\n") == []
    assert main() == 0
    assert (
        capsys.readouterr().out
        == "NO NEWEST PYTHON here: it takes CAP_SYS_ADMIN (unshare: unshare failed: Operation not permitted). "
        "The tests are NOT run on it.\n"
    )


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    ran = unshared(monkeypatch, 0)
    assert main() == 0
    assert "it takes a network at the first use" in capsys.readouterr().out
    assert len(ran) == 1


def test_what_ends_it_ends_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = unshared(monkeypatch, 3)
    assert newest_python.inside(tmp_path, "python3", "-VV") == 3
    assert {"--mount", "--pid", "--fork", "--kill-child"} <= set(ran[0])
    assert ran[0][-2:] == ["python3", "-VV"]


def test_a_link_in_the_root_leads_nowhere_out_of_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.write_text("of this machine")
    (tmp_path / "ready").touch()
    for each in (Path("/etc/resolv.conf"), Path("/etc/hosts"), newest_python.CERTIFICATES):
        copy = root / each.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(outside)
    assert made_root() == root
    assert outside.read_text() == "of this machine"
    assert not (root / "etc/hosts").is_symlink()
