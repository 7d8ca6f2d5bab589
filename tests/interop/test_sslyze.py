"""sslyze judges ``meshlib serve`` and gateways by Mozilla's "intermediate" configuration. ``make sslyze`` installs it."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from meshlib.mesh import Mesh
from tests.support.gateway_certificates import leaf, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.identities import World
from tests.support.mesh_server import MeshServer, tells
from tests.support.resources import virtual_service

BESIDE = Path(__file__).parents[2] / ".venv-sslyze" / "bin" / "sslyze"
SSLYZE = os.environ.get("SSLYZE") or (str(BESIDE) if BESIDE.exists() else shutil.which("sslyze"))
CURVES = re.compile(r"tls_curves: TLS curves \{[^}]*\} are supported, but should be rejected\.")


@pytest.mark.skipif(SSLYZE is None, reason="sslyze is not installed: TLS parameters are not judged by it (make sslyze)")
@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
def test_it_is_mozillas_intermediate_but_for_what_python_cannot_set(tmp_path: Path, mode: str) -> None:
    world = World(of_a_mesh=True)
    world.rotate()
    svid = world.root.issue("spiffe://cluster.local/ns/default/sa/scanner", world.now)
    for name, content in (("cert.pem", svid.chain_pem), ("key.pem", svid.key_pem)):
        (tmp_path / name).write_bytes(content)
    authentication = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "istio-system"},
        "spec": {"mtls": {"mode": mode}},
    }
    mesh = Mesh.from_resources([authentication], identity=world.identity)
    with mesh, MeshServer(tells, mesh) as server:
        judged(tmp_path, "--cert=cert.pem", "--key=key.pem", f"localhost:{server.port}")


@pytest.mark.skipif(SSLYZE is None, reason="sslyze is not installed: gateways' TLS is NOT judged by it (make sslyze)")
def test_so_is_a_gateways(tmp_path: Path) -> None:
    direct = {"directResponse": {"status": 200, "body": {"string": "hi"}}}
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    with Gateway(
        tls_secret("shop", leaf("shop.test")),
        virtual_service("shop", direct, hosts=["shop.test"], gateways=["gw"]),
        gateway(server("shop.test", port=443, protocol="HTTPS", tls=tls)),
    ) as gw:
        judged(tmp_path, f"shop.test:{gw.port(443)}{{127.0.0.1}}")


def judged(folder: Path, *arguments: str) -> None:
    """Nothing is found that is not expected."""
    assert SSLYZE is not None
    done = subprocess.run(
        [SSLYZE, "--mozilla_config=intermediate", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert ": " in told, done.stdout + done.stderr
    found = [line.strip().removeprefix("* ") for line in told.splitlines() if line.strip().startswith("* ")]
    assert [line for line in found if not expected(line)] == []
    assert "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" in done.stdout  # it has spoken to us


def expected(line: str) -> bool:
    """An SVID is of a CA of the mesh and has no DNS name, whatever browsers want. Before Python 3.15 OpenSSL's own curves
    are offered, two more than Mozilla's: none is weaker."""
    if line.startswith("certificate_path_validation:"):
        return True
    settable = hasattr(ssl.SSLContext, "set_groups")
    extra = set(re.findall(r"'([^']+)'", line))
    return not settable and CURVES.fullmatch(line) is not None and extra <= {"secp521r1", "X448"}


def test_only_those_two_curves_are_expected() -> None:
    many = "tls_curves: TLS curves {'secp521r1', 'secp192r1'} are supported, but should be rejected."
    assert not expected(many)
    assert not expected(
        "ciphers: Cipher suites {'TLS_RSA_WITH_AES_128_CBC_SHA'} are supported, but should be rejected."
    )
