"""One replica of a Bookinfo service, as a process."""

from __future__ import annotations

import sys
from pathlib import Path

from meshlib.demo.process import Process


class Child(Process):
    """``port`` is 0 until ``wait_ready`` returned; ``mesh`` is the folder of YAML it watches."""

    def __init__(
        self, service: str, version: str, pod: str, mesh: Path, logs: Path, port: int = 0, otlp: str = ""
    ) -> None:
        command = [sys.executable, "-m", "meshlib.demo.bookinfo.services.serve", service]
        command += ["--version", version, "--pod", pod, "--mesh", str(mesh), "--port", str(port), "--lifeline"]
        if otlp:
            command += ["--otlp", otlp]
        super().__init__(service, version, pod, command, logs)

    @property
    def address(self) -> str:
        """``http://host:port`` of this replica, past the mesh."""
        return f"http://{self.host}:{self.port}"
