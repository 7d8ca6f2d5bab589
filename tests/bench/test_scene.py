"""What stands on loopback: it forwards what it is there for, says what is missing, and is over with its block."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from meshlib.bench import scene
from meshlib.bench.http_client import AUTHORITY, tls_context
from meshlib.bench.processes import Died, NotMeasured
from meshlib.bench.scene import NO_NGINX, Hops, Scene, Settings, opened
from meshlib.bench.web_backend import ALL_ADDRESSES
from tests.support.eventually import eventually

REQUEST = f"GET /size/1024 HTTP/1.1\r\nhost: {AUTHORITY}\r\nconnection: close\r\n\r\n".encode()


def response(
    port: int, context: ssl.SSLContext | None = None, address: str = "127.0.0.1", request: bytes = REQUEST
) -> bytes:
    with socket.create_connection((address, port), 30) as plain:
        sock = context.wrap_socket(plain) if context is not None else plain
        sock.sendall(request)
        read = b""
        while piece := sock.recv(65536):
            read += piece
        sock.close()
    return read


def is_good(read: bytes) -> bool:
    return read.startswith(b"HTTP/1.1 200 ") and read.endswith(b"x" * 1024)


@pytest.fixture(params=["nginx", "our own"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "our own":
        monkeypatch.setattr(scene, "nginx_binary", lambda: None)
    elif scene.nginx_binary() is None:
        pytest.skip("nginx is not installed: nothing tells whether a scene with it works")


@pytest.mark.usefixtures("backend")
def test_a_backend_responds_at_every_address_and_over_mtls() -> None:
    with opened(Settings(tls=True)) as made:
        for address in ALL_ADDRESSES:
            assert is_good(response(made.port, address=address))
            assert is_good(response(made.tls, tls_context(str(made.certificates)), address))
        assert (NO_NGINX in made.notes) is (made.backend is not None and made.backend.name == "backend")


HOPS: dict[str, Callable[..., Hops]] = {"Envoy": Scene.envoys, "meshlib proxy": Scene.meshlib_proxies}


@pytest.mark.parametrize(("count", "tls"), [(1, False), (2, True)], ids=["1-plain", "2-mtls"])
@pytest.mark.parametrize("kind", HOPS)
def test_hops_forward_what_a_sidecars_client_sends(kind: str, count: int, tls: bool) -> None:
    if kind == "Envoy" and scene.envoy_binary() is None:
        pytest.skip("Envoy is not installed: nothing tells whether a hop of it works")
    with opened(Settings(tls=tls, rules=3)) as made:
        hops = HOPS[kind](made, count)
        assert len(hops.processes) == count
        for _ in range(20):  # all endpoints have their turn
            assert is_good(response(hops.port))
        made.check_backend()


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        *(("fastapi", before) for before in ("nothing", "mesh", "Envoy", "meshlib proxy")),
        *(("flask", before) for before in ("nothing", "mesh")),  # a hop knows nothing of what it stands before
    ],
)
def test_a_server_responds_and_what_stands_before_it_refuses_what_its_policy_does_not_allow(
    kind: str, before: str
) -> None:
    if before == "Envoy" and scene.envoy_binary() is None:
        pytest.skip("Envoy is not installed: nothing tells whether it works in front of a server")
    with opened(Settings(rules=2, protocol=scene.APPLICATION)) as made:
        hops = made.application(kind, before == "mesh")
        if before in HOPS:
            hops = made.in_front(hops, envoy=before == "Envoy")
        assert is_good(response(hops.port))
        status = response(hops.port, request=REQUEST.replace(b"GET", b"POST")).split()[1]
    assert status == (b"405" if before == "nothing" else b"403")


def test_a_server_whose_framework_is_not_installed_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Settings(protocol=scene.APPLICATION)) as made:
        for lacks, said in (("uvicorn", "uvicorn is not"), ("fastapi and uvicorn", "fastapi and uvicorn are not")):
            monkeypatch.setattr(scene.server, "missing", lambda kind, lacks=lacks: lacks)
            with pytest.raises(NotMeasured, match=f"^{said} installed$"):
                made.application("fastapi", mesh=False)


@pytest.mark.parametrize("kind", HOPS)
def test_what_is_traced_sends_spans(kind: str) -> None:
    if kind == "Envoy" and scene.envoy_binary() is None:
        pytest.skip("Envoy is not installed: nothing tells whether it sends spans")

    def came() -> int:
        """Requests that the collector has had, this one among them."""
        with urllib.request.urlopen(f"{made.collector_url}/", timeout=30) as asked:
            return int(asked.headers["X-Id"], 16)

    with opened(Settings(tracing=True)) as made:
        hops = HOPS[kind](made, 1, traced=True)
        before = came()
        for _ in range(8):
            assert is_good(response(hops.port))
        assert eventually(lambda looked=count(before + 1): came() > next(looked), seconds=60)


def test_without_opentelemetry_tracing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotMeasured, match="tracing is left out: opentelemetry.sdk is not installed"):
        with opened(Settings(tracing=True)):
            pass


def test_without_envoy_a_hop_of_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "envoy_binary", lambda: None)
    with opened(Settings()) as made, pytest.raises(NotMeasured, match="Envoy is not installed"):
        made.envoys(1)


def test_a_scene_is_over_with_its_block() -> None:
    with opened(Settings()) as made:
        folder, backend = made.folder, made.backend
        assert backend is not None
    assert not folder.exists()
    assert not Path(f"/proc/{backend.pid}").exists()


def test_a_backend_that_has_ended_is_said() -> None:
    with opened(Settings()) as made:
        assert made.backend is not None
        made.backend.end()
        with pytest.raises(Died, match="was ended by SIGKILL"):
            made.check_backend()
