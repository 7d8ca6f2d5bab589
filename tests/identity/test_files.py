"""A certificate in files that somebody else replaces."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

import meshlib
from meshlib.identity import files
from meshlib.identity.credentials import Credentials
from meshlib.identity.errors import BadCredentials
from meshlib.identity.files import LOOK, READ_AGAIN
from meshlib.identity.identity import Identity
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.security.svid import Svid
from tests.support.credential_files import REVIEWS, Files, HandAlarms, put
from tests.support.fake_clock import FakeClock

NOW = FakeClock().time()
ROOT = Authority.root("cluster.local", NOW - 86400)
BETWEEN = ROOT.intermediate(NOW)
OTHER = Authority.root("cluster.local", NOW)


class Followed:
    """An identity of files, with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.alarms = HandAlarms(self.clock)
        self.files = Files(folder)
        self.files.write(self.issued(), ROOT)
        self.identity = Identity.from_files(self.files.certificate, self.files.key, self.files.bundle)

    def issued(self, authority: Authority = BETWEEN, ttl: float = 86400.0) -> Svid:
        return authority.issue(REVIEWS, self.clock.time(), ttl=ttl)

    def start(self) -> Followed:
        self.identity.start(self.clock, self.alarms)
        return self

    @property
    def current(self) -> Credentials:
        found = self.identity.current()
        assert found is not None
        return found


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


def test_what_is_in_the_files_is_who_we_are(followed: Followed) -> None:
    followed.start()
    assert followed.current.svid.identity.text == REVIEWS
    assert followed.current.bundles.roots_of("cluster.local") == (ROOT.root_der,)
    assert followed.identity.problem == ""
    assert followed.identity.ready


def test_a_rotation_is_seen_by_the_next_connection(followed: Followed) -> None:
    followed.start()
    followed.files.write(new := followed.issued())
    assert followed.current.svid.leaf == new.leaf
    assert followed.current.version == 2


def test_a_rotation_is_seen_without_connections(followed: Followed) -> None:
    heard: list[bytes] = []
    followed.start().identity.subscribe(lambda made: heard.append(made.svid.leaf))
    followed.files.write(new := followed.issued())
    followed.alarms.advance(LOOK)
    assert heard == [new.leaf]


def test_links_that_lead_elsewhere_are_a_rotation(followed: Followed, tmp_path: Path) -> None:
    """As kubelet replaces a secret: ``..data`` is a link to a folder, and is renamed."""
    for n in (1, 2):
        Files(folder := tmp_path / str(n)).certificate.parent.mkdir()
        Files(folder).write(followed.issued(), ROOT)
    os.symlink("1", tmp_path / "..data")
    for name in ("svid.pem", "svid.key", "roots.pem"):
        os.unlink(tmp_path / name)
        os.symlink(f"..data/{name}", tmp_path / name)
    first = followed.start().current.svid.leaf
    os.symlink("2", tmp_path / "..new")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert followed.current.svid.leaf != first
    assert followed.identity.problem == ""


def broken(files: Files, name: str) -> None:
    whole = files.certificate.read_bytes()
    match name:
        case "key of another":
            put(files.key, ROOT.issue(REVIEWS, NOW).key_pem)
        case "half a certificate":
            put(files.certificate, whole[:200])
        case "no intermediate":
            put(files.certificate, whole[: whole.index(b"-----END") + 26])
        case "expired":
            files.write(ROOT.issue(REVIEWS, NOW - 7200, ttl=3600))
        case "not yet valid":
            files.write(ROOT.issue(REVIEWS, NOW + 7200, ttl=3600))
        case "garbage":
            put(files.key, b"garbage")
        case "empty":
            put(files.certificate, b"")
        case "gone":
            os.unlink(files.key)
        case "a folder":
            os.unlink(files.key)
            os.mkdir(files.key)
        case "a pipe":
            os.unlink(files.key)
            os.mkfifo(files.key)
        case "half a bundle":
            put(files.bundle, pem_of(OTHER.root_der).encode()[:100])
        case "a bundle without roots":
            put(files.bundle, whole)
        case "of another root":
            files.write(OTHER.issue(REVIEWS, NOW))
        case "another trust domain":
            other = Authority.root("other.example", NOW)
            files.write(other.issue("spiffe://other.example/ns/a/sa/b", NOW))


