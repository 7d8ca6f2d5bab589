"""What ``run.py`` starts: certificates, the proxies, the three services; and how it finds their ports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx

HERE = Path(__file__).resolve().parent
MESHLIB = [sys.executable, "-m", "meshlib"]
NAMESPACE = "shop"
ACCOUNTS = ("web", "stock", "prices", "shopper")
NEEDS = {"web": "node", "stock": "go"}
READY_SECONDS = 60
BUILD_SECONDS = 300
END_SECONDS = 10
Found = TypeVar("Found")


class CannotRun(RuntimeError):
    """Something did not start; the message says what, and ends with its log."""


def wait_for(look: Callable[[], Found | None], what: str, log: Callable[[], str]) -> Found:
    """What ``look`` finds, sooner or later."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise CannotRun(f"{what}: not within {READY_SECONDS} s\n{log()}")


class Running:
    """A process, with its log."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, **environment: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )

    def log(self) -> str:
        """The end of it."""
        return f"--- the end of the log of {self.name}:\n" + "\n".join(self.text().splitlines()[-25:])

    def text(self) -> str:
        """All of it."""
        return self._log.read_text("utf-8", "replace")

    def check(self) -> None:
        """Raises ``CannotRun`` when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise CannotRun(f"{self.name} ended with exit code {code}\n{self.log()}")

    def signal(self, number: int) -> None:
        """Nothing for one that has ended."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """After SIGTERM; by force if that does not help."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Workload:
    """A service of the mesh as one process or two: ``port`` is where others reach it, over mTLS."""

    def __init__(self, app: str, version: str, folder: Path) -> None:
        self.app = app
        self.version = version
        self.name = f"{app}-{version}"
        self.port = 0
        self.running: list[Running] = []
        self._folder = folder
        self._admin = folder / f"{self.name}.admin"
        self.meshes = [self._admin]

    def page(self, path: str, admin: Path | None = None) -> httpx.Response:
        """A page of its admin endpoint, or of another of ``meshes``."""
        transport = httpx.HTTPTransport(uds=str(admin or self._admin))
        with httpx.Client(transport=transport, base_url="http://admin", timeout=10, trust_env=False) as client:
            return client.get(path)

    def start(self, kind: str, what: Sequence[str | Path], **environment: str) -> Running:
        """``meshlib serve`` or ``meshlib proxy`` as this workload."""
        svid = self._folder / "svid" / self.app
        options: list[str | Path] = [
            "--config",
            self._folder / "mesh",
            "--admin",
            f"unix:{self._admin}",
            "--drain",
            "1",
        ]
        options += ["--workload", self.name, "--namespace", NAMESPACE, "--service-account", self.app]
        options += ["--labels", f"app={self.app},version={self.version}"]
        options += ["--cert", svid / "cert.pem", "--key", svid / "key.pem", "--bundle", svid / "bundle.pem"]
        made = Running(f"{self.name}-{kind}", [*MESHLIB, kind, *what, *options], self._folder, **environment)
        self.running.append(made)
        return made


class BehindProxy(Workload):
    """A service that is not Python: ``meshlib proxy`` beside it has the certificate and both directions."""

    def __init__(self, app: str, version: str, command: Sequence[str | Path], folder: Path) -> None:
        super().__init__(app, version, folder)
        self._command = command
        self._socket = folder / f"{self.name}.app"
        anywhere = "127.0.0.1:0"
        # to policies the application is at port 8080, wherever its socket is; a service at a port has --app 127.0.0.1:8080
        inbound = ["--inbound", anywhere, "--app", f"unix:{self._socket}", "--app-port", "8080"]
        self._proxy = self.start("proxy", ["--outbound", anywhere, *inbound])

    def wait(self) -> None:
        """Until the proxy has its ports, and the service, which has to know one of them, its socket."""
        places = wait_for(self._places, f"{self.name}: the ports of its proxy", self._proxy.log)
        self.port = int(places["inbound"].rpartition(":")[2])
        environment = {
            "HTTP_PROXY": f"http://{places['outbound']}",
            "SOCKET": str(self._socket),
            "VERSION": self.version,
        }
        service = Running(self.name, self._command, self._folder, **environment)
        self.running.append(service)
        wait_for(lambda: self._listens(service), f"{self.name}: its socket", service.log)

    def _places(self) -> dict[str, str] | None:
        self._proxy.check()
        try:
            rows = self.page("/listeners?format=json").json()["listener_statuses"]
        except (httpx.TransportError, ValueError):
            return None
        found = {row["name"].partition(":")[0]: row["local_address"] for row in rows}
        return found if {"inbound", "outbound"} <= found.keys() else None

    def _listens(self, service: Running) -> bool | None:
        service.check()
        return self._socket.exists() or None


