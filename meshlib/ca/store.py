"""An authority on disk.

::

    DIR/                      0700
      ca.json                 who signs, whose roots are trusted (state.py)
      authorities/1/          root.pem root.key; signer.pem signer.key: the intermediate that signs, its root behind it
      bundle.pem              the roots that are trusted: what holders of SVIDs trust
      issued/<identity>/      cert.pem key.pem bundle.pem, as Identity.from_files reads them (handed.py)
      issued.json             what was issued to files, so that a change of the authority issues it again (ledger.py)
      lock                    held by who writes

Keys are 0600, and one that others may read is not used. What is written is written whole; nothing of somebody else is replaced
without being asked. Only writers lock: a reader finds the old state or the new.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from meshlib.ca.folders import (
    OURS,
    SECRET,
    BadStore,
    locked,
    make_folder,
    read_secret,
    replace,
    require_ours,
    settle,
    write_new,
)
from meshlib.ca.handed import hand_out
from meshlib.ca.ledger import Entry, Ledger
from meshlib.ca.state import FILE, State
from meshlib.security.authority import ROOT_TTL, SVID_TTL, Authority
from meshlib.security.certificate_forms import trust_domain_of, workload_of
from meshlib.security.issuers import issuers_of
from meshlib.security.keys import signing_key
from meshlib.security.trust_bundles import TrustBundles

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.security.keys import PrivateKey
    from meshlib.security.svid import Svid

ROOT, ROOT_KEY, SIGNER, SIGNER_KEY = "root.pem", "root.key", "signer.pem", "signer.key"
BUNDLE = "bundle.pem"
T = TypeVar("T")
LONGEST_NAME = 150
"""Characters of an identity's folder; a longer one ends with its digest."""


@dataclass(frozen=True, slots=True, repr=False)
class Current:
    """What holds now: who signs, and the roots to trust."""

    state: State
    signer: Authority
    bundles: TrustBundles

    @property
    def bundle_pem(self) -> bytes:
        """The roots in PEM."""
        return self.bundles.pem.encode()

    def __repr__(self) -> str:
        return f"<Current of {self.state.trust_domain}, authority {self.state.signing}>"


