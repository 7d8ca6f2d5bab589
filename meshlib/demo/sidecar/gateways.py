"""How Bookinfo is entered and left: an ingress and an egress gateway, and somebody outside who is called through it."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from meshlib.demo.discovery import endpoint_resources
from meshlib.demo.process import ChildDied, Process
from meshlib.demo.sidecar.child import SERVICE
from meshlib.demo.sidecar.place import Place
from meshlib.demo.sidecar.proxy import Proxy
from meshlib.demo.sidecar.service import BOOKS
from meshlib.security.authority import Authority

EDGE = Path(__file__).with_name("config") / "edge.yaml"
NAME = "bookinfo.example.com"
SECRET = "bookinfo-cert"
NAMESPACE = "istio-system"
TRUST_DOMAIN = "example.com"
DAY = 86400.0
OPEN_POLL_SECONDS = 0.05


class Gateways:
    """``mesh`` is the folder that all proxies watch; that of the Secret is the ingress gateway's alone. Each of the three
    processes runs at a place that ``place`` gives for its name."""

    def __init__(
        self, mesh: Path, logs: Path, root: Path, place: Callable[[str], Place], now: float, engine: str = ""
    ) -> None:
        self._mesh = mesh
        self._engine = engine
        self._secrets = root / "secrets"
        self._secrets.mkdir(mode=0o700)
        self._staging = root / "staging"
        self._authority = Authority.root(TRUST_DOMAIN, now, ttl=DAY)
        self.root_pem = self._authority.certificates_pem.decode()
        self.root_file = root / "root.pem"
        self.root_file.write_text(self.root_pem)
        self.new_certificate(now)
        _write(self._staging, mesh / "edge.yaml", EDGE.read_text("utf-8"))
        outside = place("books")
        books = [sys.executable, "-I", str(SERVICE), "books"]
        books += ["--host", outside.host, "--port", "80" if outside.led else "0"]
        self.outside = Process("books", "", "books", outside.app(books), logs)
        self.outside.host = outside.host
        self.ingress = self._gateway("ingressgateway", logs, place, [self._secrets], (80, 443))
        self.egress = self._gateway("egressgateway", logs, place, [], (80,))
        self.plain_port = self.port = 0

    @property
    def processes(self) -> list[Process]:
        """All of them."""
        return [self.ingress, self.egress, self.outside]

    def new_certificate(self, now: float) -> int:
        """Put another one into the Secret; its serial number."""
        made = self._authority.issue(f"spiffe://{TRUST_DOMAIN}/{NAME}", now, ttl=DAY, dns=[NAME])
        data = {"tls.crt": made.chain_pem, "tls.key": made.key_pem}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        _write(self._staging, self._secrets / "secret.yaml", yaml.safe_dump(secret))
        return _serial(made.leaf)

    def wait_ready(self, deadline: float) -> None:
        """Until all serve; then it is written for the others where they do. Raises ChildDied."""
        self.outside.wait_ready(deadline)
        ports = self.ingress.listens(("gateway:80", "gateway:443"), deadline)
        self.plain_port, self.port = ports["gateway:80"], ports["gateway:443"]
        self.egress.port = self.egress.listens(("gateway:80",), deadline)["gateway:80"]
        found = endpoint_resources(self.egress, "gateways", "http", service="istio-egressgateway", namespace=NAMESPACE)
        _write(self._staging, self._mesh / "outside.yaml", yaml.safe_dump_all([*found, self._service_entry()]))

    def wait_open(self, deadline: float, path: str) -> None:
        """Until a visitor gets ``path``. Raises ChildDied."""
        url, named = f"https://{self.ingress.host}:{self.port}{path}", {"sni_hostname": NAME}
        with httpx.Client(verify=self.context(), headers={"host": NAME}, trust_env=False, timeout=5.0) as client:
            while True:
                for each in self.processes:
                    each.check()
                try:
                    seen = f"status {client.get(url, extensions=named).status_code}"
                except httpx.TransportError as error:
                    seen = str(error) or type(error).__name__
                if seen == "status 200":
                    return
                if time.monotonic() > deadline:
                    tails = "\n".join(each.log_tail() for each in self.processes)
                    raise ChildDied(f"nobody gets through the ingress gateway: {seen}\n{tails}")
                time.sleep(OPEN_POLL_SECONDS)

    def context(self) -> ssl.SSLContext:
        """That of a visitor who verifies the gateway by our root."""
        return ssl.create_default_context(cadata=self.root_pem)

    def serial(self) -> int:
        """Of the certificate that the gateway shows to one more connection."""
        with (
            socket.create_connection((self.ingress.host, self.port), 10.0) as sock,
            self.context().wrap_socket(sock, server_hostname=NAME) as tls,
        ):
            return _serial(tls.getpeercert(binary_form=True) or b"")

    def left_by(self) -> dict[str, int]:
        """How the requests that have reached the outside came there."""
        url = f"http://{self.outside.host}:{self.outside.port}/left"
        found: dict[str, int] = httpx.post(url, trust_env=False).raise_for_status().json()["left_by"]
        return found

    def terminate(self) -> None:
        """Ask all to end."""
        for each in self.processes:
            each.terminate()

    def join(self, deadline: float) -> None:
        """Wait until they have."""
        for each in self.processes:
            each.join(max(0.1, deadline - time.monotonic()))

    def forget_keys(self) -> None:
        """No key is left where logs are."""
        shutil.rmtree(self._secrets, ignore_errors=True)

    def _gateway(
        self, name: str, logs: Path, place: Callable[[str], Place], more: list[Path], ports: tuple[int, ...]
    ) -> Proxy:
        where = place(name)
        arguments = ["--gateways", "--namespace", NAMESPACE, "--labels", f"istio={name}", "--workload", name]
        arguments += ["--engine", self._engine] if self._engine else []
        for folder in (self._mesh, *more):
            arguments += ["--config", str(folder)]
        for port in ports if not where.led else ():
            arguments += ["--gateway-port", f"{port}={where.host}:0"]
        return Proxy(name, "", name, arguments, logs, where)

    def _service_entry(self) -> dict[str, Any]:
        endpoint = {"address": self.outside.host, "ports": {"http": self.outside.port}}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "books", "namespace": "default"},
            "spec": {
                "hosts": [BOOKS],
                "location": "MESH_EXTERNAL",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [endpoint],
            },
        }


def dns_names(der: bytes) -> list[str]:
    """Whom a certificate is for."""
    from cryptography import x509

    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


def _serial(der: bytes) -> int:
    from cryptography import x509

    return x509.load_der_x509_certificate(der).serial_number


def _write(staging: Path, file: Path, text: str) -> None:
    prepared = staging / file.name
    prepared.touch(0o600)
    prepared.write_text(text)
    os.replace(prepared, file)
