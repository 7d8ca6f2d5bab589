"""A look at certificates: what is right is said, what is wrong with its reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.ca.inspection import Look, inspect
from meshlib.ca.rotation import take
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from tests.support.broken_svids import BROKEN, KEY_PEM, signed
from tests.support.fake_clock import FakeClock
from tests.support.stores import REVIEWS, store

CLOCK = FakeClock()
NOW = CLOCK.time()
ROOT = Authority.root("cluster.local", NOW)
BELOW = ROOT.intermediate(NOW)
SVID = BELOW.issue(REVIEWS, NOW)


def one(path: Path, bundle: Path | None = None, key: Path | None = None, now: float = 0) -> Look:
    clock = FakeClock(CLOCK.now + now)
    (found,) = inspect(path, clock, bundle=bundle, key=key)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of somebody's SVID, as other tools leave it."""
    (tmp_path / "cert.pem").write_bytes(SVID.chain_pem)
    (tmp_path / "key.pem").write_bytes(SVID.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "bundle.pem").write_text(pem_of(ROOT.root_der))
    return tmp_path


def test_a_good_svid(folder: Path) -> None:
    found = one(folder)
    assert (found.problems, found.notes) == ([], [])
    assert found.title == f"the certificate of {REVIEWS}"
    facts = dict(found.facts)
    assert facts["names"] == REVIEWS
    assert facts["issued by"] == BELOW.certificate.subject.rfc4514_string()
    assert facts["valid"].endswith(" UTC, 24.0 hours left")
    assert facts["key"] == "EC secp256r1"
    assert facts["chains to"] == f"a root in {folder}/bundle.pem"
    assert facts["private key"] == f"{folder}/key.pem, which is its own"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_svid_is_a_problem(folder: Path, name: str) -> None:
    made = signed(BELOW, NOW, **BROKEN[name]).public_bytes(Encoding.PEM)
    (folder / "cert.pem").write_bytes(made + BELOW.chain_pem)
    (folder / "key.pem").write_bytes(KEY_PEM)
    found = one(folder)
    assert found.problems, found
    assert all("key" not in each or "keyUsage" in each or "KeyUsage" in each for each in found.problems), found.problems


def test_dates(folder: Path) -> None:
    assert "has expired on 20" in one(folder, now=86401).problems[0]
    assert "is not valid before 20" in one(folder, now=-3600).problems[0]


def test_a_chain_without_its_intermediate(folder: Path) -> None:
    (folder / "cert.pem").write_text(pem_of(SVID.leaf))
    (problem,) = one(folder).problems
    assert problem.startswith(f"does not chain to any root in {folder}/bundle.pem: it is issued by ")


def test_the_bundle_of_another_authority(folder: Path) -> None:
    (folder / "bundle.pem").write_text(pem_of(Authority.root("cluster.local", NOW).root_der))
    assert "does not chain to any root" in one(folder).problems[0]


def test_a_root_vouches_for_its_own_trust_domain_only(folder: Path) -> None:
    other = Authority.root("other.test", NOW)
    made = signed(other, NOW)  # it says cluster.local
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(KEY_PEM)
    (folder / "bundle.pem").write_text(pem_of(other.root_der))
    (problem,) = one(folder).problems
    assert problem.endswith("of a trust domain other than cluster.local")


def test_a_key_that_is_anothers_or_open_to_others(folder: Path) -> None:
    (folder / "key.pem").chmod(0o644)
    assert one(folder).notes == [f"has a private key that others may read (mode 0644); chmod 600 {folder}/key.pem"]
    (folder / "key.pem").write_bytes(KEY_PEM)
    (problem,) = one(folder).problems
    assert "is not the key of the certificate" in problem
    (folder / "key.pem").unlink()
    assert "key.pem cannot be read: No such file" in one(folder).problems[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"hello", "is not PEM"),
        (SVID.chain_pem[:300], "is cut off"),
        (SVID.key_pem, "has no certificate, but: PRIVATE KEY"),
        (b"\x30\x03\x02\x01\x05", "has a certificate that is not valid X.509"),
        (pem_of(b"garbage").encode(), "has a certificate that is not valid X.509"),
        (BELOW.chain_pem + SVID.chain_pem, "begins with an authority's certificate; put the leaf first"),
    ],
)
def test_a_file_that_is_no_svid(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.pem").write_bytes(content)
    found = one(tmp_path / "a.pem")
    assert any(why in each for each in found.problems), found.problems
    assert SVID.key_pem.splitlines()[1].decode() not in str(found)


def test_der_is_read_and_a_bundle_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(BELOW.issue(REVIEWS, NOW).leaf)
    found = one(tmp_path / "a.der")
    assert (found.problems, found.notes) == ([], ["was not held against a bundle; name one with --bundle"])


def test_roots_and_authorities(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(pem_of(ROOT.root_der) + pem_of(Authority.root("b.test", NOW).root_der))
    assert (one(tmp_path / "roots.pem").title, one(tmp_path / "roots.pem").problems) == ("roots", [])
    (tmp_path / "chain.pem").write_bytes(BELOW.certificates_pem)
    assert (one(tmp_path / "chain.pem").title, one(tmp_path / "chain.pem").problems) == ("an authority", [])
    (tmp_path / "chain.pem").write_bytes(BELOW.certificates_pem + BELOW.chain_pem)
    assert "is not signed by the one behind it" in one(tmp_path / "chain.pem").problems[0]


def test_nothing_is_there(tmp_path: Path) -> None:
    assert one(tmp_path / "nothing").problems == ["does not exist"]
    assert "has neither a CA (ca.json) nor a certificate (cert.pem)" in one(tmp_path).problems[0]


def test_an_authority_and_all_that_it_has_issued(tmp_path: Path) -> None:
    made = store(tmp_path, CLOCK)
    kept, gone = made.issue(REVIEWS).folder, made.issue("spiffe://cluster.local/b").folder
    shutil.rmtree(gone)
    take(made)
    found = inspect(made.folder, CLOCK)
    assert [problem for look in found for problem in look.problems] == []
    assert [(look.file, look.title) for look in found] == [
        (f"{made.folder}", "a CA"),
        (f"{made.folder}/bundle.pem", "roots"),
        (f"{made.folder}/authorities/1/signer.pem", "an authority"),
        (f"{made.folder}/authorities/2/signer.pem", "an authority"),
        (f"{kept}/cert.pem", f"the certificate of {REVIEWS}"),
        (f"{gone}", ""),
    ]
    assert dict(found[0].facts)["change"].startswith("trust; next: sign (once every workload has the new bundle")
    (made.folder / "authorities/1/signer.key").chmod(0o644)
    (look,) = inspect(made.folder, CLOCK)
    assert "cannot be used" in look.problems[0] or made.current()
