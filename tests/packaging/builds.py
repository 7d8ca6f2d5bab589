"""The archives that are released, made from this repository as pip and PyPI would make them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(source: Path, kind: str, into: Path) -> Path:
    """An archive of ``source``: kind "sdist" or "wheel". Raises ``RuntimeError`` with what hatchling said."""
    into.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if ran.returncode:
        raise RuntimeError(f"{kind} of {source}: {ran.stdout}{ran.stderr}")
    (made,) = into.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


def unpacked(sdist: Path, into: Path) -> Path:
    """The folder that the archive holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    return folder


def files_of(wheel: Path) -> dict[str, bytes]:
    """Content by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def differences(one: Path, other: Path) -> list[str]:
    """Files that only one of two wheels has, or that differ."""
    left, right = files_of(one), files_of(other)
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def tracked(root: Path = ROOT) -> list[str] | None:
    """What git knows, None where this is no clone (an unpacked sdist, say)."""
    if not (root / ".git").exists():
        return None
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (root / name).exists()]