BROKEN = {
    "key of another": ("svid.key", "is not the key of the certificate"),
    "half a certificate": ("svid.pem", "is cut off"),
    "no intermediate": ("svid.pem", "append the intermediates"),
    "expired": ("svid.pem", "has expired"),
    "not yet valid": ("svid.pem", "clock of this machine"),
    "garbage": ("svid.key", "is not PEM"),
    "empty": ("svid.pem", "is empty"),
    "gone": ("svid.key", "does not exist"),
    "a folder": ("svid.key", "is not a file"),
    "a pipe": ("svid.key", "is not a file"),
    "half a bundle": ("roots.pem", "is cut off"),
    "a bundle without roots": ("roots.pem", "is not the certificate of an authority"),
    "of another root": ("svid.pem", "is not a root of its trust domain"),
    "another trust domain": ("svid.pem", "is not a root of its trust domain"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_at_the_start_is_an_error_with_file_and_remedy(name: str, followed: Followed) -> None:
    broken(followed.files, name)
    file, why = BROKEN[name]
    with pytest.raises(BadCredentials) as raised:
        meshlib.Mesh(identity=followed.identity, clock=followed.clock)
    assert str(followed.files.certificate.parent / file) in str(raised.value)
    assert why in str(raised.value)


@pytest.mark.parametrize("name", BROKEN)
def test_what_goes_wrong_later_leaves_the_last_good_version_and_is_said_at_once(
    name: str, followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    before = followed.start().current
    broken(followed.files, name)
    file, why = BROKEN[name]
    assert followed.current is before
    problem = followed.identity.problem
    assert str(followed.files.certificate.parent / file) in problem
    assert why in problem
    assert "The last good version stays in use; its certificate expires on 2023-11-15" in problem
    assert followed.identity.status()["problem"] == problem
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert [each for each in errors if str(followed.files.certificate.parent) in each] == [problem]


@pytest.mark.parametrize("name", BROKEN)
def test_what_was_wrong_may_be_mended(name: str, followed: Followed) -> None:
    followed.start()
    broken(followed.files, name)
    assert followed.current.version == 1
    if name == "a folder":
        os.rmdir(followed.files.key)
    followed.files.write(new := followed.issued(), ROOT)
    assert followed.current.svid.leaf == new.leaf
    assert followed.identity.problem == ""


def test_who_waits_starts_without_and_has_one_when_it_comes(tmp_path: Path) -> None:
    files, clock = Files(tmp_path), FakeClock()
    identity = Identity.from_files(files.certificate, files.key, files.bundle, wait=True)
    identity.start(clock, alarms := HandAlarms(clock))
    assert identity.current() is None
    assert not identity.ready
    assert "svid.pem does not exist; create it" in identity.problem
    files.write(BETWEEN.issue(REVIEWS, NOW), ROOT)
    alarms.advance(LOOK)
    assert identity.status()["ready"] is True
    assert identity.problem == ""


def test_a_certificate_that_is_not_yet_valid_is_taken_when_it_is(followed: Followed) -> None:
    followed.start()
    followed.files.write(later := ROOT.issue(REVIEWS, followed.clock.time() + 300))
    assert followed.current.version == 1
    followed.alarms.advance(300 + READ_AGAIN * LOOK)
    assert followed.current.svid.leaf == later.leaf


def test_a_root_that_is_taken_away_is_gone_even_if_it_was_ours(followed: Followed) -> None:
    """Its key may have been stolen: whom it vouches for must not come in, whatever becomes of us."""
    followed.start()
    followed.files.write(None, OTHER)
    assert followed.current.bundles.roots_of("cluster.local") == (OTHER.root_der,)
    assert followed.current.svid.identity.text == REVIEWS
    assert "is not a root of its trust domain" in followed.identity.problem


def test_bundles_are_taken_though_the_certificate_beside_them_is_broken(followed: Followed) -> None:
    followed.start()
    broken(followed.files, "half a certificate")
    followed.files.write(None, ROOT, OTHER)
    assert followed.current.bundles.roots_of("cluster.local") == (ROOT.root_der, OTHER.root_der)
    assert "is cut off" in followed.identity.problem


def test_a_three_step_change_of_the_root_has_no_problem(followed: Followed) -> None:
    followed.start()
    followed.files.write(None, ROOT, OTHER)
    assert followed.current.version == 2
    followed.files.write(followed.issued(OTHER))
    assert followed.current.version == 3
    followed.files.write(None, OTHER)
    assert followed.current.version == 4
    assert followed.identity.problem == ""


def test_bundles_by_trust_domain(followed: Followed, tmp_path: Path) -> None:
    federated = Authority.root("other.example", NOW)
    put(tmp_path / "other.pem", pem_of(federated.root_der).encode())
    files = followed.files
    bundles = {"cluster.local": files.bundle, "other.example": tmp_path / "other.pem"}
    identity = Identity.from_files(files.certificate, files.key, bundles)
    identity.start(followed.clock, followed.alarms)
    current = identity.current()
    assert current is not None
    assert current.bundles.roots_of("other.example") == (federated.root_der,)
    assert current.bundles.trust_domains == {"cluster.local", "other.example"}


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("Cluster.local", "is not a valid trust domain"),
        ("a/b", "is not a valid trust domain"),
        ("b.example", "no roots"),
    ],
)
def test_bundles_that_are_not_of_our_trust_domain_are_an_error(followed: Followed, domain: str, why: str) -> None:
    files = followed.files
    identity = Identity.from_files(files.certificate, files.key, {domain: files.bundle})
    with pytest.raises(BadCredentials, match=why):
        identity.start(followed.clock, followed.alarms)


def test_files_that_are_not_replaced_are_not_read_again(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    followed.start()
    monkeypatch.setattr("meshlib.identity.files.read_svid", None)
    followed.alarms.advance(60)
    assert followed.current.version == 1


def test_after_close_nothing_is_looked_at(followed: Followed) -> None:
    followed.start().identity.close()
    followed.files.write(followed.issued())
    followed.alarms.advance(60)
    assert followed.current.version == 1
    assert not [alarm for _, _, alarm in followed.alarms.due if alarm.ring is not None]


def test_an_identity_is_of_one_mesh(followed: Followed) -> None:
    with meshlib.Mesh(identity=followed.identity, clock=followed.clock):
        with pytest.raises(meshlib.errors.MeshError, match="belongs to a mesh already"):
            meshlib.Mesh(identity=followed.identity, clock=followed.clock)
    with meshlib.Mesh(identity=followed.identity, clock=followed.clock) as mesh:
        assert mesh.status()["identity"]["identity"] == REVIEWS


def test_a_forked_child_goes_on_looking(followed: Followed) -> None:
    with meshlib.Mesh(identity=followed.identity, clock=followed.clock):
        read, write = os.pipe()
        if (child := os.fork()) == 0:  # pragma: no cover (in the child)
            followed.files.write(followed.issued())
            os.write(write, str(followed.current.version).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 8) == b"2"
        os.close(read)
        os.close(write)


def test_a_mesh_that_is_dropped_is_not_kept_by_its_identity(followed: Followed) -> None:
    import gc
    import weakref

    mesh = meshlib.Mesh(identity=followed.identity, clock=followed.clock)
    core = weakref.ref(mesh._core)
    del mesh
    del followed.identity
    gc.collect()
    assert core() is None


@pytest.mark.parametrize("expired", [True, False])
def test_who_asks_while_files_are_read_waits_where_what_there_is_is_worth_nothing(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, expired: bool
) -> None:
    identity = followed.start().identity
    if expired:
        followed.clock.now += 2 * 86400
    followed.files.write(followed.issued())
    reads, go_on = threading.Event(), threading.Event()
    content = files._content

    def slowly(file: str) -> bytes | str:
        reads.set()
        assert go_on.wait(20)
        return content(file)

    monkeypatch.setattr(files, "_content", slowly)
    reader = threading.Thread(target=identity.current)
    reader.start()
    assert reads.wait(20)
    seen: list[int] = []
    asker = threading.Thread(target=lambda: seen.append(followed.current.version))
    asker.start()
    if not expired:
        asker.join(20)
        assert seen == [1]
    go_on.set()
    reader.join(20)
    asker.join(20)
    assert seen == ([2] if expired else [1])
    assert followed.current.version == 2


def test_who_is_told_of_a_rotation_may_ask(followed: Followed) -> None:
    identity = followed.start().identity
    told: list[int] = []
    identity.subscribe(lambda made: told.append(followed.current.version))
    followed.files.write(followed.issued(ttl=100.0))
    followed.clock.now += 50
    assert followed.current.version == 2
    assert told == [2]
