"""Certificates of istiod's own authority: its code signs (tests/support/istiod_authority), with the API server's TokenReview
played. ``make istiod-ca`` builds it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshlib
from meshlib.clock import SystemClock
from meshlib.identity.istiod import LOOK, IstiodSource
from meshlib.security.authority import Authority
from tests.identity.test_istiod import renewed
from tests.interop.test_openssl import resources, says_who
from tests.support.eventually import eventually
from tests.support.go_tools import found, needs
from tests.support.mesh_server import MeshServer
from tests.support.peer_authentication import peer_authentication
from tests.support.workload_api import LONG, Listener, clock_at

pytestmark = needs("istiod-authority")
CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
SECONDS = 60


class RealIstiod:
    """``folder`` may hold the files of its Secret cacerts; otherwise it makes a root of its own. Root in root-cert.pem."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, told = folder, folder / "port"
        log = stack.enter_context((folder / "istiod.log").open("wb"))
        program = found("istiod-authority") or ""
        process = subprocess.Popen([program, folder, told], stdin=subprocess.PIPE, stdout=log, stderr=log)
        stack.enter_context(process)
        stack.callback(process.kill)
        assert eventually(lambda: told.exists() or process.poll() is not None, SECONDS)
        assert told.exists(), (folder / "istiod.log").read_text()
        self.address = f"127.0.0.1:{told.read_text()}"
        self.roots = folder / "root-cert.pem"

    def token(self, name: str) -> Path:
        """A file with the token of a service account in ``default``."""
        made = self.folder / f"{name}.token"
        made.write_text(f"default/{name}\n")
        return made


@pytest.fixture(scope="module", params=["a root of its own", "an intermediate of the Secret cacerts"])
def istiod(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealIstiod]:
    folder = tmp_path_factory.mktemp("istiod")
    if request.param != "a root of its own":
        root = Authority.root("cluster.local", SystemClock.time())
        signer = root.intermediate(SystemClock.time())
        (folder / "ca-cert.pem").write_bytes(signer.chain_pem)
        (folder / "ca-key.pem").write_bytes(signer.key_pem)
        (folder / "cert-chain.pem").write_bytes(signer.chain_pem)
        (folder / "root-cert.pem").write_bytes(root.certificates_pem)
    with contextlib.ExitStack() as stack:
        yield RealIstiod(folder, stack)


def test_two_workloads_with_certificates_of_istiod_know_each_other(istiod: RealIstiod) -> None:
    ours = meshlib.Identity.from_istiod(istiod.address, istiod.token("server"), istiod.roots)
    theirs = meshlib.Identity.from_istiod(istiod.address, istiod.token("client"), istiod.roots)
    with meshlib.Mesh.from_resources([peer_authentication("default")], identity=ours) as mesh:
        assert eventually(lambda: ours.ready, SECONDS)
        with MeshServer(says_who(mesh), mesh) as server:
            with meshlib.Mesh.from_resources(resources(server.port, SERVER), identity=theirs) as caller:
                assert eventually(lambda: theirs.ready, SECONDS)
                with caller.client() as client:
                    response = client.get("http://server.test/", timeout=SECONDS)
    assert (response.status_code, response.text) == (200, CLIENT)


def test_a_certificate_is_renewed_by_the_one_before_it_and_no_token(istiod: RealIstiod) -> None:
    token = istiod.token("client")
    source = IstiodSource(istiod.address, token, istiod.roots, ttl=3600, patience=LONG)
    with Listener(source, clock_at(SystemClock.time())) as heard:
        first = heard.next()[0]
        token.unlink()
        heard.clock.advance(3600 * 0.8 + LOOK)
        second = renewed(heard)
        assert (first.identity.text, second.identity.text) == (CLIENT, CLIENT)
        assert second.leaf != first.leaf
        assert heard.problem == ""


def test_a_token_that_the_api_server_refuses_is_told(istiod: RealIstiod) -> None:
    token = istiod.token("client")
    token.write_text("of-yesterday\n")
    with Listener(
        IstiodSource(istiod.address, token, istiod.roots, patience=LONG), clock_at(SystemClock.time())
    ) as heard:
        assert eventually(lambda: heard.problem != "", SECONDS)
        assert "UNAUTHENTICATED" in heard.problem
        assert heard.published.empty()
