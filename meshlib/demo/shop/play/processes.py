"""The shop's processes and the folder that configures them: start, publish, drill, kill, stop."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from meshlib.demo.discovery import endpoint_resources
from meshlib.demo.process import Process
from meshlib.demo.shop import APP, CONFIG

CATALOGS = ("v1", "v1", "v2")
START_SECONDS = 30.0
TELL_SECONDS = 5.0
STOP_SECONDS = 3.0


class Shop:
    """A context manager. ``folder`` is where the mesh's YAML lies, ``children`` are the replicas that run; ``keep_files``
    leaves YAML and logs behind at the end (an error does so, too)."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="grpc-shop-"))
        self.folder = self.root / "mesh"
        self.logs = self.root / "logs"
        self.logs.mkdir()
        shutil.copytree(CONFIG, self.folder)
        self.children: list[Process] = []
        self.keep_files = False
        self._numbers: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        try:
            self.start([self._child("catalog", version) for version in CATALOGS])
            self.start([self._child("orders", "v1")])  # second: it finds the catalogs at once
        except BaseException as error:
            self.stop(keep_files=isinstance(error, Exception))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # the logs are what explains a failure, so they stay then; not when a signal ended the run
        self.stop(keep_files=self.keep_files or isinstance(error, Exception))

    def catalogs(self, version: str) -> list[Process]:
        """The replicas of a version of the catalog."""
        return [c for c in self.children if c.service == "catalog" and c.version == version]

    def drill(self, mode: str, *versions: str) -> None:
        """Tell every catalog of these versions what to do wrong ("none": nothing). Raises ChildDied."""
        for child in (child for version in versions for child in self.catalogs(version)):
            child.tell(mode, time.monotonic() + TELL_SECONDS)

    def kill(self, child: Process) -> None:
        """End a replica as a crash would. Discovery goes on naming it: that nobody knows is the point."""
        child.kill()
        child.join(STOP_SECONDS)
        self.children.remove(child)

    def replace(self, version: str) -> None:
        """Start a replica of the catalog for one that was killed, and tell discovery."""
        self.start([self._child("catalog", version)])

    def start(self, children: Sequence[Process]) -> None:
        """Wait for ``children`` and publish them. Raises ChildDied."""
        deadline = time.monotonic() + START_SECONDS
        for child in children:
            child.wait_ready(deadline)
        docs = [doc for child in self.children for doc in endpoint_resources(child, "shop", "grpc")]
        prepared = self.root / "endpoints.yaml"
        prepared.write_text(yaml.safe_dump_all(docs, sort_keys=False), "utf-8")
        os.replace(prepared, self.folder / "endpoints.yaml")  # whole or not at all: others are watching

    def check(self) -> None:
        """Raises ChildDied when a replica has ended by itself."""
        for child in self.children:
            child.check()

    def stop(self, *, keep_files: bool = False) -> None:
        """End every process, in time or by force. Idempotent."""
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            child.join(max(0.1, deadline - time.monotonic()))
        self.children.clear()
        if not keep_files:
            shutil.rmtree(self.root, ignore_errors=True)

    def _child(self, service: str, version: str) -> Process:
        number = self._numbers[service, version] = self._numbers.get((service, version), 0) + 1
        pod = f"{service}-{version}-{number}"
        command = [sys.executable, "-m", f"shop.{service}", "--mesh", str(self.folder), "--version", version]
        child = Process(service, version, pod, [*command, "--pod", pod, "--lifeline"], self.logs, [APP])
        self.children.append(child)  # before anything can fail, so that stop() knows it
        return child
