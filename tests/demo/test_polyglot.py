"""examples/polyglot: services in Node.js and Go behind ``meshlib proxy``, and one in Python, as CI plays them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "polyglot"
MISSING = [tool for tool in ("node", "go") if shutil.which(tool) is None]
SECONDS = 300
"""An upper bound for a machine that does much else; a run takes 15 s alone."""

whole = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' and NO '.join(MISSING)}: services in other languages are NOT tested"
)
faults = pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="whole runs: MESHLIB_FAULTS=1; CI plays it itself"
)


def run(folder: Path, *options: str) -> tuple[int, str]:
    """The exit code, and what it said. Nothing of it stays behind, whatever happens."""
    path = [ROOT, ROOT / "integrations" / "fastapi", os.environ.get("PYTHONPATH", "")]
    said = folder / "said"
    with (
        said.open("wb") as out,
        subprocess.Popen(
            [sys.executable, str(EXAMPLE / "run.py"), "--once", *options],
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, path)))},
        ) as process,
    ):
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    with pytest.raises(ProcessLookupError):  # its children are of its group
        os.killpg(process.pid, 0)
    return code, said.read_text()


def failed(said: str) -> set[str]:
    """What was expected in vain."""
    return set(re.findall(r"^FAIL  (.*?): ", said, re.MULTILINE))


@pytest.mark.slow
@whole
@faults
def test_every_verdict_passes(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert code == 0, said
    assert "20 pass, 0 fail, 0 not played" in said


@pytest.mark.slow
@whole
@faults
def test_a_mesh_that_protects_nothing_and_routes_nothing_fails_all_verdicts_about_that(tmp_path: Path) -> None:
    lax = tmp_path / "mesh"
    lax.mkdir()
    services = (EXAMPLE / "mesh" / "services.yaml").read_text().split("---\n")
    (lax / "services.yaml").write_text("---\n".join(each for each in services if "kind: Service\n" in each))
    code, said = run(
        tmp_path,
        "--mesh",
        str(lax),
    )
    assert code == 1, said
    assert failed(said) >= {
        "x-canary leads to stock v2, and nobody else goes there",
        "a shopper may not ask Go",
        "a shopper may not ask Node.js for what is for prices",
        "Node.js may not ask Python",
        *(f"{name} refuses plain text" for name in ("web-v1", "stock-v1", "stock-v2", "prices-v1")),
    }


@pytest.mark.slow
def test_what_is_not_there_is_said_and_the_rest_is_played(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--without", "node", "--without", "go")
    assert code == 0, said
    assert "THERE IS NO node HERE" in said
    assert "THERE IS NO go HERE" in said
    assert "pass  prices-v1 refuses plain text" in said
    assert "1 pass, 0 fail, 19 not played" in said
