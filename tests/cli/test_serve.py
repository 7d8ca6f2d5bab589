"""``meshlib serve``, as its users run it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from tests.support.identities import World
from tests.support.serve_process import SECONDS, ServeProcess

pytestmark = pytest.mark.slow

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}}
"""


@pytest.fixture
def world() -> World:
    world = World(of_a_mesh=True)
    world.rotate()
    return world


def client(served: ServeProcess, context: ssl.SSLContext | None) -> httpx.Client:
    scheme = "http" if context is None else "https"
    return httpx.Client(
        base_url=f"{scheme}://127.0.0.1:{served.port}", verify=context or False, timeout=SECONDS, trust_env=False
    )


def wait_until(what: Callable[[], bool]) -> None:
    for _ in range(3000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not come")


def body(begun: Path, go_on: threading.Event) -> Iterator[bytes]:
    yield b"first"
    assert go_on.wait(SECONDS)
    yield b"last!"


@pytest.mark.parametrize("arguments", [("shop:flask", "--wsgi"), ("shop:app", "--workers", "2")])
def test_it_serves_both_and_ends_with_0_when_what_is_under_way_has_ended(
    tmp_path: Path, world: World, arguments: tuple[str, ...]
) -> None:
    with ServeProcess(tmp_path, *arguments, world=world) as served:
        served.begun()
        with client(served, world.client()) as mutual, client(served, None) as plain, ThreadPoolExecutor() as pool:
            assert mutual.get("/").json()["pid"] != os.getpid()
            assert plain.get("/").status_code == 200
            assert plain.get("/healthz").text == "ok\n"
            go_on = threading.Event()
            under_way = pool.submit(mutual.post, "/length", content=body(tmp_path / "begun", go_on))
            wait_until((tmp_path / "begun").exists)
            served.process.terminate()
            served.says("Shutting down")
            go_on.set()
            assert under_way.result(SECONDS).json() == {"length": 10}
        assert served.ends() == 0


def test_strict_a_policy_of_its_workload_and_a_reload_by_sighup(tmp_path: Path, world: World) -> None:
    arguments = ("shop:app", "--namespace", "shop", "--labels", "app=orders")
    with ServeProcess(tmp_path, *arguments, world=world, resources=STRICT) as served:
        served.begun()
        with client(served, world.client()) as mutual:
            assert mutual.get("/").status_code == 200
            with pytest.raises(httpx.ReadError), client(served, None) as plain:
                plain.get("/")
            served.configure(f"{STRICT}---{NOBODY}")
            served.process.send_signal(signal.SIGHUP)
            wait_until(lambda: mutual.get("/").status_code == 403)
            assert mutual.get("/healthz").status_code == 200, "told before policies"


def test_a_worker_that_dies_is_replaced_and_nobody_notices(tmp_path: Path) -> None:
    with ServeProcess(tmp_path, "shop:app", "--workers", "2") as served:
        served.says("startup complete", 2)
        with client(served, None) as plain:
            pid = plain.get("/").json()["pid"]
        os.kill(pid, signal.SIGKILL)
        served.says("is replaced in")
        served.says("startup complete", 3)
        with client(served, None) as plain:
            assert plain.get("/").json()["pid"] != pid
        served.process.terminate()
        assert served.ends() == 0
        assert len([line for line in served.lines if line == "shutdown"]) == 2


def test_certificates_that_come_later_make_it_ready(tmp_path: Path, world: World) -> None:
    with ServeProcess(
        tmp_path, "shop:app", "--cert", "cert.pem", "--key", "key.pem", "--bundle", "bundle.pem"
    ) as served:
        served.begun()
        with client(served, None) as plain:
            response = plain.get("/healthz")
            assert (response.status_code, response.text) == (503, "no certificate yet\n")
            served.write(world)
            wait_until(lambda: plain.get("/healthz").status_code == 200)
            assert plain.get("/healthz").text == "ok\n"
        with client(served, world.client()) as mutual:
            assert mutual.get("/").status_code == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_does_not_start_ends_it(tmp_path: Path, workers: str) -> None:
    with ServeProcess(tmp_path, "shop:broken", "--workers", workers) as served:
        assert served.ends() == 3
        served.says("no database")
        assert not any("listening" in line for line in served.lines), "nobody is served"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shop:flask",), "is a WSGI application: add --wsgi"),
        (("shop:app", "--workers", "2", "--wsgi"), "leave --wsgi out"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    with ServeProcess(tmp_path, *arguments) as served:
        assert served.ends() == 1
        served.says(says)
        assert not any("Traceback" in line or "listening" in line for line in served.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_that_it_listens_when_the_configuration_has_been_read_and_the_application_has_started(
    tmp_path: Path, workers: str
) -> None:
    with ServeProcess(tmp_path, "shop:app", "--workers", workers, resources="kind: Nonsense") as served:
        assert served.ends() == 1
        assert not any("listening" in line for line in served.lines)
    with ServeProcess(tmp_path, "shop:app", "--workers", workers) as served:
        assert served.port > 0
        assert any("startup complete" in line for line in served.lines)


def run(*arguments: str, **environment: str | None) -> Any:
    clean = {name: None for name in os.environ if name.startswith("MESHLIB_")}
    return CliRunner().invoke(main, ["serve", *arguments], env={**clean, **environment})


def test_a_port_in_use_and_resources_that_are_wrong_are_problems(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("# meshlib: empty\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run("shop:app", "--config", str(tmp_path), "--port", str(port))
    assert (found.exit_code, f"port {port} of 127.0.0.1 is in use" in found.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shop:app",), "--config mesh/"),
        (("shop:app", "--config", "mesh", "--cert", "c.pem"), "--key and --bundle are required with --cert"),
        (("shop:app", "--config", "mesh", "--health-path", "live"), "write it as /live"),
        ((), "Missing argument 'MODULE:APP'"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(arguments: tuple[str, ...], says: str) -> None:
    found = run(*arguments)
    assert found.exit_code == 2
    assert says in found.output


def test_the_help_has_examples() -> None:
    found = run("--help")
    assert "meshlib serve shop:app --wsgi" in found.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--admin", "0.0.0.0:15000"), "can be reached from other machines"),
        (("--admin", "unix:/run/a.sock", "--workers", "2"), "only one of 2 workers could listen there"),
        (("--admin", "127.0.0.1:15000", "--workers", "2"), "write unix, or unix:PATH with {pid}"),
    ],
)
def test_an_admin_address_that_cannot_be_is_a_usage_error(args, said):
    result = CliRunner().invoke(main, ["serve", "shop:app", "--config", "mesh/", *args])
    assert (result.exit_code, said in result.output) == (2, True), result.output


@pytest.mark.parametrize("given", [("--admin", "unix"), ()])
def test_each_worker_has_an_admin_endpoint_where_it_is_told(given, tmp_path, monkeypatch):
    from meshlib.serving import serve as serving

    addresses = []

    def run(options: object, settings: object, make: Callable[[], Any]) -> int:
        with make() as mesh:
            addresses.append(mesh.status()["admin"]["address"])
        return 0

    monkeypatch.setattr(serving, "serve", run)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("MESHLIB_ADMIN", "127.0.0.1:0")
    (tmp_path / "mesh.yaml").write_text("")
    result = CliRunner().invoke(main, ["serve", "shop:app", "--config", str(tmp_path / "mesh.yaml"), *given])
    assert result.exit_code == 0, result.output
    expected = f"unix:{tmp_path}/meshlib/{os.getpid()}.sock" if given else "127.0.0.1:"
    assert addresses[0].startswith(expected)
