"""One replica of a Bookinfo service with its proxy: two processes that come and go together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.demo.process import Process
from meshlib.demo.sidecar.place import LOOPBACK, Place
from meshlib.demo.sidecar.proxy import Proxy

SERVICE = Path(__file__).with_name("service.py")
PORT = 9080
INBOUND, OUTBOUND = 15006, 15001


class Behind(Child):
    """A service behind a proxy, both at ``place``. ``port`` is where others reach the service."""

    def __init__(
        self,
        service: str,
        version: str,
        pod: str,
        mesh: Path,
        logs: Path,
        place: Place,
        port: int = 0,
        engine: str = "",
    ) -> None:
        self.host = place.host
        self._place = place
        command = [sys.executable, "-I", str(SERVICE), service, "--version", version, "--pod", pod]
        if place.led:
            command += ["--port", str(PORT), "--at", f"{place.host}:{PORT}"]
        Process.__init__(self, service, version, pod, place.app(command), logs)
        self._mesh = mesh
        self._logs = logs
        self._wanted = port
        self._engine = engine
        self._app = ""
        self._proxy: Proxy | None = None

    def begin(self, deadline: float) -> None:
        """Start the proxy, once the service says where it serves. Raises ChildDied."""
        super().wait_ready(deadline)
        self._app = f"{LOOPBACK}:{self.port}"
        who = workload_of(self.service, self.version)
        arguments = ["--config", str(self._mesh), "--workload", who.name]
        arguments += ["--labels", ",".join(f"{key}={value}" for key, value in who.labels.items())]
        arguments += ["--service-account", who.service_account, "--app", self._app]
        if self._place.led:
            arguments += ["--inbound", f"0.0.0.0:{INBOUND}", "--outbound", f"{LOOPBACK}:{OUTBOUND}", "--transparent"]
        else:
            arguments += ["--inbound", f"{LOOPBACK}:{self._wanted}", "--outbound", f"{LOOPBACK}:0"]
        arguments += ["--engine", self._engine] if self._engine else []
        self._proxy = Proxy(self.service, self.version, f"{self.pod}-proxy", arguments, self._logs, self._place)

    def wait_ready(self, deadline: float) -> None:
        """Until both serve, and each knows the other. Raises ChildDied."""
        if self._proxy is None:
            self.begin(deadline)
        ports = self.proxy.listens(("inbound", "outbound"), deadline)
        if self._place.led:
            self.port = PORT
        else:
            self.port = ports["inbound"]
            self.tell_app(at=f"{self.host}:{self.port}", proxy=f"{LOOPBACK}:{ports['outbound']}")

    @property
    def proxy(self) -> Proxy:
        """The one beside it, which has been started."""
        assert self._proxy is not None
        return self._proxy

    def ask(self, path: str) -> dict[str, Any]:
        """What the proxy's admin endpoint says in JSON."""
        return self.proxy.ask(path)

    def tell_app(self, **what: str) -> None:
        """Tell the service: past its proxy, where nothing leads there."""
        where = self.address if self._place.led else f"http://{self._app}"
        httpx.post(f"{where}/admin", params=what, trust_env=False).raise_for_status()

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
