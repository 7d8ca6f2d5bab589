"""A page of the documentation, run as its reader would: sybil finds the blocks, each is run in its order.

- ``python``: executed, all blocks of a page in one namespace; functions named ``test_...`` are called. One whose first
  line is a comment with a file's name, ``# shop.py``, is written to that file instead.
- ``yaml``: written likewise; without a name it has to load without an error.
- ``sh``: commands, a line each (``\\`` goes on). ``pip install`` has to name meshlib and extras of it, and is not run;
  ``meshlib`` runs in this process, others in one of their own; one that ends in ``&`` runs until the page is over, and has to
  listen on the ports that it names before the next one starts.
- ``text`` right after one of these: what it (the last command) has printed, in this order; ``...`` stands for anything.
- ``toml``, ``ini``, ``dockerfile``, ``json`` and other ``text`` are shown.

``<!-- skip: next "reason" -->`` leaves a block out (``if(not installed("celery"), "reason")``: only then),
``<!--- invisible-code: python`` runs what the reader need not see, and ``<!-- ports: 9081 9082 -->`` has other ports in
their place, wherever they stand.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import SkipTest

from click.testing import CliRunner
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from benchmarks.free_ports import free_port
from meshlib.cli.main import main
from meshlib.mesh.alive import meshes
from meshlib.problems import Severity
from meshlib.resources.loader import load_text

SECONDS = 240.0
PLUGIN = "meshlib.testing.plugin"
NOT_HERE = {"iptables": "changes the machine", "bench": "takes too long"}
"""Commands that no page may run."""
SHOWN = ("dockerfile", "ini", "json", "toml")
NAME = re.compile(r"# ([\w./-]+\.\w+)(?:\s|$)")
PORTS = re.compile(r"^<!-- ports: ([\d ]+) -->$", re.MULTILINE)
OPENING = re.compile(r"^ *```(\S*)", re.MULTILINE)


class Page:
    """``with Page(file) as page: page.run()``; the current folder is the one that its files are written to."""

    def __init__(self, file: Path) -> None:
        text = file.read_text()
        for found in PORTS.findall(text):
            for port in found.split():
                text = re.sub(rf"\b{port}\b", str(free_port()), text)
        self.document = Document(text, str(file))
        self.document.namespace.update(__name__="page", installed=lambda name: find_spec(name) is not None)
        self.output: str | None = None
        """Of the last command, for the block that shows it."""
        self._processes: list[subprocess.Popen[str]] = []
        for language, evaluator in self._evaluators().items():
            for region in CodeBlockParser(language, evaluator)(self.document):
                self.document.add(region)
        for region in SkipParser()(self.document):
            self.document.add(region)

    def __enter__(self) -> Self:
        # pages show the metrics of the whole process: what other tests have left there is not the page's
        standing = {
            id(value)
            for name, of in list(sys.modules.items())
            if name.startswith("tests.")
            for value in vars(of).values()
        }
        for left in list(meshes):
            if id(left) not in standing:  # a module's own is that of a whole run, and counts in a registry of its own
                left.close()
        self._patience, DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.read, 120.0  # a machine may be busy
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        DEFAULT_TIMEOUT_CONFIG.read = self._patience
        for process in self._processes:
            process.kill()
            process.communicate(timeout=60)
        for value in list(self.document.namespace.values()):
            if type(value).__module__.startswith("meshlib.mesh"):
                value.close()

    def blocks_without_a_language(self) -> list[int]:
        """The lines of fences that say none."""
        found, opened, text = [], False, self.document.text
        for match in OPENING.finditer(text):
            if not opened and not match[1]:
                found.append(text.count("\n", 0, match.start()) + 1)
            opened = not opened
        return found

    def languages(self) -> set[str]:
        return {match[1] for match in OPENING.finditer(self.document.text) if match[1]}

    def run(self) -> list[str]:
        """The reasons of what was left out. The first block that does not do as it should raises."""
        reasons = []
        for example in self.document.examples():
            try:
                example.evaluate()
            except SkipTest as skipped:
                reasons.append(str(skipped))
                self.output = None
            except Exception as error:
                error.add_note(f"{self.document.path}:{example.line}")
                raise
        return reasons

    @classmethod
    def known_languages(cls) -> set[str]:
        return {"python", "yaml", "sh", "text", *SHOWN}

    def _evaluators(self) -> dict[str, Callable[[Example], None]]:
        own = {"python": self._python, "yaml": self._yaml, "sh": self._sh, "text": self._text}
        return own | dict.fromkeys(SHOWN, self._shown)

    def _written(self, source: str) -> bool:
        named = NAME.match(source)
        if named is None:
            return False
        file = Path(named[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        return True

    def _python(self, example: Example) -> None:
        self.output = None
        source = str(example.parsed)
        if not self._written(source):
            lines = "\n" * (example.line + example.parsed.line_offset)
            code = compile(lines + source, self.document.path, "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, example.namespace)
                for name in re.findall(r"^def (test_\w+)\(\)", source, re.MULTILINE):
                    example.namespace[name]()
            self.output = printed.getvalue()

    def _yaml(self, example: Example) -> None:
        self.output = None
        if not self._written(str(example.parsed)):
            problems = load_text(str(example.parsed), f"{self.document.path}:{example.line}").problems
            wrong = [str(problem) for problem in problems if problem.severity is Severity.ERROR]
            assert not wrong, "\n".join(wrong)

    def _sh(self, example: Example) -> None:
        self.output = None
        for line in str(example.parsed).replace("\\\n", " ").splitlines():
            command = line.partition("  #")[0].strip()
            if command and not command.startswith("#"):
                self.output = self._command(command)

    def _command(self, command: str) -> str:
        words = shlex.split(command)
        if words[-1] == "&":
            self._in_the_background(words[:-1])
            return ""
        if words[0] == "meshlib":
            assert words[1] not in NOT_HERE, f"{command}: {NOT_HERE[words[1]]}; the page has to skip the block"
            ran = CliRunner().invoke(main, words[1:])
            assert ran.exit_code in (0, 1), ran.output
            return ran.output
        if words[:2] == ["pip", "install"]:
            assert all(is_ours(word) for word in words[2:]), f"{command}: that is not meshlib, or not an extra of it"
            return ""
        program = [sys.executable if words[0] == "python" else words[0], *words[1:]]
        if words[0] == "pytest":
            # a checkout that was installed before it had the plugin is told of it
            installed = any(found.value == PLUGIN for found in importlib.metadata.entry_points(group="pytest11"))
            plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", *([] if installed else ["-p", PLUGIN])]
            program = [sys.executable, "-m", "pytest", *plugins, *words[1:]]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, env=environment())
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr

    def _in_the_background(self, words: list[str]) -> None:
        program = {"python": [sys.executable], "meshlib": [sys.executable, "-m", "meshlib"]}.get(words[0], words[:1])
        process = subprocess.Popen(
            [*program, *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self._processes.append(process)
        said: list[str] = []
        pipe = process.stdout
        assert pipe is not None
        threading.Thread(target=lambda: said.extend(iter(pipe.readline, "")), daemon=True).start()
        for port in re.findall(r"\b\d{5}\b", " ".join(words)):
            while not _listens(int(port)):
                assert process.poll() is None, f"{shlex.join(words)} has ended:\n{''.join(said)}"

    def _text(self, example: Example) -> None:
        if self.output is None:
            return
        shown = [re.escape(part.strip()) for part in re.split(r"\.\.\.", str(example.parsed).strip())]
        pattern = r"[\s\S]*?".join(re.sub(r"(\\ |\\\n|\s)+", lambda _: r"\s+", part) for part in shown)
        assert re.search(pattern, self.output), f"printed was:\n{self.output}\nand the page shows:\n{example.parsed}"
        self.output = None

    def _shown(self, example: Example) -> None:
        self.output = None


def is_ours(requirement: str) -> bool:
    """Whether it is meshlib's distribution, with extras that it has."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    found = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?(?: @ .*)?", requirement)
    extras = found[2].split(",") if found is not None and found[2] else []
    return found is not None and found[1] == project["name"] and set(extras) <= set(project["optional-dependencies"])


def environment() -> dict[str, str]:
    """Of the reader's programs: they find meshlib as this process does, and nothing of the folder's tests."""
    paths = [path for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=SECONDS):
        return True
    return False
