"""The whole demo, as ``make demo`` runs it: verdicts, exit codes, signals. Its six processes are started once for all that is
played on them."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from meshlib.demo.bookinfo import runner
from meshlib.demo.bookinfo.play import application, session
from meshlib.demo.bookinfo.play.application import Application
from meshlib.demo.bookinfo.play.scenarios import SCENARIOS, Expectation, Scenario
from meshlib.demo.commands import demo
from meshlib.demo.process import ChildDied

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def started() -> Iterator[Application]:
    """All of Bookinfo; nothing of it is left behind."""
    with Application() as app:
        pids = [child.pid for child in app.children]
        yield app
        assert [child.pid for child in app.children] == pids  # whatever was played
        app.keep_files = False
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert not app.root.exists()


@pytest.fixture
def standing(started: Application, monkeypatch: pytest.MonkeyPatch) -> Application:
    """What the demo plays on instead of an application of its own."""

    class Standing:
        processes, traced = Application.processes, Application.traced

        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> Application:
            return started

        def __exit__(self, *_: object) -> None:
            pass

    started.keep_files = False
    monkeypatch.setattr(session, "play", functools.partial(session.play, kind=Standing))
    return started


def _run(**arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    code = runner.run(once=True, port=0, console=Console(file=out), **arguments)  # type: ignore[arg-type]
    return code, out.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MESHLIB_FAULTS"), reason="a whole run: MESHLIB_FAULTS=1; CI plays the demo itself"
)
def test_every_scenario_passes() -> None:
    code, said = _run(requests=40)
    assert code == 0, said
    assert "17 of 17 verdicts pass" in said
    assert "reviews unavailable 3, 6." in said  # the 7 s delay against two times 3 s of patience
    assert "FAIL" not in said


@pytest.mark.slow
def test_a_mesh_that_does_something_else_fails_with_exit_code_1_and_keeps_the_logs(
    standing: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = next(s for s in SCENARIOS if "90-10" in s.file)
    wrong = Scenario(canary.title, canary.file, canary.asked, {"": Expectation({"v1": 0.3, "v2": 0.7})})

    async def no_outlier(*_: object) -> None:
        return None

    monkeypatch.setattr(session, "SCENARIOS", (wrong,))
    monkeypatch.setattr(session, "play_outlier", no_outlier)
    code, said = _run(requests=40)
    assert code == 1
    assert "FAIL" in said
    assert "0 of 1 verdicts pass" in said
    assert f"YAML and logs are kept in {standing.root}" in said
    assert standing.keep_files


@pytest.mark.parametrize("kept", [True, False])
def test_yaml_and_logs_stay_where_they_are_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(application, "REPLICAS", ())
    with Application() as app:
        (app.logs / "ratings-v1-1.log").touch()
        app.keep_files = kept
    assert len(list(tmp_path.glob("bookinfo-*/logs/*.log"))) == kept


@pytest.mark.slow
def test_the_application_takes_new_rules_without_restart_and_sees_who_dies(started: Application) -> None:
    ports = [child.port for child in started.children]
    assert "The Comedy of Errors" in httpx.get(started.url).text
    for version, stars in (("v3", "red"), ("v2", "black")):
        started.play(
            b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
            b"spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: %s}}]}]}\n"
            % version.encode()
        )
        assert f"5 of 5 {stars} stars" in httpx.get(started.url).text
    assert [child.port for child in started.children] == ports
    another = started.scale_up("details", "v1")
    another.kill()
    with pytest.raises(ChildDied, match="details-v1-2 ended"):
        started.check()
    started.remove(another)


@pytest.mark.slow
def test_a_folder_is_played_file_by_file(tmp_path: Path, standing: Application) -> None:
    (tmp_path / "a-rules.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\n"
        "spec: {host: reviews, subsets: [{name: canary, labels: {version: v3}}]}\n"
    )
    (tmp_path / "b-canary.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
        "spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: canary}}]}]}\n"
    )
    (tmp_path / "c-database.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ratings}\n"
        "spec: {hosts: [ratings], http: [{route: [{destination: {host: ratings, subset: v2-mysql}}]}]}\n"
    )
    code, said = _run(config=tmp_path, requests=20)
    assert code == 0, said
    assert "anyone: 20 looks: reviews v3 20" in said
    assert "not played: ratings v2-mysql does not run here" in said


@pytest.mark.slow
def test_a_refused_file_fails_the_run(tmp_path: Path, standing: Application) -> None:
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec: {hosts: reviews}\n"
    )
    code, said = _run(config=tmp_path, requests=5)
    assert code == 1
    assert "bad.yaml:4" in said


def test_an_empty_folder_cannot_be_played(tmp_path: Path) -> None:
    code, said = _run(config=tmp_path)
    assert code == 2
    assert "no .yaml" in said


def test_without_the_demo_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: None)
    code, said = _run()
    assert code == 2
    assert "pip install 'sidecarless[demo]'" in said


@pytest.mark.slow
def test_a_signal_ends_the_page_and_every_process(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "empty.yaml").write_text("# nothing to play: the page is up at once\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    half = "from meshlib.demo.bookinfo.play import application as it; it.REPLICAS = it.REPLICAS[:3]"
    code = f"{half}\nfrom meshlib.demo.commands import demo; demo()"
    command = [sys.executable, "-c", code, "bookinfo", "--port", "0", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**environment, "PYTHONUNBUFFERED": "1"}
    ) as run:
        assert run.stdout is not None
        told = ""
        for line in run.stdout:
            told += line
            if "Ctrl-C ends it" in line:
                break
        try:
            _metrics_are_where_it_says(told)
        except BaseException:
            run.kill()  # or its end would be waited for
            raise
        children = _children(run.pid)
        assert len(children) == 3
        run.send_signal(signal.SIGINT)
        said = run.stdout.read()
        assert run.wait(120) == 0, said
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.glob("bookinfo-*")) == []


def _metrics_are_where_it_says(told: str) -> None:
    """Each URL can be scraped, and the configuration for Prometheus has them all."""
    words = told.split()
    urls = [word for word in words if word.endswith("/metrics")]
    assert len(urls) == 2, told  # of productpage and reviews, who call
    for url in urls:
        assert "meshlib_config_info{" in httpx.get(url, trust_env=False).text
    (file,) = [word.partition("=")[2] for word in words if word.startswith("--config.file=")]
    config = json.loads(Path(file).read_text())
    targets = [target for each in config["scrape_configs"][0]["static_configs"] for target in each["targets"]]
    assert [f"http://{target}/metrics" for target in targets] == urls
    assert all(Path(each).is_file() for each in config["rule_files"])
    (folder,) = [word.partition("=")[2].strip(",") for word in words if word.startswith("GRAFANA_DASHBOARDS=")]
    assert (Path(folder) / "meshlib.json").is_file()


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list children in /proc")
    return [int(child) for child in listed.read_text().split()]


def test_help_shows_examples() -> None:
    said = CliRunner().invoke(demo, ["bookinfo", "--help"]).output
    assert "meshlib demo bookinfo --once" in said
    assert "--config" in said
