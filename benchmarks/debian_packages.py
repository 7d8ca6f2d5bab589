"""Debian's packages, unpacked into a folder, without root: tools that tests and figures ask for."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECONDS = 300


def unpack(packages: Sequence[str], into: Path) -> None:
    """Unpack these, and what they need and this machine has not.

    Raises:
        OSError: a file cannot be written, or there is no apt-get or dpkg
        subprocess.SubprocessError: apt-get or dpkg failed; what they said is on stderr
    """
    with tempfile.TemporaryDirectory(prefix="debian-packages-") as temporary:
        folder = Path(temporary)
        # lists of packages of our own: the machine's may be missing or old, and are not ours to write
        state, archives = folder / "state", folder / "cache" / "archives"
        for each in (state / "lists" / "partial", archives / "partial"):
            each.mkdir(parents=True)
        options = ["-qq", "-o", f"Dir::State={state}", "-o", f"Dir::State::lists={state / 'lists'}"]
        options += ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        options += ["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        for command in (["update"], ["--download-only", "--yes", "--no-install-recommends", "install", *packages]):
            subprocess.run(
                ["apt-get", *options, *command], cwd=folder, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL
            )
        into.mkdir(parents=True, exist_ok=True)
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, into], check=True, timeout=SECONDS)


def environment(unpacked: Path) -> dict[str, str]:
    """This process's, with the libraries that were unpacked with the tools."""
    libraries = [str(each) for each in sorted({each.parent for each in unpacked.rglob("*.so*")})]
    before = os.environ.get("LD_LIBRARY_PATH")
    made = dict(os.environ)
    if libraries:
        made["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *([before] if before else [])])
    return made
