"""``make shiv``: ``dist/meshlib.pyz``, one file for where Python is (shiv: a zip of wheels that unpacks once), and whether it
runs: ``meshlib proxy --check`` with it, outside this tree and its venv."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.packaging.binary import MEBIBYTE, MESH, ROOT, SECONDS

EXTRAS = "http2,security,watch"


def build(python: str) -> Path:
    """The archive, made by the shiv of ``python``'s venv."""
    archive = ROOT / "dist" / "meshlib.pyz"
    archive.parent.mkdir(exist_ok=True)
    subprocess.run(
        [
            *(python, "-m", "shiv", "--console-script", "meshlib", "--python", "/usr/bin/env python3"),
            *("--compressed", "--output-file", archive, f"{ROOT}[{EXTRAS}]", "uvloop"),
        ],
        check=True,
    )
    return archive


def checks(python: str, archive: Path) -> None:
    """``--check`` finds good resources good, and bad ones bad."""
    with tempfile.TemporaryDirectory() as folder:
        mesh = Path(folder) / "mesh.yaml"
        clean = {"PATH": os.environ["PATH"], "HOME": folder, "SHIV_ROOT": f"{folder}/shiv"}
        command = [python, "-I", archive, "proxy", "--config", mesh, "--outbound", "127.0.0.1:15001", "--check"]
        for text, code in ((MESH.replace("PORT", "8080"), 0), ("kind: Nonsense", 1)):
            mesh.write_text(text)
            done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
            click.echo((done.stdout + done.stderr).strip())


def main() -> None:
    python = os.path.abspath(sys.argv[1])
    archive = build(python)
    click.echo(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / MEBIBYTE:.0f} MiB")
    checks(python, archive)


if __name__ == "__main__":
    main()
