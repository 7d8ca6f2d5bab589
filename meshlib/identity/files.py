"""The certificate, key and bundles of a process in files that somebody else replaces: cert-manager, a Kubernetes secret, an
agent, a person. They are looked at when a connection is made, and every second by an alarm of the mesh.

A certificate counts with its key, when a root of its trust domain vouches for it; bundles count by themselves. So what is half
written, or does not fit together yet, leaves the last good certificate and the last good bundles in use; and a root that an
operator has taken away is gone at once, even where our own certificate came of it.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.identity.errors import BadCredentials
from meshlib.identity.file_stamp import Stamp, stamp
from meshlib.security.pem import LONGEST, Unusable
from meshlib.security.svid import PART as CERTIFICATE
from meshlib.security.svid import read_svid, when
from meshlib.security.trust_bundles import TrustBundles, read_roots

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.clock import Clock
    from meshlib.identity.source import Publish, Report
    from meshlib.security.svid import Svid

log = logging.getLogger("meshlib.identity")

LOOK = 1.0
"""Seconds between two looks at files by the alarm."""
READ_AGAIN = 10
"""Looks until files that have a problem are read again though they have not changed: a certificate may be valid by now."""
TORN_READS = 3
"""So often files are read again that change while they are read."""

FilePath = str | os.PathLike[str]
Bundle = FilePath | Mapping[str, FilePath]
"""One file for our own trust domain, or files by trust domain ("": ours)."""


class CredentialFiles:
    """``bundle``: PEM or a SPIFFE bundle (JSON). ``wait``: what is missing or wrong at the start may come later."""

    def __init__(self, certificate: FilePath, key: FilePath, bundle: Bundle, *, wait: bool = False) -> None:
        self._certificate = os.fspath(certificate)
        self._key = os.fspath(key)
        self._bundles = (
            {domain: os.fspath(file) for domain, file in bundle.items()}
            if isinstance(bundle, Mapping)
            else {"": os.fspath(bundle)}
        )
        self._wait = wait
        self._files = (self._certificate, self._key, *self._bundles.values())
        self._reading = threading.Lock()
        self._reader = 0  # the thread that has it
        self._seen: tuple[Stamp, ...] | None = None
        self._svid: Svid | None = None
        self._roots: Mapping[str, tuple[bytes, ...]] | None = None
        self._problem = ""
        self._looks = 0
        self._alarm: Alarm | None = None
        self._closed = False

    @property
    def what(self) -> str:
        """``the files a.pem, a.key, roots.pem``."""
        return f"the files {', '.join(self._files)}"

    # -- as CredentialSource ----------------------------------------------------------------------------------------

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        """See ``CredentialSource``. Raises ``BadCredentials`` when there is no good version, unless it is to ``wait``."""
        self._publish, self._report, self._clock, self._alarms = publish, report, clock, alarms
        self._closed = False
        for domain in self._bundles:
            _must_be_trust_domain(domain)
        self._read()
        if self._svid is None and not self._wait:
            raise BadCredentials(self._problem)
        self._set_alarm()

    def look(self) -> None:
        """Read the files if they have changed. A few ``stat`` calls when they have not; who comes while another reads goes on
        with what there is, or waits where that is worth nothing."""
        if not self._have_changed() or not self._reading.acquire(blocking=self._waits()):
            return
        self._reader = threading.get_ident()
        try:
            if self._have_changed():
                self._read()
        finally:
            self._reader = 0
            self._reading.release()

    def _have_changed(self) -> bool:
        return not self._closed and tuple(map(stamp, self._files)) != self._seen

    def _waits(self) -> bool:
        """Not for itself: who is told of a rotation may ask."""
        if self._reader == threading.get_ident():
            return False
        return self._svid is None or self._svid.not_after < self._clock.time()

    def close(self) -> None:
        """See ``CredentialSource``."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()

    def after_fork(self) -> None:
        """See ``CredentialSource``: alarms of the parent do not ring here."""
        self._reading = threading.Lock()
        self._reader = 0
        if not self._closed and self._alarm is not None:
            self._set_alarm()

    # -- looking ----------------------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        self._alarm = self._alarms.after(LOOK, functools.partial(_ring, weakref.ref(self)))

    def ring(self) -> None:
        """By the alarm."""
        if self._closed or self._alarms.closed:
            return
        self._set_alarm()
        self._looks += 1
        if self._problem and self._looks % READ_AGAIN == 0:
            self._seen = None
        self.look()

    def _read(self) -> None:
        seen = tuple(map(stamp, self._files))
        for _ in range(TORN_READS):
            texts = [_content(file) for file in self._files]
            before, seen = seen, tuple(map(stamp, self._files))
            if before == seen:
                break
        try:
            self._judge(*texts)
        finally:
            self._seen = seen  # when that is done: who comes before waits for it, or goes on

    def _judge(self, certificate: bytes | str, key: bytes | str, *bundles: bytes | str) -> None:
        svid, why_no_svid = self._svid_of(certificate, key)
        roots, why_no_roots = self._roots_of(bundles)
        if svid is not None:
            why_no_svid = self._why_not_vouched_for(certificate, key, self._bundles_for(svid, roots))
        if svid is None or why_no_svid:
            svid = self._svid
        self._take(svid, roots, " ".join(filter(None, (why_no_svid, why_no_roots))))

    def _bundles_for(self, svid: Svid, roots: Mapping[str, tuple[bytes, ...]] | None) -> TrustBundles | None:
        """``roots``, or the last good ones, as those of the trust domains that they are of."""
        found = roots or self._roots
        if found is None:
            return None
        ours = svid.identity.trust_domain
        whole: dict[str, tuple[bytes, ...]] = {}
        for domain, each in found.items():
            whole[domain or ours] = (*whole.get(domain or ours, ()), *each)
        return TrustBundles(whole)

    def _take(self, svid: Svid | None, roots: Mapping[str, tuple[bytes, ...]] | None, problem: str) -> None:
        bundles = None if svid is None else self._bundles_for(svid, roots)
        if svid is None or bundles is None:
            self._tell(problem)
            return
        self._svid, self._roots = svid, roots or self._roots
        self._publish(svid, bundles)
        if problem:
            problem = (
                f"{problem} The last good version stays in use; its certificate expires on {when(svid.not_after)}."
            )
        self._tell(problem)

    def _tell(self, problem: str) -> None:
        if self._problem and not problem:
            log.info("%s can be used again", self.what)
        self._problem = problem
        self._report(problem)

    # -- reading ----------------------------------------------------------------------------------------------------

    def _svid_of(self, certificate: bytes | str, key: bytes | str) -> tuple[Svid | None, str]:
        for part, text in ((CERTIFICATE, certificate), ("the key", key)):
            if isinstance(text, str):
                return None, f"{part} {text}"
        assert isinstance(certificate, bytes)
        assert isinstance(key, bytes)
        try:
            return read_svid(certificate, key, now=self._clock.time()), ""
        except Unusable as wrong:
            return None, self._sentence(wrong)

    def _why_not_vouched_for(self, certificate: bytes | str, key: bytes | str, bundles: TrustBundles | None) -> str:
        if bundles is None:
            return ""  # why there are none is said
        assert isinstance(certificate, bytes)
        assert isinstance(key, bytes)
        try:
            read_svid(certificate, key, now=self._clock.time(), bundles=bundles)
        except Unusable as wrong:
            return self._sentence(wrong)
        return ""

    def _roots_of(self, texts: Sequence[bytes | str]) -> tuple[dict[str, tuple[bytes, ...]] | None, str]:
        """By trust domain, as they were given ("": ours)."""
        now = self._clock.time()
        found = {}
        for (domain, file), text in zip(self._bundles.items(), texts, strict=True):
            if isinstance(text, str):
                return None, f"the bundle {text}"
            try:
                found[domain] = read_roots(text, now)
            except Unusable as wrong:
                return None, f"{wrong.part} {file} {wrong.why}; {wrong.remedy}."
        return found, ""

    def _sentence(self, wrong: Unusable) -> str:
        if wrong.part == CERTIFICATE:
            return f"{wrong.part} {self._certificate} {wrong.why}; {wrong.remedy}."
        why = wrong.why.replace("of the certificate", f"of the certificate {self._certificate}")
        return f"{wrong.part} {self._key} {why}; {wrong.remedy}."


def _ring(source: weakref.ref[CredentialFiles]) -> None:
    """Alarms do not keep a mesh that is dropped."""
    found = source()
    if found is not None:
        found.ring()


def _must_be_trust_domain(name: str) -> None:
    from meshlib.policy.spiffe_id import SCHEME, why_not

    if name and (why_not(SCHEME + name) or "/" in name):
        raise BadCredentials(
            f"{name!r} is not a valid trust domain: a bundle is given by the name that SPIFFE IDs have after {SCHEME}, "
            "for example cluster.local"
        )


def _content(file: str) -> bytes | str:
    """What is in it, or what is wrong with it, as the rest of a sentence."""
    try:
        # O_NONBLOCK: a pipe that nobody writes to is not waited for
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return f"{file} is not a file; give one that can be read again when it has changed."
            with open(opened, "rb", closefd=False) as text:
                return text.read(LONGEST + 1)
        finally:
            os.close(opened)
    except FileNotFoundError:
        return f"{file} does not exist; create it, or give the right path."
    except PermissionError:
        return f"{file} must not be read by this user ({_user()}); give it to them, or change its mode."
    except OSError as error:
        return f"{file} cannot be read ({error.strerror}); it is tried again."


def _user() -> str:
    return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "the process's"
