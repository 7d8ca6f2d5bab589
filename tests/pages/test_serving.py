"""The samples of docs/serving.md and docs/identity.md work as they stand: each runs in a folder that has what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from click.testing import CliRunner

from benchmarks.free_ports import free_port
from meshlib.cli.main import main
from tests.support.identities import World
from tests.support.serve_process import ServeProcess
from tests.support.spiffe import Authority

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "serving.md").read_text()
CART = "spiffe://cluster.local/ns/shop/sa/cart"


def blocks(heading: str, language: str, page: str = PAGE) -> list[str]:
    """The samples below a heading, down to the next one."""
    start = page.index(f"{heading}\n")
    end = re.compile(r"^## ", re.MULTILINE).search(page, start + len(heading))
    section = page[start : end.start() if end else len(page)]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the samples run: ``mesh/orders.yaml`` is the policy of the page."""
    (policy,) = blocks("# Serving", "yaml")
    file = policy.partition("\n")[0].removeprefix("# ")
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(policy)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def executed(folder: Path) -> Iterator[dict[str, Any]]:
    """What a sample has defined; its mesh is closed afterwards."""
    names: dict[str, Any] = {"__name__": "sample"}
    yield names
    if "mesh" in names:
        names["mesh"].close()


@pytest.mark.parametrize("heading", ["## FastAPI", "## Flask"])
def test_an_application_and_its_tests(heading: str, executed: dict[str, Any]) -> None:
    application, tests = blocks(heading, "python")
    exec(compile(application, heading, "exec"), executed)
    exec(compile(tests, heading, "exec"), executed)
    found = [value for name, value in executed.items() if name.startswith("test_")]
    assert len(found) == 1
    found[0]()


def test_the_policy_is_what_refuses(executed: dict[str, Any], folder: Path) -> None:
    """Without it the sample's own test fails: nobody is refused."""
    (folder / "mesh" / "orders.yaml").write_text("# meshlib: empty\n")
    application, tests = blocks("## Flask", "python")
    exec(compile(application, "Flask", "exec"), executed)
    exec(compile(tests, "Flask", "exec"), executed)
    with pytest.raises(AssertionError):
        executed["test_the_cart_reads_orders_and_nobody_else_does"]()


def test_a_grpc_server(executed: dict[str, Any], folder: Path) -> None:
    from shop import catalog_pb2, catalog_pb2_grpc

    authority = Authority()
    key, certificate = authority.issue("127.0.0.1")
    for name, content in (("tls.key", key), ("tls.crt", certificate), ("ca.crt", authority.pem)):
        (folder / name).write_bytes(content)
    port = free_port()
    (sample,) = blocks("## gRPC", "python")
    assert sample.count("50051") == 2
    exec(compile(sample.replace("50051", str(port)), "gRPC", "exec"), executed)
    try:
        with grpc.secure_channel(f"127.0.0.1:{port}", authority.client(CART)) as channel:
            stub = catalog_pb2_grpc.CatalogStub(channel)
            assert stub.GetProduct(catalog_pb2.GetProductRequest(id="7"), timeout=60).name == "a ball"
        other = authority.client("spiffe://cluster.local/ns/shop/sa/web")
        with grpc.secure_channel(f"127.0.0.1:{port}", other) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                catalog_pb2_grpc.CatalogStub(channel).GetProduct(catalog_pb2.GetProductRequest(id="7"), timeout=60)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    finally:
        executed["server"].stop(None).wait(60)


def test_meshlib_serve(folder: Path) -> None:
    """The command as it stands, but for its ports; over mTLS alone, and its policy lets the cart in and nobody else."""
    section = "## meshlib serve"
    (folder / "shop.py").write_text(blocks(section, "python")[0])
    (folder / "mesh" / "strict.yaml").write_text(blocks(section, "yaml")[0])
    (command,) = [block for block in blocks(section, "sh") if block.startswith("meshlib serve ")]
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["meshlib", "serve"]
    world = World(of_a_mesh=True)
    world.rotate()
    plain_port = free_port()
    arguments = [{"8000": "0", "8001": str(plain_port)}.get(word, word) for word in words[2:]]
    with ServeProcess(folder, *arguments, world=world, own_arguments=True) as served:
        served.begun()
        said = []
        for name in ("cart", "other"):
            context = world.client(name=f"spiffe://cluster.local/ns/shop/sa/{name}")
            with httpx.Client(verify=context, timeout=20, trust_env=False) as client:
                said.append(client.get(f"https://127.0.0.1:{served.port}/orders/7").status_code)
        assert said == [200, 403]
        with pytest.raises(httpx.ReadError):
            httpx.get(f"http://127.0.0.1:{served.port}/orders/7", timeout=20, trust_env=False)
        assert httpx.get(f"http://127.0.0.1:{plain_port}/healthz", timeout=20, trust_env=False).text == "ok\n"


def test_identity(folder: Path, executed: dict[str, Any]) -> None:
    """The commands and the call as they stand, but for the port, against orders as ``meshlib serve`` serves it."""
    section, shop, page = "## mTLS in five minutes", "## meshlib serve", (DOCS / "identity.md").read_text()
    (folder / "shop.py").write_text(blocks(shop, "python")[0])
    (folder / "mesh" / "strict.yaml").write_text(blocks(shop, "yaml")[0])
    for line in blocks(section, "sh", page)[0].splitlines():
        assert line.startswith("meshlib ca ")
        ran = CliRunner().invoke(main, shlex.split(line)[1:])
        assert ran.exit_code == 0, ran.output
    (here,) = blocks(section, "yaml", page)
    (sample,) = blocks(section, "python", page)
    mine = folder / "mesh-ca/issued/ns+shop+sa+orders"
    files = ["--cert", str(mine / "cert.pem"), "--key", str(mine / "key.pem"), "--bundle", str(mine / "bundle.pem")]
    arguments = ["shop:app", "--config", "mesh", "--namespace", "shop", "--labels", "app=orders", "--port", "0", *files]
    with ServeProcess(folder, *arguments, own_arguments=True) as served:
        served.begun()
        (folder / "mesh/here.yaml").write_text(here.replace("8000", str(served.port)))
        exec(compile(sample.replace("8000", str(served.port)), section, "exec"), executed)
        assert executed["response"].json() == {"number": 7}
        assert executed["mesh"].status()["identity"]["identity"] == CART
