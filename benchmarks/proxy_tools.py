"""Load generators and backends that the proxy is measured with: wrk, nginx, h2load, nghttpd.

They come from PATH, or from ``make proxy-tools``, which unpacks Debian's packages into .venv/proxy-tools, without root. Where
one cannot be had, the rows that need it say so and are not measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import debian_packages

UNPACKED = Path(__file__).parents[1] / ".venv" / "proxy-tools"
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "h2load": "nghttp2-client", "nghttpd": "nghttp2-server"}


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
    return debian_packages.environment(UNPACKED)


def unpack() -> None:
    """Unpack the packages of those that are missing. Raises as ``debian_packages.unpack`` does."""
    wanted = [PACKAGES[tool] for tool in missing(*PACKAGES)]
    if wanted:
        debian_packages.unpack(wanted, UNPACKED)


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
