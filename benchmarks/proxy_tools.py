"""Load generators and backends that the proxy is measured with: wrk, nginx, h2load, nghttpd.

They come from PATH, or from ``make proxy-tools``, which unpacks Debian's packages into .venv/proxy-tools, without root. Where
one cannot be had, the rows that need it say so and are not measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

UNPACKED = Path(__file__).parents[1] / ".venv" / "proxy-tools"
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "h2load": "nghttp2-client", "nghttpd": "nghttp2-server"}
SECONDS = 300


def found(tool: str) -> str | None:
    """Where it is; None: nowhere."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for folder in ("usr/bin", "usr/sbin"):
        path += f"{os.pathsep}{UNPACKED / folder}"
    return shutil.which(tool, path=path)


def missing(*tools: str) -> list[str]:
    """Those that are nowhere."""
    return [tool for tool in tools if found(tool) is None]


def environment() -> dict[str, str]:
    """This process's, with the libraries that were unpacked with the tools."""
    libraries = [str(each) for each in sorted({each.parent for each in UNPACKED.rglob("*.so*")})]
    before = os.environ.get("LD_LIBRARY_PATH")
    made = dict(os.environ)
    if libraries:
        made["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *([before] if before else [])])
    return made


def unpack() -> None:
    """Unpack the packages of those that are missing, and what they need and this machine has not.

    Raises:
        OSError: a file cannot be written, or there is no apt-get or dpkg
        subprocess.SubprocessError: apt-get or dpkg failed; what they said is on stderr
    """
    wanted = [PACKAGES[tool] for tool in missing(*PACKAGES)]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="proxy-tools-") as temporary:
        folder = Path(temporary)
        # lists of packages of our own: the machine's may be missing or old, and are not ours to write
        state, archives = folder / "state", folder / "cache" / "archives"
        for each in (state / "lists" / "partial", archives / "partial"):
            each.mkdir(parents=True)
        options = ["-qq", "-o", f"Dir::State={state}", "-o", f"Dir::State::lists={state / 'lists'}"]
        options += ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        options += ["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        for command in (["update"], ["--download-only", "--yes", "--no-install-recommends", "install", *wanted]):
            subprocess.run(
                ["apt-get", *options, *command], cwd=folder, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL
            )
        UNPACKED.mkdir(parents=True, exist_ok=True)
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, UNPACKED], check=True, timeout=SECONDS)


if __name__ == "__main__":
    failure: Exception | None = None
    try:
        unpack()
    except (OSError, subprocess.SubprocessError) as error:
        failure = error
    for tool in PACKAGES:
        print(f"{tool}: {found(tool) or 'NOT FOUND'}")
    if missing(*PACKAGES):
        sys.stderr.write(
            f"\nNO {', '.join(missing(*PACKAGES)).upper()}: Debian's packages cannot be unpacked ({failure}). The figures of "
            "the proxy that need them are NOT MEASURED.\nInstall them on PATH to measure these.\n\n"
        )
