"""An authority in a folder: made once, read by many, written by one."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from meshlib.ca.folders import BadStore
from meshlib.ca.rotation import take
from meshlib.ca.store import Store
from meshlib.security.peer_certificate import identity_of
from tests.support.fake_clock import FakeClock
from tests.support.stores import RATINGS, REVIEWS, Crash, crashing_at, is_a_pair, roots_in, store


def modes(folder: Path) -> dict[str, str]:
    found = [each for each in folder.rglob("*") if not each.is_symlink()]
    return {str(each.relative_to(folder)): f"{stat.S_IMODE(each.stat().st_mode):o}" for each in [folder, *found]}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store(tmp_path).issue(REVIEWS)
    finally:
        os.umask(before)
    found = modes(tmp_path / "ca")
    assert found["."] == found["issued/ns+default+sa+reviews"] == "700"
    keys = [name for name in found if "key" in name]
    assert len(keys) == 3
    assert {found[name] for name in keys} == {"600"}
    assert [name for name, mode in found.items() if int(mode, 8) & 0o022] == [], "nobody else may write"


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    made = store(tmp_path)
    before = (made.folder / "authorities/1/root.key").read_bytes()
    with pytest.raises(BadStore, match="has a CA already; name a new folder"):
        store(tmp_path)
    assert (made.folder / "authorities/1/root.key").read_bytes() == before


def test_nothing_of_somebody_else_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca/thesis.txt").write_text("all of it")
    with pytest.raises(BadStore, match="is there already and is not empty"):
        store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadStore, match="is there already"):
        Store.create(tmp_path / "file", "cluster.local", FakeClock())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ca", "file"]


def test_an_empty_folder_becomes_an_authority(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir(0o755)
    assert store(tmp_path).trust_domain == "cluster.local"
    assert modes(tmp_path / "ca")["."] == "700"


def test_a_trust_domain_that_is_none_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match="is not a valid trust domain"):
        Store.create(tmp_path / "ca", "Cluster.local", FakeClock())
    assert list(tmp_path.iterdir()) == []


def test_what_is_interrupted_while_it_is_made_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(30):
        with crashing_at(count, monkeypatch):
            with contextlib.suppress(Crash):
                store(tmp_path)
        if (tmp_path / "ca").exists():
            break
    assert 5 < count < 29
    assert Store.open(tmp_path / "ca", FakeClock()).issue(REVIEWS).folder.is_dir(), "all of it is there"


def test_a_folder_without_an_authority(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match=r"has no CA \(no ca\.json\); make one: meshlib ca init "):
        Store.open(tmp_path, FakeClock())


@pytest.mark.parametrize(
    ("what", "mode", "said"),
    [
        ("", 0o755, "other users can enter it .*chmod 700"),
        ("authorities/1/signer.key", 0o644, "private key that others may"),
    ],
)
def test_keys_that_others_may_read_are_not_used(tmp_path: Path, what: str, mode: int, said: str) -> None:
    folder = store(tmp_path).folder
    (folder / what).chmod(mode)
    with pytest.raises(BadStore, match=said):
        Store.open(folder, FakeClock())


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ca.json", b"{", "ca.json is damaged"),
        ("ca.json", b'{"format": 2}', "has format 2, which this version"),
        ("authorities/1/signer.pem", b"", "signer.pem has no valid certificate"),
        ("authorities/1/signer.key", b"c4n4ry", "signer.key: the key is not PEM"),
        ("authorities/1/root.pem", None, "root.pem cannot be read: No such file"),
    ],
)
def test_damage_is_said_with_its_file(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    folder = store(tmp_path).folder
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(BadStore, match=said) as raised:
        Store.open(folder, FakeClock())
    assert "c4n4ry" not in str(raised.value)


def test_an_svid_is_three_files_that_belong_together(tmp_path: Path) -> None:
    made = store(tmp_path).issue(REVIEWS, ttl=600, dns=("reviews",))
    assert not made.renewed
    assert is_a_pair(made.folder)
    assert str(identity_of((made.folder / "cert.pem").read_bytes())) == REVIEWS
    assert len(roots_in(made.folder / "bundle.pem")) == 1
    assert len(roots_in(made.folder / "cert.pem")) == 2, "the leaf and its intermediate"
    assert made.until.endswith("UTC")
    ran = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-attime", "1700001000", "-CAfile", "bundle.pem"),
            *("-untrusted", "cert.pem", "cert.pem"),
        ],
        cwd=made.folder,
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


def test_issued_again_it_is_renewed_with_a_new_key(tmp_path: Path) -> None:
    made = store(tmp_path)
    first = (made.issue(REVIEWS).folder / "key.pem").read_bytes()
    again = made.issue(REVIEWS)
    assert again.renewed
    assert (again.folder / "key.pem").read_bytes() != first
    assert is_a_pair(again.folder)


def test_what_it_does_not_sign_is_refused_with_its_reason(tmp_path: Path) -> None:
    made = store(tmp_path)
    with pytest.raises(BadStore, match="it is of other.test"):
        made.issue("spiffe://other.test/a")
    with pytest.raises(BadStore, match="is not a valid DNS name"):
        made.issue(REVIEWS, dns=("*",))
    assert not (made.folder / "issued").exists()


def test_folders_of_identities_never_meet(tmp_path: Path) -> None:
    made = store(tmp_path)
    long = "a" * 300
    identities = ["a/b", "a", "a/..data", "a/cert.pem", "a.b", "a_b", long, long + "b", "ns/default/sa/x"]
    folders = {made.folder_of(f"spiffe://cluster.local/{each}") for each in identities}
    assert len(folders) == len(identities)
    assert {each.parent for each in folders} == {made.folder / "issued"}
    assert max(len(each.name) for each in folders) < 200


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    from meshlib.ca.folders import locked

    made = store(tmp_path)
    with locked(made.folder, FakeClock()), pytest.raises(BadStore, match="is being written by another process"):
        made.issue(REVIEWS)
    assert made.clock.slept, "it has waited first"  # type: ignore[attr-defined]
    assert made.issue(REVIEWS).folder.is_dir()


def test_a_change_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    made = store(tmp_path)
    other = Store.open(made.folder, FakeClock())
    before = other.current()
    assert other.current() is before, "nothing is read again that has not changed"
    take(made)
    assert len(other.current().bundles.roots) == 2
    take(made)
    assert other.current().signer.root_der != before.signer.root_der


def test_no_key_is_in_a_repr(tmp_path: Path) -> None:
    made = store(tmp_path)
    shown = repr(made) + repr(made.current()) + repr(made.issue(RATINGS))
    assert "PRIVATE" not in shown
    assert "key=" not in shown
