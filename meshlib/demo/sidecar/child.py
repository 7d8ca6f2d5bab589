"""One replica of a Bookinfo service with its proxy: two processes that come and go together."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx

from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.demo.process import ChildDied, Process

SERVICE = Path(__file__).with_name("service.py")
PROXY = """
import os, signal, sys, threading
def follow():  # whoever has started it: however that ends, no proxy is left behind
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from meshlib.cli.main import main
main()
"""
POLL_SECONDS = 0.02
ANYWHERE = "127.0.0.1:0"


class Behind(Child):
    """A service behind a proxy. ``port`` is the proxy's, where others reach the service."""

    def __init__(self, service: str, version: str, pod: str, mesh: Path, logs: Path, port: int = 0) -> None:
        command = [sys.executable, "-I", str(SERVICE), service, "--version", version, "--pod", pod]
        Process.__init__(self, service, version, pod, command, logs)
        self._mesh = mesh
        self._logs = logs
        self._wanted = port
        self._app = ""
        self._proxy: Process | None = None
        self.admin = logs / f"{pod}.sock"

    def wait_ready(self, deadline: float) -> None:
        """Until both serve, and each knows the other. Raises ChildDied."""
        super().wait_ready(deadline)
        self._app = f"127.0.0.1:{self.port}"
        who = workload_of(self.service, self.version)
        command = [sys.executable, "-c", PROXY, "proxy", "--config", str(self._mesh), "--workload", who.name]
        command += ["--labels", ",".join(f"{key}={value}" for key, value in who.labels.items())]
        command += ["--service-account", who.service_account, "--admin", f"unix:{self.admin}", "--drain", "1"]
        command += ["--inbound", f"127.0.0.1:{self._wanted}", "--app", self._app, "--outbound", ANYWHERE]
        self._proxy = Process(self.service, self.version, f"{self.pod}-proxy", command, self._logs)
        places = self._places(deadline)
        self.port = int(places["inbound"].rpartition(":")[2])
        self.tell_app(at=places["inbound"], proxy=places["outbound"])

    def _places(self, deadline: float) -> dict[str, str]:
        assert self._proxy is not None
        while time.monotonic() < deadline:
            self._proxy.check()
            try:
                found = self.ask("/listeners?format=json")["listener_statuses"] if self.admin.exists() else []
            except httpx.TransportError:  # it is there and does not listen yet
                found = []
            places = {each["name"].partition(":")[0]: each["local_address"] for each in found}
            if places.keys() >= {"inbound", "outbound"}:
                return places
            time.sleep(POLL_SECONDS)
        raise ChildDied(f"{self._proxy.pod} was not ready in time\n{self._proxy.log_tail()}")

    def ask(self, path: str) -> dict[str, Any]:
        """What the proxy's admin endpoint says in JSON."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.admin)), timeout=5.0) as client:
            found: dict[str, Any] = client.get(f"http://admin{path}").raise_for_status().json()
        return found

    def tell_app(self, **what: str) -> None:
        """Tell the service, past its proxy."""
        httpx.post(f"http://{self._app}/admin", params=what, trust_env=False).raise_for_status()

    def check(self) -> None:
        """Raises ChildDied when one of the two has ended."""
        super().check()
        if self._proxy is not None:
            self._proxy.check()

    def log_tail(self) -> str:
        """The end of both logs."""
        return super().log_tail() if self._proxy is None else f"{super().log_tail()}\n{self._proxy.log_tail()}"

    def kill(self) -> None:
        """End both at once."""
        if self._proxy is not None:
            self._proxy.kill()
        super().kill()

    def terminate(self) -> None:
        """Ask both to end."""
        if self._proxy is not None:
            self._proxy.terminate()
        super().terminate()

    def join(self, seconds: float) -> None:
        """Wait until both have ended; after ``seconds`` by force."""
        if self._proxy is not None:
            self._proxy.join(seconds)
        super().join(seconds)
