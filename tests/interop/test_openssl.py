"""The command ``openssl`` calls ``meshlib serve`` over mTLS and is called by mesh clients, by SVIDs of ``meshlib ca``."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import meshlib
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from tests.support.mesh_server import MeshServer
from tests.support.peer_authentication import peer_authentication

CLIENT, SERVER, OTHER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server", "other"))
SECONDS = 60
FILES = ("cert.pem", "key.pem", "bundle.pem")
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="NO openssl: its command is NOT spoken with")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "ca", "cluster.local", SystemClock())


def identity(folder: Path) -> meshlib.Identity:
    return meshlib.Identity.from_files(*(folder / name for name in FILES))


def says_who(mesh: meshlib.Mesh) -> Any:
    """An application that responds with the principal of its caller."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = mesh.inbound()
        assert request is not None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{request.principal}".encode()})

    return application


def strictly(version: str) -> list[str]:
    files = ["-cert", "cert.pem", "-cert_chain", "cert.pem", "-key", "key.pem", "-CAfile", "bundle.pem"]
    return [*files, "-x509_strict", "-verify_return_error", version]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_calls_meshlib_serve_which_knows_who_it_is(store: Store, tmp_path: Path, version: str) -> None:
    ours, theirs = store.issue(SERVER).folder, store.issue(CLIENT).folder
    stranger = Store.create(tmp_path / "strange", "cluster.local", SystemClock()).issue(CLIENT).folder
    (stranger / "bundle.pem").write_bytes((ours / "bundle.pem").read_bytes())  # it would believe us
    mesh = meshlib.Mesh.from_resources([peer_authentication("default")], identity=identity(ours))
    with mesh, MeshServer(says_who(mesh), mesh) as server:

        def call(folder: Path) -> str:
            ran = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-quiet", *strictly(version)],
                cwd=folder,
                input="GET /who HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n",
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            return ran.stdout

        told = call(theirs)
        assert told.startswith("HTTP/1.1 200 ")
        assert CLIENT in told
        assert "HTTP/1.1" not in call(stranger)


@contextlib.contextmanager
def openssl_serves(folder: Path, version: str) -> Iterator[int]:
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-Verify", "3", "-www", *strictly(version)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("ACCEPT "))
            yield int(line.rpartition(":")[2])
        finally:
            process.kill()


def resources(port: int, server: str) -> list[dict[str, object]]:
    common = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "server", "namespace": "default"}}
    entry = {
        "hosts": ["server.test"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
        "subjectAltNames": [server],
    }
    rule = {"host": "server.test", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    return [{**common, "kind": "ServiceEntry", "spec": entry}, {**common, "kind": "DestinationRule", "spec": rule}]


def called(port: int, folder: Path, server: str, runtime: str) -> str:
    """What came back from http://server.test/."""
    with meshlib.Mesh.from_resources(resources(port, server), identity=identity(folder)) as mesh:
        if runtime == "threads":
            with mesh.client() as client:
                response = client.get("http://server.test/", timeout=SECONDS)
        else:

            async def get() -> object:
                async with mesh.async_client() as client:
                    return await client.get("http://server.test/", timeout=SECONDS)

            response = asyncio.run(get())
        return f"{response.status_code} {response.text}"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_is_called_by_our_clients_and_each_knows_the_other(store: Store, runtime: str, version: str) -> None:
    theirs, ours = store.issue(SERVER).folder, store.issue(CLIENT).folder
    with openssl_serves(theirs, version) as port:
        told = called(port, ours, SERVER, runtime)
        assert told.startswith("200 ")
        assert "Verify return code: 0 (ok)" in told, "of our certificate"
        with pytest.raises(httpx.ConnectError, match=f"the server is {SERVER}; only {OTHER} may serve this host"):
            called(port, ours, OTHER, runtime)
