"""Commands in a locale that knows only ASCII (LANG=C): text beyond it in files, URLs and options is no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MESH = """\
apiVersion: v1
kind: Service
metadata: {name: kitchen, annotations: {was: küche}}
spec: {ports: [{port: 80, name: http}], selector: {app: "日本"}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: kitchen}
spec:
  hosts: [kitchen]
  http:
  - name: überall ✓
    match: [{headers: {end-user: {exact: 日本}}}]
    directResponse: {status: 200, body: {string: 日本}}
  - route: [{destination: {host: kitchen, subset: nowhere}}]
---
apiVersion: x.example/v1
kind: Ünknown
metadata: {name: 日本}
"""
BROKEN = MESH.replace("subset: nowhere", "subsset: é")
PROGRAM = """
import json, os, sys, traceback
from meshlib.cli.main import main
commands, current = [], []
for word in sys.argv[1:]:
    if word == "//":
        commands.append(current)
        current = []
    else:
        current.append(word)
for arguments in commands:
    os.write(1, b"### " + os.fsencode(" ".join(arguments)) + b"\\n")
    try:
        main.main(arguments, prog_name="meshlib")
    except SystemExit as left:
        sys.stdout.flush()
        os.write(1, b"exit %d\\n" % (left.code if isinstance(left.code, int) else 99))
    except BaseException:
        sys.stdout.flush()
        os.write(1, b"exit TRACEBACK " + traceback.format_exc().encode("ascii", "backslashreplace") + b"\\n")
"""
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
C = {"LANG": "C", "LC_ALL": "C"}
STRICT = {"LANG": "C.UTF-8", "PYTHONIOENCODING": "ascii"}


def run_all(commands: list[list[str]], environment: dict[str, str]) -> dict[str, list[str]]:
    """What each command writes, in one process; the last line is how it ended."""
    words = [word for command in commands for word in (*command, "//")]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**kept, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )
    text = made.stdout.decode("utf-8", "replace")
    found: dict[str, list[str]] = {}
    for block in text.split("### ")[1:]:
        head, *lines = block.splitlines()
        found[head] = lines
    assert len(found) == len(commands), made.stderr.decode("utf-8", "replace")
    return found


@pytest.mark.parametrize("environment", [ASCII, C, STRICT], ids=["ascii", "C", "strict"])
def test_no_command_ends_with_a_traceback(tmp_path: Path, environment):
    good, broken = tmp_path / "good", tmp_path / "broken"
    for folder, text in ((good, MESH), (broken, BROKEN)):
        folder.mkdir()
        (folder / "mesh.yaml").write_text(text, "utf-8")
    (good / "küche.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
    urls = ["http://küche/straße?q=日本", "http://kitchen/ü", "grpc://küche:80/ä.B/C", "http://日本 x/"]
    commands = [
        *[[command, str(folder)] for command in ("validate", "analyze", "coverage", "status") for folder in (good, broken)],
        ["validate", str(broken), "--format", "json"],
        ["validate", str(broken), "--format", "github"],
        ["analyze", str(broken), "-o", "sarif"],
        ["analyze", str(good), "-S", "IST0101=日本"],
        ["validate", str(tmp_path / "日本")],
        *[["explain", str(good), url, "-H", "end-user: 日本"] for url in urls],
        ["explain", str(good), urls[1], "-H", "ünd: x", "--format", "json"],
        ["explain", "--inbound", str(good), "/ü", "--principal", "clüster/ns/a/sa/日", "-H", "x: 日"],
        ["status", str(good), "--labels", "ä=日"],
        ["ca", "init", str(tmp_path / "cä"), "--trust-domain", "tést"],
        ["ca", "inspect", str(good / "küche.yaml")],
        ["serve", "é:app", "--config", str(broken)],
        ["local", "é=日:80", "-o", "-"],
        ["ünknown"],
    ]  # fmt: skip
    found = run_all(commands, environment)
    assert not [(head, lines) for head, lines in found.items() if "TRACEBACK" in "".join(lines)]
    assert not [head for head, lines in found.items() if not lines[-1].startswith("exit ") or lines[-1] == "exit 99"]


@pytest.mark.parametrize("environment", [ASCII, C, STRICT], ids=["ascii", "C", "strict"])
def test_what_is_typed_means_the_same_in_each_locale(tmp_path: Path, environment):
    (tmp_path / "mesh.yaml").write_text(MESH, "utf-8")
    command = ["explain", str(tmp_path), "http://kitchen/", "-H", "end-user: 日本", "--format", "json"]
    (lines,) = run_all([command], environment).values()
    assert json.loads("\n".join(lines[:-1]))["rule"] == 0
