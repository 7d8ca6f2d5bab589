"""A real Prometheus, and promtool, for tests: it scrapes what it is told to, and responds to queries.

The fixture ``prometheus`` is one for a module of tests (its first scrape is some seconds of waiting away), ``running()`` starts
one. They come from PATH, or from ``make prometheus``, which unpacks Debian's package into .venv, without root. Where there is
neither, tests are skipped and say so (``needs_prometheus``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

UNPACKED = Path(__file__).parents[2] / ".venv" / "prometheus"
LONG = 120.0
"""Seconds that anything may take on a busy machine. Prometheus itself looks for targets that are new every 5 s."""
PAUSE = 0.05
"""Seconds between two looks."""

Seen = TypeVar("Seen")


def found(tool: str) -> str | None:
    """Where ``prometheus`` or ``promtool`` is; None: nowhere."""
    unpacked = UNPACKED / "usr" / "bin" / tool
    return shutil.which(tool) or (str(unpacked) if unpacked.exists() else None)


needs_prometheus = pytest.mark.skipif(
    found("prometheus") is None or found("promtool") is None,
    reason="NO PROMETHEUS on PATH or in .venv/prometheus: what a real one would see is NOT tested (make prometheus)",
)


class Sample(NamedTuple):
    """One series of a response."""

    labels: Mapping[str, str]
    value: float


class QueryRefused(AssertionError):
    """Prometheus does not take the query: what it says."""


class Prometheus:
    """One that runs."""

    def __init__(self, url: str, folder: Path, interval: float) -> None:
        self.url = url
        self._folder = folder
        self._interval = interval
        self._jobs: dict[str, dict[str, Any]] = {}
        self._rules: list[str] = []
        self._write()

    def scrape(self, job: str, *targets: str, path: str = "/metrics") -> None:
        """Scrape these (``host:port``) from now on, as job ``job``, and no longer what the job had."""
        self._jobs[job] = {"job_name": job, "metrics_path": path, "static_configs": [{"targets": list(targets)}]}
        self._reload()

    def rules(self, *files: Path | str) -> None:
        """Evaluate the rules of these files from now on, and no others."""
        self._rules = [str(Path(file).resolve()) for file in files]
        self._reload()

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """An instant query, now or at a time (seconds since 1970). QueryRefused: it is not a valid one."""
        data = self._api("query", query=promql, **({} if at is None else {"time": str(at)}))
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def exemplars(self, promql: str, seconds: float = 3600.0) -> list[dict[str, Any]]:
        """The exemplars of the series that a query names, those of the last ``seconds``."""
        now = time.time()
        found = self._api("query_exemplars", query=promql, start=str(now - seconds), end=str(now + 1))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def until(self, promql: str, enough: Callable[[list[Sample]], Seen] | None = None) -> list[Sample]:
        """The response to a query once it has data, or once ``enough`` of it. AssertionError: it never comes; the error has
        what there was instead, and how the scrapes went."""
        latest: list[Sample] = []

        def look() -> bool:
            nonlocal latest
            latest = self.query(promql)
            return bool(latest) if enough is None else bool(enough(latest))

        if not _eventually(look):
            raise AssertionError(f"{promql} never had what was waited for; last: {latest}; scrapes: {self.health()}")
        return latest

    def scraped(self, job: str, times: int = 2) -> None:
        """Wait until each target of a job has been scraped so many times since now. What took too long is no scrape."""
        instances = len(self._jobs[job]["static_configs"][0]["targets"])
        began = time.time()
        up = f'up{{job="{job}"}}'
        query = f"sum_over_time({up}[1h]) - (sum_over_time({up}[1h] @ {began}) or {up} * 0)"
        self.until(query, lambda samples: len(samples) >= instances and all(each.value >= times for each in samples))

    def health(self) -> dict[str, str]:
        """How the last scrape of each target went: "up", or its error."""
        targets = self._api("targets", state="active")["activeTargets"]
        return {each["scrapeUrl"]: each["lastError"] or each["health"] for each in targets}

    def metadata(self) -> dict[str, list[dict[str, str]]]:
        """Type, help and unit of every family that was scraped."""
        found: dict[str, list[dict[str, str]]] = self._api("metadata")
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """What is pending or firing."""
        found: list[dict[str, Any]] = self._api("alerts")["alerts"]
        return found

    def _api(self, name: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{name}"
        body = urllib.parse.urlencode(parameters).encode()
        if name not in ("query", "query_exemplars"):
            url, body = f"{url}?{body.decode()}", None  # type: ignore[assignment]  # a GET
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=LONG) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise QueryRefused(f"{name} {parameters}: {error.code}: {said}") from None

    def _reload(self) -> None:
        self._write()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/reload", b""), timeout=LONG):
            pass

    def _write(self) -> None:
        every = f"{int(self._interval * 1000)}ms"
        self._folder.joinpath("prometheus.yml").write_text(
            json.dumps(  # JSON is YAML
                {
                    "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
                    "rule_files": self._rules,
                    "scrape_configs": list(self._jobs.values()),
                }
            )
        )

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=LONG):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """One for a module of tests, which imports this and is marked with ``needs_prometheus``."""
    with running() as server:
        yield server


@contextlib.contextmanager
def running(interval: float = 0.5, **jobs: str) -> Iterator[Prometheus]:
    """Start one that scrapes ``job="host:port"`` every ``interval`` seconds; it is over with the block."""
    binary = found("prometheus")
    assert binary is not None, "mark the tests that need it with needs_prometheus"
    with tempfile.TemporaryDirectory(prefix="prometheus-") as temporary:
        folder = Path(temporary)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = Prometheus(f"http://127.0.0.1:{port}", folder, interval)
        log = folder / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--web.enable-lifecycle",
                    "--enable-feature=exemplar-storage,promql-at-modifier",
                    "--log.level=warn",
                ],
                stdout=written,
                stderr=written,
                env={**os.environ, "GOMAXPROCS": "1"},
            )
        try:
            if not _eventually(lambda: process.poll() is not None or server._ready()) or process.poll() is not None:
                raise AssertionError(f"prometheus did not start: {log.read_text(errors='replace')}")
            for job, target in jobs.items():
                server.scrape(job, target)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(LONG)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)


def promtool(*arguments: str, given: bytes = b"") -> tuple[int, str]:
    """Run promtool: its exit status, and what it said."""
    binary = found("promtool")
    assert binary is not None, "mark the tests that need it with needs_prometheus"
    done = subprocess.run([binary, *arguments], input=given, capture_output=True, timeout=LONG, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def _eventually(look: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    return True


def unpack() -> str:
    """Unpack Debian's package, unless there is one. Returns where it is. OSError, SubprocessError: it cannot be had."""
    already = found("prometheus")
    if already is not None and found("promtool") is not None:
        return already
    with tempfile.TemporaryDirectory(prefix="prometheus-") as temporary:
        folder = Path(temporary)
        # lists of packages of our own: the machine's may be missing or old, and are not ours to write
        state, cache, lists = folder / "state", folder / "cache", folder / "state" / "lists"
        for each in (lists / "partial", cache / "archives" / "partial"):
            each.mkdir(parents=True)
        options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User="]
        options += ["-o", f"Dir::State={state}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        for command in (["update"], ["download", "prometheus"]):
            subprocess.run(
                ["apt-get", "-qq", *options, *command], cwd=folder, check=True, timeout=300, stdin=subprocess.DEVNULL
            )
        (package,) = folder.glob("prometheus_*.deb")
        whole = folder / "whole"
        subprocess.run(["dpkg", "-x", package, whole], check=True, timeout=300)
        (UNPACKED / "usr" / "bin").mkdir(parents=True, exist_ok=True)
        for tool in ("prometheus", "promtool"):
            shutil.move(whole / "usr" / "bin" / tool, UNPACKED / "usr" / "bin" / tool)
    return str(found("prometheus"))


if __name__ == "__main__":
    try:
        sys.stdout.write(f"prometheus: {unpack()}\n")
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(
            f"\nNO PROMETHEUS: its Debian package cannot be unpacked ({error}). The tests that ask a real one are SKIPPED.\n"
            "Install prometheus and promtool on PATH to run them.\n\n"
        )