class Served(Workload):
    """The one that is Python, under ``meshlib serve``; its calls are those of its own mesh, which it makes of MESHLIB_*."""

    def __init__(self, app: str, folder: Path) -> None:
        super().__init__(app, "v1", folder)
        svid = folder / "svid" / app
        own = folder / f"{self.name}.calls.admin"
        self.meshes.append(own)
        environment = {
            "MESHLIB_ADMIN": f"unix:{own}",
            "MESHLIB_CONFIG": str(folder / "mesh"),
            "MESHLIB_WORKLOAD": self.name,
            "MESHLIB_NAMESPACE": NAMESPACE,
            "MESHLIB_LABELS": f"app={app},version=v1",
            "MESHLIB_SERVICE_ACCOUNT": app,
            "MESHLIB_CERT": str(svid / "cert.pem"),
            "MESHLIB_KEY": str(svid / "key.pem"),
            "MESHLIB_BUNDLE": str(svid / "bundle.pem"),
        }
        self._serving = self.start("serve", [f"{app}:app", "--app-dir", HERE, "--port", "0"], **environment)

    def wait(self) -> None:
        """Until it serves."""
        self.port = int(wait_for(self._said, f"{self.name}: its port", self._serving.log))

    def _said(self) -> str | None:
        self._serving.check()
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self._serving.text())
        return found[1] if found else None


class Shop:
    """All of it, in ``folder``, by the resources of another.

    ``missing`` are the tools without which a service could not be started.
    """

    def __init__(self, folder: Path, resources: Path, without: Sequence[str] = ()) -> None:
        self.folder = folder
        self._resources = resources
        self.missing = [tool for tool in ("node", "go") if tool in without or shutil.which(tool) is None]
        self.workloads: list[BehindProxy | Served] = []

    def start(self) -> None:
        """Certificates, processes, and where each is served. Raises ``CannotRun``."""
        shutil.copytree(self._resources, self.folder / "mesh")
        self._certificates()
        self.workloads.append(Served("prices", self.folder))
        if "node" not in self.missing:
            self.workloads.append(BehindProxy("web", "v1", ["node", HERE / "web" / "web.mjs"], self.folder))
        if "go" not in self.missing:
            program = self.folder / "stock"
            stocks = [BehindProxy("stock", version, [program], self.folder) for version in ("v1", "v2")]
            self.workloads += stocks
            self._build(program)
        for workload in self.workloads:
            workload.wait()
        self._tell()

    def stop(self) -> None:
        """All at once; a proxy lets requests that it has finish."""
        running = [each for workload in self.workloads for each in workload.running]
        for each in running:
            each.signal(signal.SIGTERM)
        for each in running:
            each.end()

    def of(self, name: str) -> Workload:
        """A workload that has been started."""
        return next(each for each in self.workloads if each.name == name)

    def logs(self) -> str:
        """What all have said last."""
        return "\n".join(each.log() for workload in self.workloads for each in workload.running)

    def _certificates(self) -> None:
        authority = self.folder / "ca"
        self._tool([*MESHLIB, "ca", "init", authority, "--trust-domain", "cluster.local"])
        for account in (each for each in ACCOUNTS if NEEDS.get(each) not in self.missing):
            out = ["--out", self.folder / "svid" / account, "--dns", "127.0.0.1"]
            self._tool([*MESHLIB, "ca", "issue", authority, "-n", NAMESPACE, "--service-account", account, *out])

    def _build(self, program: Path) -> None:
        self._tool(["go", "build", "-o", program, "."], HERE / "stock", GOTOOLCHAIN="local", GOFLAGS="-buildvcs=false")

    @staticmethod
    def _tool(command: Sequence[str | Path], folder: Path | None = None, **environment: str) -> None:
        words = [str(word) for word in command]
        try:
            subprocess.run(
                words,
                cwd=folder,
                env={**os.environ, **environment},
                check=True,
                timeout=BUILD_SECONDS,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            raise CannotRun(f"{' '.join(words)}: exit code {error.returncode}\n{error.stdout}") from None
        except subprocess.TimeoutExpired:
            raise CannotRun(f"{' '.join(words)}: not within {BUILD_SECONDS} s") from None

    def _tell(self) -> None:
        """As a cluster's discovery would: one WorkloadEntry each. All processes notice the new file."""
        documents = [
            "apiVersion: networking.istio.io/v1\n"
            "kind: WorkloadEntry\n"
            f"metadata: {{name: {each.name}, namespace: {NAMESPACE}}}\n"
            "spec:\n"
            "  address: 127.0.0.1\n"
            f"  ports: {{http: {each.port}}}\n"
            f"  labels: {{app: {each.app}, version: {each.version}}}\n"
            f"  serviceAccount: {each.app}\n"
            for each in self.workloads
        ]
        written = self.folder / "workloads.yaml"
        written.write_text("---\n".join(documents))
        written.rename(self.folder / "mesh" / "workloads.yaml")  # whole, or not there
        for each in self.workloads:
            each.running[0].signal(signal.SIGHUP)  # now, not at the next look
            wait_for(lambda at=each: self._knows(at), f"{each.name}: where the others are", each.running[0].log)

    def _knows(self, workload: Workload) -> bool | None:
        for admin in workload.meshes:
            known = workload.page("/clusters", admin).text
            if not all(f"::127.0.0.1:{each.port}::" in known for each in self.workloads):
                return None
        return True
