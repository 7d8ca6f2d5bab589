"""go-spiffe takes what our authority issues: parsed, verified, shown and judged in a handshake."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.ca.rotation import take
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from tests.support.broken_svids import BROKEN, KEY_PEM, signed

SOURCE = Path(__file__).parents[1] / "support/go_spiffe"
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: go-spiffe is not asked")
    made = tmp_path_factory.mktemp("go") / "go-spiffe"
    ran = subprocess.run([go, "build", "-o", made, "."], cwd=SOURCE, capture_output=True, text=True, timeout=600)
    if ran.returncode != 0 and ("dial tcp" in ran.stderr or "proxy" in ran.stderr or "toolchain" in ran.stderr):
        pytest.skip(f"the module go-spiffe cannot be had here: go-spiffe is not asked ({ran.stderr.strip()[-200:]})")
    assert ran.returncode == 0, ran.stderr
    return made


def judged(program: Path, folder: Path, trust_domain: str = "cluster.local") -> str:
    files = [folder / "cert.pem", folder / "key.pem", folder / "bundle.pem"]
    ran = subprocess.run([program, trust_domain, *files], capture_output=True, text=True, timeout=60)
    return ran.stdout.strip()


@pytest.mark.parametrize("rsa", [False, True])
def test_what_we_issue_is_verified_and_shakes_hands_both_ways(program: Path, tmp_path: Path, rsa: bool) -> None:
    store = Store.create(tmp_path / "ca", "cluster.local", SystemClock(), rsa=rsa)
    folder = store.issue(REVIEWS, dns=("reviews.default.svc",), rsa=rsa).folder
    for _ in range(4):
        assert judged(program, folder) == f"verified {REVIEWS}"
        take(store)


@pytest.mark.parametrize("name", ["an authority", "keyCertSign", "cRLSign", "two URIs", "no URI", "a dot segment"])
def test_and_it_would_say_if_they_were_wrong(program: Path, tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path / "ca", "cluster.local", SystemClock())
    folder, signer = store.issue(REVIEWS).folder, store.current().signer
    made = signed(signer, SystemClock().time(), **BROKEN[name]).public_bytes(Encoding.PEM)
    (folder / "cert.pem").write_bytes(made + signer.chain_pem)
    (folder / "key.pem").write_bytes(KEY_PEM)
    assert judged(program, folder).startswith("refused: ")


def test_a_root_of_another_trust_domain_vouches_for_nobody_here(program: Path, tmp_path: Path) -> None:
    folder = Store.create(tmp_path / "ca", "cluster.local", SystemClock()).issue(REVIEWS).folder
    assert judged(program, folder, "other.test").startswith("refused: ")
