"""Memory after many handshakes: a server that meets each caller once, and a client that makes each call on a new connection."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import meshlib
from benchmarks.measure import Row
from meshlib.clock import SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles

SERVER = "spiffe://cluster.local/ns/default/sa/server"
MAIN = "from meshlib.cli.main import main; main()"
TARGET = 1.5
WARM_UP = 100
"""Handshakes before the first look: what is made on first use is there then."""
PRINCIPALS = 50
"""Of those who call a server: Istio's metrics have a label of it, so each is remembered for as long as the server runs, in a
sidecar too. Certificates are new with each call."""
APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""


def churn(quick: bool) -> list[Row]:
    """Resident memory of ``meshlib serve`` and of a client of the mesh after so many handshakes over that before."""
    if importlib.util.find_spec("uvicorn") is None:
        return [Row("churn", 0.0, "", details="not measured: uvicorn is not installed")]
    count = 500 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as (root, pid, port):
        callers = Callers(root, port)
        return [
            _row("meshlib serve", f"{count:,} full handshakes, each of another certificate", callers.call, count, pid),
            _of_client(Path(folder), port, 200 if quick else count),
        ]


class Callers:
    """Each has a certificate of its own, and calls once."""

    def __init__(self, root: Authority, port: int) -> None:
        self.root, self.port = root, port
        self.bundles = TrustBundles({"cluster.local": (root.root_der,)})
        self.made = 0

    def call(self) -> None:
        """A full handshake, a request, its response. Raises RuntimeError when it is not 200."""
        self.made += 1
        name = f"caller-{self.made % PRINCIPALS}"
        svid = self.root.issue(f"spiffe://cluster.local/ns/default/sa/{name}", SystemClock.time())
        context = Credentials(svid, self.bundles).client_context(("http/1.1",))
        with (
            socket.create_connection(("127.0.0.1", self.port), 30) as sock,
            context.wrap_socket(sock, server_hostname="server") as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
            response = b""
            with contextlib.suppress(ssl.SSLEOFError):
                while data := tls.recv(65536):
                    response += data
        if not response.startswith(b"HTTP/1.1 200") or tls.session_reused:
            raise RuntimeError(f"not a call on a full handshake: {response[:200]!r}")


def _of_client(folder: Path, port: int, count: int) -> Row:
    identity = meshlib.Identity.from_files(folder / "cert.pem", folder / "key.pem", folder / "bundle.pem")
    with meshlib.Mesh.from_resources(_resources(port), identity=identity) as mesh, mesh.client() as client:

        def call() -> None:
            response = client.get("http://server.test:9080/", headers={"connection": "close"})
            if response.status_code != 200:
                raise RuntimeError(f"{response.status_code} {response.text}")

        return _row("mesh.client()", f"{count:,} calls, each on a new mTLS connection", call, count, os.getpid())


def _row(who: str, what: str, call: object, count: int, pid: int) -> Row:
    assert callable(call)
    for _ in range(WARM_UP):
        call()
    before = resident(pid)
    for _ in range(count):
        call()
    after = resident(pid)
    details = f"{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB"
    return Row(f"memory after / before {what}: {who}", after / before, "x", TARGET, details=details)


def resident(pid: int) -> int:
    """Bytes."""
    gc.collect()
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _resources(port: int) -> list[dict[str, object]]:
    spec = {
        "hosts": ["server.test"],
        "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
        "subjectAltNames": [SERVER],
    }
    rule = {"host": "server.test", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    common = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "server", "namespace": "default"}}
    return [{**common, "kind": "ServiceEntry", "spec": spec}, {**common, "kind": "DestinationRule", "spec": rule}]


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[Authority, int, int]]:
    """``meshlib serve`` of one process, STRICT: the root of its certificate, its pid and port."""
    from meshlib.security.pem import pem_of

    root = Authority.root("cluster.local", SystemClock.time())
    svid = root.issue(SERVER, SystemClock.time())
    for name, content in (("cert", svid.chain_pem), ("key", svid.key_pem), ("bundle", pem_of(root.root_der).encode())):
        with open(os.open(folder / f"{name}.pem", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(content)
    (folder / "shop.py").write_text(APP)
    (folder / "mesh.yaml").write_text(STRICT)
    options = ("--cert", "cert.pem", "--key", "key.pem", "--bundle", "bundle.pem", "--config", "mesh.yaml")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "serve", "shop:app", "--port", "0", "--no-access-log", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "listening on" in line:
                yield root, process.pid, int(line.rsplit(":", 1)[1])
                break
        else:
            raise RuntimeError(f"meshlib serve has ended: {said}")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