@dataclass(frozen=True, slots=True)
class Issued:
    """An SVID that was written: where, and whether it renewed one of the same identity there."""

    folder: Path
    svid: Svid
    renewed: bool

    @property
    def until(self) -> str:
        """When it ends, for people."""
        return datetime.datetime.fromtimestamp(self.svid.not_after, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Store:
    """``create`` and ``open`` make them. Threads may share one; what another process changes is seen by ``current``."""

    __slots__ = ("_current", "_seen", "clock", "folder")

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._seen: tuple[int, ...] = ()
        self._current: Current | None = None

    @classmethod
    def create(
        cls, folder: str | Path, trust_domain: str, clock: Clock, *, ttl: float = ROOT_TTL, rsa: bool = False
    ) -> Store:
        """A new authority in a folder that is not there yet, or empty. ``ttl``: seconds until its root ends. Raises
        ``BadStore``."""
        folder = Path(folder).absolute()
        try:
            trust_domain_of(trust_domain)
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                inside = "has a CA already" if (folder / FILE).exists() else "is there already and is not empty"
                raise BadStore(f"{folder} {inside}; name a new folder, or remove it yourself: it may hold keys")
            folder.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                building.chmod(OURS)
                made = cls(building, clock)
                made.add_authority(1, trust_domain, ttl=ttl, rsa=rsa)
                write_new(building / FILE, State(trust_domain, 1, (1,), rsa, ttl).dump(), SECRET)
                write_new(building / BUNDLE, made.read().bundle_pem)
                settle(building)
                os.rename(building, folder)  # only onto nothing, or onto an empty folder
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
            settle(folder.parent)
        except ValueError as error:
            raise error if isinstance(error, BadStore) else BadStore(f"{folder}: {error}") from error
        except OSError as error:
            raise BadStore(f"{folder} cannot be made: {error.strerror}") from error
        return cls.open(folder, clock)

    @classmethod
    def open(cls, folder: str | Path, clock: Clock) -> Store:
        """The authority in a folder. Raises ``BadStore`` when there is none, or it cannot be used."""
        found = cls(Path(folder).absolute(), clock)
        if not (found.folder / FILE).is_file():
            raise BadStore(
                f"{found.folder} has no CA (no {FILE}); make one: meshlib ca init {found.folder} --trust-domain NAME"
            )
        require_ours(found.folder)
        found.current()
        return found

    @property
    def trust_domain(self) -> str:
        """Whose SPIFFE IDs it signs."""
        return self.current().state.trust_domain

    def current(self) -> Current:
        """Who signs and which roots are trusted, as they are now: one look at one file, which is read when it has changed.
        Raises ``BadStore``."""
        seen = self._look()
        if self._current is None or seen != self._seen:
            self._current, self._seen = self.read(), seen
        return self._current

    def issue(
        self,
        identity: str,
        *,
        ttl: float = SVID_TTL,
        dns: Sequence[str] = (),
        rsa: bool = False,
        out: str | Path | None = None,
        force: bool = False,
    ) -> Issued:
        """An SVID with a new key, written to ``out`` (``issued/<identity>`` when None). Raises ``BadStore`` when it is not one
        that this authority signs, or the folder has somebody else's files (unless ``force``)."""
        with locked(self.folder, self.clock):
            current = self.current()
            try:
                svid = current.signer.issue(identity, self.clock.time(), ttl=ttl, dns=dns, rsa=rsa)
            except ValueError as error:
                raise BadStore(f"{self.folder}: {error}") from error
            folder = self.folder_of(identity) if out is None else Path(out).absolute()
            try:
                if out is None and not folder.parent.is_dir():
                    make_folder(folder.parent)
                renewed = hand_out(folder, svid, current.bundle_pem, force=force)
                Ledger.of(self.folder).noted(Entry(identity, tuple(dns), ttl, rsa, str(folder))).write()
            except OSError as error:
                raise BadStore(f"{error.filename or folder} cannot be written: {error.strerror}") from error
            return Issued(folder, svid, renewed)

    def folder_of(self, identity: str) -> Path:
        """Where the SVID of an identity is put unless something else is said: its path, with ``+`` for slashes."""
        name = workload_of(identity, self.trust_domain).path[1:].replace("/", "+")
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}+{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        return self.folder / "issued" / name

    # -- for ``rotation.py`` -------------------------------------------------------------------------------------------

    def place(self, number: int) -> Path:
        """The folder of an authority."""
        return self.folder / "authorities" / str(number)

    def add_authority(self, number: int, trust_domain: str, *, ttl: float = ROOT_TTL, rsa: bool = False) -> None:
        """A new root and its intermediate; in place when they are whole. What an interrupted run left there is replaced."""
        now = self.clock.time()
        root = Authority.root(trust_domain, now, ttl=ttl, rsa=rsa)
        signer = root.intermediate(now, ttl=ttl, rsa=rsa)
        place = self.place(number)
        building = place.with_name(f".{number}.new")
        if not place.parent.is_dir():
            make_folder(place.parent)
        shutil.rmtree(building, ignore_errors=True)
        make_folder(building)
        write_new(building / ROOT, root.certificates_pem)
        write_new(building / ROOT_KEY, root.key_pem, SECRET)
        write_new(building / SIGNER, signer.certificates_pem)
        write_new(building / SIGNER_KEY, signer.key_pem, SECRET)
        settle(building)
        shutil.rmtree(place, ignore_errors=True)
        building.rename(place)
        settle(place.parent)

    def decide(self, state: State) -> None:
        """From now on this holds."""
        replace(self.folder / FILE, state.dump(), SECRET)
        replace(self.folder / BUNDLE, self.current().bundle_pem)

    def read(self) -> Current:
        """What is on disk. A state that is replaced meanwhile is read again."""
        for last in (False, True):
            file = self.folder / FILE
            try:
                text = file.read_bytes()
            except OSError as error:
                raise BadStore(f"{file} cannot be read: {error.strerror}") from error
            try:
                return self._of(State.parse(text, file))
            except BadStore:
                if last or file.read_bytes() == text:
                    raise
        raise AssertionError

    def _of(self, state: State) -> Current:
        from cryptography.hazmat.primitives.serialization import Encoding

        roots = []
        for number in state.trusted:
            root = _read(self.place(number) / ROOT, issuers_of)[-1]
            roots.append(root.public_bytes(Encoding.DER))
        place = self.place(state.signing)
        key = _key(place / SIGNER_KEY)
        signer = _read(place / SIGNER, lambda text: Authority.from_pem(text, key, trust_domain=state.trust_domain))
        return Current(state, signer, TrustBundles({state.trust_domain: tuple(roots)}))

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.folder / FILE)
        except OSError as error:
            raise BadStore(f"{self.folder / FILE} cannot be read: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def __repr__(self) -> str:
        return f"<Store {self.folder}>"


def _key(file: Path) -> PrivateKey:
    """An authority's key. What is wrong with it is said with the name of its file."""
    try:
        return signing_key(read_secret(file))
    except ValueError as error:
        raise BadStore(f"{file}: {error}; or put it back from a backup, or make a new CA") from error


def _read(file: Path, read: Callable[[bytes], T]) -> T:
    """A file of certificates. What is wrong with it is said with its name."""
    try:
        return read(file.read_bytes())
    except OSError as error:
        raise BadStore(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadStore(f"{file} {error}; put it back from a backup, or make a new CA") from error
