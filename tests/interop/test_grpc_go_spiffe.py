"""gRPC over mTLS between meshlib and grpc-go with go-spiffe, by SVIDs that ``meshlib ca`` issues: each calls the other and is
called, and each refuses who is not the one that it expects. ``make grpc-interop`` builds the program in Go."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import meshlib
from meshlib.ca.rotation import take
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from tests.support.go_tools import found, needs
from tests.support.grpc_mtls import CLIENT, SERVER, WHO, peer_authentication, served

OTHER = "spiffe://cluster.local/ns/default/sa/ratings"
TARGET = "server.test:9080"
SECONDS = 60
pytestmark = needs("spiffe-grpc")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "ca", "cluster.local", SystemClock())


def identity(folder: Path) -> meshlib.Identity:
    return meshlib.Identity.from_files(*(folder / name for name in ("cert.pem", "key.pem", "bundle.pem")))


def go(does: str, folder: Path, expected: str, *more: str) -> list[str]:
    files = [str(folder / name) for name in ("cert.pem", "key.pem", "bundle.pem")]
    return [found("spiffe-grpc") or "", does, *files, expected, *more]


def go_calls(port: int, folder: Path, expected: str) -> str:
    command = go("call", folder, expected, f"127.0.0.1:{port}", WHO)
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stdout.strip()


@contextlib.contextmanager
def go_serves(folder: Path, expected: str) -> Iterator[int]:
    with subprocess.Popen(go("serve", folder, expected), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def resources(port: int, server: str) -> list[dict[str, object]]:
    """The server at ``port`` as the service that is called, over mTLS, by the identity ``server``."""
    common = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "server", "namespace": "default"}}
    entry = {
        "hosts": ["server.test"],
        "ports": [{"number": 9080, "name": "grpc", "protocol": "GRPC"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
        "subjectAltNames": [server],
    }
    rule = {"host": "server.test", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    return [{**common, "kind": "ServiceEntry", "spec": entry}, {**common, "kind": "DestinationRule", "spec": rule}]


def meshlib_calls(port: int, folder: Path, server: str, runtime: str) -> str:
    """What the server said of us on a call, and on a stream of two; or our error."""
    with meshlib.Mesh.from_resources(resources(port, server), identity=identity(folder)) as mesh:
        try:
            if runtime == "asyncio":
                return asyncio.run(_on_a_loop(mesh))
            with mesh.grpc_channel(TARGET) as channel:
                said = [channel.unary_unary(WHO)(b"", timeout=SECONDS)]
                said += channel.stream_stream(WHO)(iter([b"1", b"2"]), timeout=SECONDS)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    assert len(said) == 3
    return " ".join({bytes(each).decode() for each in said})


async def _on_a_loop(mesh: meshlib.Mesh) -> str:
    async with mesh.aio_grpc_channel(TARGET) as channel:
        said = [await channel.unary_unary(WHO)(b"", timeout=SECONDS)]
        said += [each async for each in channel.stream_stream(WHO)(iter([b"1", b"2"]), timeout=SECONDS)]
    assert len(said) == 3
    return " ".join({bytes(each).decode() for each in said})


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_grpc_go_calls_our_server_and_each_knows_the_other(store: Store, runtime: str) -> None:
    ours, theirs = store.issue(SERVER).folder, store.issue(CLIENT).folder
    with (
        meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=identity(ours)) as mesh,
        served(mesh, runtime) as (port, _),
    ):
        for _ in range(3):  # and through a change of the root
            assert go_calls(port, theirs, SERVER) == f"ok {CLIENT}"
            take(store)
        assert "unexpected ID" in go_calls(port, theirs, OTHER)


def test_grpc_go_with_a_certificate_of_another_authority_is_let_in_nowhere(store: Store, tmp_path: Path) -> None:
    ours = store.issue(SERVER).folder
    stranger = Store.create(tmp_path / "other", "cluster.local", SystemClock()).issue(CLIENT).folder
    (stranger / "bundle.pem").write_bytes((ours / "bundle.pem").read_bytes())  # it would believe us
    with (
        meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=identity(ours)) as mesh,
        served(mesh, "threads") as (port, _),
    ):
        assert go_calls(port, stranger, SERVER).startswith("refused: Unavailable")


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_grpc_go_is_called_by_our_client_and_each_knows_the_other(store: Store, runtime: str) -> None:
    theirs, ours = store.issue(SERVER).folder, store.issue(CLIENT).folder
    with go_serves(theirs, CLIENT) as port:
        assert meshlib_calls(port, ours, SERVER, runtime) == CLIENT
        told = meshlib_calls(port, ours, OTHER, runtime)
        assert told.startswith("UNAVAILABLE")
        assert f"the server is {SERVER}; only {OTHER} may serve this host" in told


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_grpc_go_that_expects_another_caller_refuses_ours(store: Store, runtime: str) -> None:
    theirs, ours = store.issue(SERVER).folder, store.issue(CLIENT).folder
    with go_serves(theirs, OTHER) as port:
        assert meshlib_calls(port, ours, SERVER, runtime).startswith("UNAVAILABLE")
