"""The whole gRPC demo, as ``make demo-grpc`` runs it: verdicts, exit codes, signals, no process left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from meshlib.demo.commands import demo
from meshlib.demo.report import FAIL, PASS, Report
from meshlib.demo.shop import APP, CONFIG, runner
from meshlib.demo.shop.play import processes, session
from meshlib.demo.shop.play.processes import Shop
from meshlib.demo.shop.play.scenario import Stage

ROOT = Path(__file__).parents[2]


def _run(**arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    code = runner.run(once=True, console=Console(file=out), **arguments)  # type: ignore[arg-type]
    return code, out.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="a whole run: MESHLIB_FAULTS=1; CI plays the demo itself"
)
def test_every_scenario_passes() -> None:
    code, said = _run(calls=60)
    assert code == 0, said
    assert "17 of 17 verdicts pass" in said
    assert "FAIL" not in said


@pytest.mark.slow
def test_a_mesh_without_our_routes_fails_every_scenario_about_them_and_keeps_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "config"
    shutil.copytree(CONFIG, bare, ignore=shutil.ignore_patterns("routes.yaml"))
    monkeypatch.setattr(processes, "CONFIG", bare)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[Report] = []
    monkeypatch.setattr(runner, "Report", lambda console: made.append(Report(console)) or made[0])
    code, said = _run(calls=60)
    assert code == 1, said
    verdicts = {(c.title, row.who): row.verdict for c in made[0].chapters for row in c.rows}
    assert {key for key, verdict in verdicts.items() if verdict == PASS} <= {
        ("client streaming, both ways streaming", "haggling"),
        ("injected fault", "ListProducts"),
        ("retries", "catalog v1 fails every other call"),  # Istio retries twice where nothing is said
        ("time limits", "the caller's own"),
        ("deadline and trace", "in time"),
        ("deadline and trace", "catalog is slow"),
        ("a killed replica", "catalog-v1-1 is killed"),
        ("metrics", "istio_requests_total"),
    }, said
    assert FAIL in said
    assert len(list(tmp_path.glob("grpc-shop-*/logs/*.log"))) == 4


@pytest.mark.slow
def test_a_service_that_dies_by_itself_ends_the_demo_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def murder(stage: Stage) -> None:
        os.kill(stage.shop.children[-1].pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            stage.shop.check()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(processes, "CATALOGS", ("v1",))
    monkeypatch.setattr(session, "SCENARIOS", (murder,))
    code, said = _run()
    assert code == 2
    assert "orders-v1-1 ended with exit code -9" in said
    assert "orders-v1-1.log" in said


def test_a_service_that_cannot_start_is_told_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "config"
    broken.mkdir()
    (broken / "routes.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: catalog}\nspec: {hosts: catalog}\n"
    )
    monkeypatch.setattr(processes, "CONFIG", broken)
    monkeypatch.setattr(processes, "CATALOGS", ("v1",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, said = _run()
    assert code == 2
    assert "catalog-v1-1 ended with exit code 1 before it was ready" in said
    assert "routes.yaml:4" in said


@pytest.mark.parametrize(("module", "package"), [("grpc", "grpcio"), ("google.protobuf", "protobuf")])
def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    find_spec = runner.importlib.util.find_spec

    def missing(name: str) -> object:
        if name == module:
            raise ModuleNotFoundError(f"No module named {name.partition('.')[0]!r}")
        return find_spec(name)

    monkeypatch.setattr(runner.importlib.util, "find_spec", missing)
    code, said = _run()
    assert code == 2
    assert f"the demo needs {package}: pip install 'sidecarless[grpc]'" in said


def test_no_calls_are_refused() -> None:
    assert _run(calls=0) == (2, "calls must be at least 1\n")


@pytest.mark.slow
def test_a_signal_in_the_middle_ends_every_process(tmp_path: Path) -> None:
    with _started(tmp_path, "--calls", "100000", catalogs=("v2",)) as run:
        said = _until(run, "1. canary by metadata")
        children = _children(run.pid)
        assert len(children) == 2
        run.send_signal(signal.SIGTERM)  # SIGINT ends the one that stays open, below
        assert run.stdout is not None
        said += run.stdout.read()
        assert run.wait(120) == 2, said
        assert "stopped before the end" in said
    _nothing_left(children, tmp_path)


@pytest.mark.slow
def test_the_shop_stays_open_for_customers_until_a_signal(tmp_path: Path) -> None:
    with _started(tmp_path, "--calls", "5") as run:
        said = _until(run, "Ctrl-C ends it")
        children = _children(run.pid)
        assert len(children) == 4  # the killed replica has a successor
        (folder,) = tmp_path.glob("grpc-shop-*/mesh")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        bought = subprocess.run(
            [sys.executable, str(APP / "buy.py"), str(folder), "--canary"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        said += run.stdout.read()
        assert run.wait(120) == 0, said
    _nothing_left(children, tmp_path)
    assert bought.returncode == 0, bought.stderr
    assert "Pot: 39.00, says catalog-v2-1" in bought.stdout
    assert "decided by VirtualService/default/catalog, rule canary -> v2" in bought.stdout
    assert "ordered 3 lines, 116.80 in all" in bought.stdout


@pytest.mark.slow
def test_killing_the_runner_leaves_no_orphan(tmp_path: Path) -> None:
    # SIGKILL: the runner can clean up nothing, so each service has to notice by itself
    with _started(tmp_path, "--calls", "100000", catalogs=("v2",)) as run:
        _until(run, "1. canary by metadata")
        children = _children(run.pid)
        run.kill()
        run.wait(60)
    deadline = time.monotonic() + 60
    while (left := [pid for pid in children if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)  # or the failing test would leave the very orphans it complains about
    assert left == []


@pytest.mark.slow
def test_a_killed_replica_is_replaced_and_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CATALOGS", ("v1", "v1"))
    with Shop() as shop:
        victim = shop.catalogs("v1")[0]
        shop.kill(victim)
        assert victim.pod in (shop.folder / "endpoints.yaml").read_text()  # discovery does not know yet
        shop.replace("v1")
        assert [child.pod for child in shop.catalogs("v1")] == ["catalog-v1-2", "catalog-v1-3"]
        published = (shop.folder / "endpoints.yaml").read_text()
        assert victim.pod not in published
        assert "catalog-v1-3" in published
        root = shop.root
    assert not root.exists()


def test_help_shows_examples() -> None:
    said = CliRunner().invoke(demo, ["grpc", "--help"]).output
    assert "meshlib demo grpc --once" in said
    assert "--calls" in said


def _started(tmp_path: Path, *arguments: str, catalogs: tuple[str, ...] = processes.CATALOGS) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    fewer = f"from meshlib.demo.shop.play import processes; processes.CATALOGS = {catalogs!r}"
    code = f"{fewer}\nfrom meshlib.demo.commands import demo; demo()"
    command = [sys.executable, "-c", code, "grpc", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _until(run: subprocess.Popen[str], text: str) -> str:
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said:\n{said}")


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list children in /proc")
    return [int(child) for child in listed.read_text().split()]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _nothing_left(children: list[int], tmp_path: Path) -> None:
    assert [pid for pid in children if _runs(pid)] == []
    assert list(tmp_path.glob("grpc-shop-*")) == []
