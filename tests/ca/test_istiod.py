"""istiod's API of a development CA, on the network, called by ours and by Istio's own agent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from meshlib.ca.istiod import ServerCertificate
from meshlib.clock import SystemClock
from meshlib.identity.istiod_chain import judged, key_and_request
from meshlib.security.authority import Authority
from meshlib.security.certificate_messages import CertificateRequest, read_response, write_request
from meshlib.security.svid import read_svid
from tests.support.fake_clock import FakeClock
from tests.support.istiod import REVIEWS, TOKEN, Istiod
from tests.support.standing import Standing

START = 1_700_001_000.0


def test_a_grpc_client_is_given_its_chain_by_its_token(tmp_path: Path) -> None:
    key, csr = key_and_request("spiffe://cluster.local/ns/default/sa/admin")
    with Istiod(tmp_path) as istiod:
        credentials = grpc.ssl_channel_credentials(istiod.root_file.read_bytes())
        with grpc.secure_channel(f"localhost:{istiod.port}", credentials) as channel:
            create = channel.unary_unary("/istio.v1.auth.IstioCertificateService/CreateCertificate")
            raw = create(
                write_request(CertificateRequest(csr, 3600)),
                metadata=(("authorization", f"Bearer {TOKEN}"),),
                timeout=30,
            )
            svid, _ = judged(read_response(raw), key, "cluster.local", istiod.clock.time())
            assert svid.identity.text == REVIEWS
            with pytest.raises(grpc.RpcError) as raised:
                create(write_request(CertificateRequest(csr, 3600)), timeout=30)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_its_own_certificate_is_made_anew_in_time_and_with_the_authority() -> None:
    clock = FakeClock(1000.0)
    root = Authority.root("cluster.local", START)
    standing = [Standing(root, Istiod.bundles(root))]
    made = ServerCertificate(lambda: standing[0], clock)
    made.context()
    first = made._svid
    clock.now += 10 * 3600
    made.context()
    assert made._svid is first
    clock.now += 3 * 3600
    made.context()
    second = made._svid
    assert second is not first
    standing[0] = Standing(root, Istiod.bundles(root, Authority.root("cluster.local", START)))
    made.context()
    assert made._svid is not second


def agent() -> Path | None:
    """Istio's own client of its CA (security/pkg/nodeagent/caclient/providers/citadel), built by ``tests/ca/istio_agent``."""
    found = os.environ.get("MESHLIB_ISTIO_AGENT", "")
    return Path(found) if found and Path(found).exists() else None


def test_istios_own_agent_is_a_client(tmp_path: Path) -> None:
    """By its token, then by the certificate that it was given."""
    program = built(tmp_path)
    with Istiod(tmp_path) as istiod:
        asked = "spiffe://cluster.local/ns/default/sa/admin"  # which nobody believes
        arguments = [str(program), f"127.0.0.1:{istiod.port}", str(istiod.token_file), str(istiod.root_file), asked]
        istiod.token_file.write_text(TOKEN)
        by_token = subprocess.run([*arguments, "", ""], capture_output=True, text=True, timeout=120)
        assert by_token.returncode == 0, by_token.stderr
        key, chain = by_token.stdout.split("\n-- chain --\n")
        svid = read_svid(chain.encode(), key.encode(), now=SystemClock.time(), bundles=istiod.standing.bundles)
        assert svid.identity.text == REVIEWS
        (tmp_path / "cert.pem").write_bytes(svid.chain_pem)
        (tmp_path / "key.pem").write_bytes(svid.key_pem)
        arguments[2] = ""
        by_certificate = subprocess.run(
            [*arguments, str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert by_certificate.returncode == 0, by_certificate.stderr
        key, chain = by_certificate.stdout.split("\n-- chain --\n")
        renewed = read_svid(chain.encode(), key.encode(), now=SystemClock.time(), bundles=istiod.standing.bundles)
        assert renewed.identity.text == REVIEWS
        assert renewed.leaf != svid.leaf
        istiod.token_file.write_text("of-yesterday")
        arguments[2] = str(istiod.token_file)
        refused = subprocess.run([*arguments, "", ""], capture_output=True, text=True, timeout=120)
        assert refused.returncode == 1
        assert "Unauthenticated" in refused.stderr


def built(folder: Path) -> Path:
    if (found := agent()) is not None:
        return found
    if not os.environ.get("MESHLIB_FAULTS"):
        pytest.skip("Istio's own agent takes minutes to build: MESHLIB_FAULTS=1")
    if shutil.which("go") is None:
        pytest.skip("go is not installed: no second opinion of Istio's agent")
    shutil.copytree(Path(__file__).parent / "istio_agent", folder / "agent")
    made = subprocess.run(
        ["go", "build", "-mod=mod", "-o", "peer", "."],
        cwd=folder / "agent",
        capture_output=True,
        text=True,
        timeout=1500,
    )
    if made.returncode:
        pytest.skip(f"Istio's modules cannot be had here: no second opinion ({made.stderr[-200:]})")
    return folder / "agent" / "peer"
