"""Judges that are written in Go: h2spec, the client and server of grpc-go's interop suite, grpc-go with go-spiffe, and istiod's
certificate authority.

They come from ``make h2spec``, ``make grpc-interop`` and ``make istiod-ca``, which build them into .venv/go-tools. Where there
is no Go, or no way to its modules, tests are skipped and say so (``needs``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[2] / ".venv" / "go-tools"
SECONDS = 1200
OURS = {
    "spiffe-grpc": Path(__file__).parent / "go_spiffe_grpc",
    "istiod-authority": Path(__file__).parent / "istiod_authority",
}
"""Programs of our own around others' modules; built again when they have changed."""
MODULES = {
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec@latest",
    "interop-client": "google.golang.org/grpc/interop/client@v1.66.0",
    "interop-server": "google.golang.org/grpc/interop/server@v1.66.0",
}
TARGETS = {"h2spec": "make h2spec", "istiod-authority": "make istiod-ca"}


def found(tool: str) -> str | None:
    """Where it is; None: nowhere."""
    built = BUILT / tool
    return str(built) if built.exists() else shutil.which(tool)


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skips a test, out loud, where one of them is missing."""
    missing = [tool for tool in tools if found(tool) is None]
    how = next((target for tool, target in TARGETS.items() if tool in tools), "make grpc-interop")
    return pytest.mark.skipif(
        bool(missing), reason=f"NO {' and NO '.join(missing)}: what a real one says is NOT tested ({how})"
    )


def build(tool: str) -> None:
    """Build one that is missing.

    Raises:
        OSError: there is no Go, or a file cannot be written
        subprocess.SubprocessError: Go failed; what it said is on stderr
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="go-tools-") as folder:
        made = Path(folder) / tool
        if tool in OURS:
            subprocess.run(["go", "build", "-o", made, "."], cwd=OURS[tool], check=True, timeout=SECONDS)
        else:
            environment = {**os.environ, "GOBIN": folder}
            subprocess.run(["go", "install", MODULES[tool]], env=environment, check=True, timeout=SECONDS)
            (made,) = Path(folder).iterdir()
        shutil.move(made, BUILT / tool)


def _outdated(tool: str) -> bool:
    """Whether it was built of a program of ours that has changed since."""
    built = BUILT / tool
    if tool not in OURS or not built.exists():
        return False
    return any(each.stat().st_mtime > built.stat().st_mtime for each in OURS[tool].iterdir())


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        if found(wanted) is None or _outdated(wanted):
            try:
                build(wanted)
            except (OSError, subprocess.SubprocessError) as failure:
                sys.stdout.write(f"{wanted}: NOT BUILT: {failure}\n")
        sys.stdout.write(f"{wanted}: {found(wanted) or 'NOT FOUND'}\n")
