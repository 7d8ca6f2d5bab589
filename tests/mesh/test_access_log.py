"""The options of access logs: where lines go, in which format, and what is wrong with them, said when the mesh is made."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import meshlib
from meshlib.errors import MeshError
from meshlib.mesh.access_log import from_env, log_options
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with EchoServer("v1") as made:
        yield made


def mesh(server: EchoServer, **options: Any) -> meshlib.Mesh:
    options.setdefault("registry", CollectorRegistry())
    return meshlib.Mesh.from_yaml("", endpoints={"reviews": f"127.0.0.1:{server.port}"}, **options)


def call(made: meshlib.Mesh, path: str = "/a") -> None:
    with made, made.client() as client:
        client.get(f"http://reviews{path}")


def test_nothing_is_wanted_and_nothing_is_imported() -> None:
    assert log_options(None, None, None) is None
    script = (
        "import sys, meshlib; m = meshlib.Mesh.from_yaml('');"
        "print([n for n in sys.modules if n.startswith('meshlib.telemetry.access_log')]); m.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file(server: EchoServer, tmp_path: Path) -> None:
    call(mesh(server, access_log=tmp_path / "a.log", access_log_format="%PATH% %RESPONSE_CODE%"))
    assert (tmp_path / "a.log").read_text() == "/a 200\n"


def test_a_logger_and_a_file(server: EchoServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.mesh.access")
    with caplog.at_level(logging.INFO, "test.mesh.access"):
        call(mesh(server, access_log=[logger, str(tmp_path / "a.log")], access_log_format="%PATH%"))
    assert (caplog.messages, (tmp_path / "a.log").read_text()) == (["/a"], "/a\n")


def test_the_programs_own_output(server: EchoServer) -> None:
    script = (
        "import meshlib, sys;"
        f"m = meshlib.Mesh.from_yaml('', endpoints={{'reviews': '127.0.0.1:{server.port}'}}, access_log='stdout',"
        " access_log_format='%PATH%');"
        "m.client().get('http://reviews/a')"  # nobody closes anything: the line is written when the interpreter ends
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "/a\n"


@pytest.mark.parametrize(
    ("form", "check"),
    [
        (None, lambda line: line.count('"') == 14),
        ("text", lambda line: line.endswith(" default")),
        ("envoy", lambda line: line.count('"') == 12),
        ("json", lambda line: json.loads(line)["response_code"] == 200),
        ({"p": "%PATH%", "n": {"c": "%RESPONSE_CODE%"}}, lambda line: json.loads(line) == {"p": "/a", "n": {"c": 200}}),
    ],
)
def test_formats(server: EchoServer, tmp_path: Path, form: Any, check: Any) -> None:
    call(mesh(server, access_log=tmp_path / "a.log", access_log_format=form))
    (line,) = (tmp_path / "a.log").read_text().splitlines()
    assert check(line), line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"access_log_format": "json"}, "access_log_format without access_log"),
        ({"access_log": "stdout", "access_log_format": "common"}, "'common' has no operator; it is text, envoy, json, a form"),
        ({"access_log": "stdout", "access_log_format": "%PATH%\n%NO%"}, "access_log_format, character 8: unknown operator"),
        ({"access_log": "stdout", "access_log_format": {"a": ["%NO%"]}}, r"access_log_format, key a\[0\], character 1: "),
        ({"access_log": "stdout", "access_log_format": "%CEL(request.pth)%"}, "it reads request.pth, which does not ex"),
        ({"access_log": "stdout", "access_log_format": {"a": "%TYPED_CEL(who)%"}}, "it reads who, which does not exist: an a"),
        ({"access_log": "stdout", "access_log_format": 7}, "access_log_format is text, a name"),
        ({"access_log": "stdout", "access_log_rate": "fast"}, "access_log_rate: 'fast' is not a valid rate"),
        ({"access_log": "/no/such/folder/a.log"}, "there is no folder /no/such/folder"),
        ({"access_log": "/"}, "is a folder"),
        ({"access_log": ""}, "is not a path"),
        ({"access_log": [7]}, "a path or a logging.Logger, not 7"),
        ({"access_log": 7}, "a path or a logging.Logger, not 7"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshError, match=message):
        meshlib.Mesh.from_yaml("", registry=CollectorRegistry(), **options)


def test_the_environment(server: EchoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_env({}) == (None, None, None)
    (tmp_path / "mesh.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path / "mesh.yaml"))
    monkeypatch.setenv("MESHLIB_ENDPOINTS", f"reviews=127.0.0.1:{server.port}")
    monkeypatch.setenv("MESHLIB_ACCESS_LOG", str(tmp_path / "a.log"))
    monkeypatch.setenv("MESHLIB_ACCESS_LOG_FORMAT", "%PATH%")
    monkeypatch.setenv("MESHLIB_ACCESS_LOG_RATE", "1/day")
    with meshlib.Mesh.from_env(registry=CollectorRegistry()) as made, made.client() as client:
        client.get("http://reviews/a")
        client.get("http://reviews/b")
        assert made.flush_access_logs(30)
        assert made.status()["access_logs"][0]["capped"] == 1
    assert (tmp_path / "a.log").read_text() == "/a\n"
    with meshlib.Mesh.from_env(registry=CollectorRegistry(), access_log=tmp_path / "b.log") as made:
        with made.client() as client:
            client.get("http://reviews/a")
    assert (tmp_path / "b.log").read_text().endswith(" default\n"), "a format belongs to the log that it was given with"


def test_what_is_not_written_is_a_metric(server: EchoServer, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    made = mesh(server, registry=registry, access_log=tmp_path / "a.log", access_log_rate="1/day")
    with made, made.client() as client:
        for _ in range(3):
            client.get("http://reviews/a")
        text = generate_latest(registry).decode()
    (line,) = [each for each in text.splitlines() if each.startswith("meshlib_telemetry_dropped_total")]
    assert 'kind="access_log"' in line
    assert line.endswith(" 2.0")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_write_their_own_lines(server: EchoServer, tmp_path: Path, method: str) -> None:
    path = tmp_path / "a.log"
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import multiprocessing
import meshlib

def work(mesh, n):
    mesh = mesh or make()
    mesh.client().get(f"http://reviews/child-{{n}}")

def make():
    return meshlib.Mesh.from_yaml(
        "", endpoints={{"reviews": "127.0.0.1:{server.port}"}}, access_log={str(path)!r}, access_log_format="%PATH%"
    )

if __name__ == "__main__":
    mesh = make()
    mesh.client().get("http://reviews/parent")  # perhaps not written yet when the children begin
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(mesh if {method!r} == "fork" else None, n)) for n in range(1)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)
    assert sorted(path.read_text().splitlines()) == ["/child-0", "/parent"]


RESOURCES = """
apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {{name: mesh}}
spec:
  extensionProviders:
  - name: file
    envoyFileAccessLog: {{path: {path}, logFormat: {{text: "%PATH% %RESPONSE_CODE%"}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: mesh-default, namespace: istio-system}}
spec:
  accessLogging:
  - providers: [{{name: file}}]
    filter: {{expression: "request.url_path.startsWith('/wanted') && response.code < 400"}}
"""


def test_resources_ask_for_logs_and_filter_them(server: EchoServer, tmp_path: Path) -> None:
    pytest.importorskip("cel_expr_python")
    path = tmp_path / "a.log"
    made = meshlib.Mesh.from_yaml(
        RESOURCES.format(path=path), endpoints={"reviews": f"127.0.0.1:{server.port}"}, registry=CollectorRegistry()
    )
    with made, made.client() as client:
        for path_called in ("/wanted/1", "/other", "/wanted/2?x=1"):
            client.get(f"http://reviews{path_called}")
    assert path.read_text() == "/wanted/1 200\n/wanted/2?x=1 200\n"
