"""``Identity``: who this process is in the mesh, as a certificate that rotates. What users hand to ``Mesh(identity=...)``."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from meshlib.identity.credentials import Credentials
from meshlib.identity.errors import BadCredentials as BadCredentials
from meshlib.identity.expiry import LOOK, expiry_notice
from meshlib.problems import MeshError

if TYPE_CHECKING:
    import os

    from meshlib.alarms import Alarm, Alarms
    from meshlib.clock import Clock
    from meshlib.identity.source import CredentialSource
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles

log = logging.getLogger("meshlib.identity")


class Identity:
    """A certificate with its key and the trusted roots, all of which may rotate. Make one with ``from_files``,
    ``from_workload_api`` or ``from_istiod``. It belongs to the mesh that it is given to, which starts and closes it.
    ``current()`` returns what new connections use."""

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_alarms",
        "_clock",
        "_current",
        "_expiry",
        "_listeners",
        "_lock",
        "_problem",
        "_source",
        "_watchers",
    )

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._lock = threading.RLock()
        self._current: Credentials | None = None
        self._problem = ""
        self._expiry = ""
        self._listeners: list[Callable[[Credentials], None]] = []
        self._watchers: list[Callable[[], None]] = []
        self._clock: Clock | None = None
        self._alarms: Alarms | None = None
        self._alarm: Alarm | None = None

    @classmethod
    def from_files(
        cls,
        cert: str | os.PathLike[str],
        key: str | os.PathLike[str],
        bundle: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
        *,
        wait: bool = False,
    ) -> Identity:
        """An identity from files, which are watched: new connections use what is in them now. If they are half written or
        not valid, the last good version stays in use, and the log and ``mesh.status()`` report the problem.

        ``cert`` (PEM) has the leaf, an X.509-SVID, and its intermediates; ``key`` is PKCS#8, PKCS#1 or SEC 1 in PEM, not
        encrypted. ``bundle`` has the roots of our trust domain, in PEM or as a SPIFFE bundle (JSON). To trust other trust
        domains as well, pass a mapping from trust domain to such a file, with ours among them ("" stands for it): a root
        is trusted for its own trust domain only.

        If they cannot be used at the start, the mesh raises ``BadCredentials`` with the file and the fix. With ``wait`` it
        starts anyway, without an identity until they can be used, and reports that.
        """
        from meshlib.identity.files import CredentialFiles

        return cls(CredentialFiles(cert, key, bundle, wait=wait))

    @classmethod
    def from_workload_api(cls, socket: str | None = None, *, hint: str = "") -> Identity:
        """An identity from the SPIFFE Workload API (SPIRE's agent, ``meshlib ca serve``) at ``socket``: ``unix:///path`` or
        ``tcp://ip:port``, by default SPIFFE_ENDPOINT_SOCKET. If it offers several certificates, the first one is used, or the
        first with this ``hint``. The API may start later than this process and may go away: the last certificate stays in
        use. Needs the extra ``grpc``. Raises ``BadCredentials`` for an address that is not valid."""
        from meshlib.identity.workload_api import WorkloadApiSource

        return cls(WorkloadApiSource(socket, hint=hint))

    @classmethod
    def from_istiod(
        cls,
        address: str,
        token_file: str | os.PathLike[str],
        root_file: str | os.PathLike[str],
        *,
        trust_domain: str = "cluster.local",
        server_name: str = "istiod.istio-system.svc",
        cluster: str = "Kubernetes",
        ttl: float = 86400.0,
    ) -> Identity:
        """An identity from istiod's CreateCertificate at ``address`` (host:port).

        ``token_file`` has the bearer token (for the audience istio-ca) by which istiod identifies us; ``root_file`` has the
        roots (PEM) that verify istiod's own certificate, which must be for ``server_name``. Both are read for each request. A
        certificate for a trust domain other than ``trust_domain`` is not used. ``cluster`` is istiod's name for our cluster
        (ClusterID); ``ttl`` is the requested validity in seconds.

        The certificate is renewed after 50 to 80 % of its life, authenticated by the old certificate if istiod accepts it,
        else by the token. The files and istiod may become available later. Needs the extra ``grpc``. Raises ``BadCredentials``
        for an address that is not valid."""
        from meshlib.identity.istiod import IstiodSource

        return cls(
            IstiodSource(
                address,
                token_file,
                root_file,
                trust_domain=trust_domain,
                server_name=server_name,
                cluster=cluster,
                ttl=ttl,
            )
        )

    def current(self) -> Credentials | None:
        """The newest good certificate, key and roots; None if there have been none yet."""
        self._source.look()
        return self._current

    @property
    def ready(self) -> bool:
        """Whether there is a certificate that is valid now. Without one no peer accepts our connections."""
        current = self.current()
        if current is None or self._clock is None:
            return False
        return current.svid.not_before <= self._clock.time() <= current.svid.not_after

    @property
    def latest(self) -> Credentials | None:
        """Like ``current()``, but without checking the source for something newer. Cheap enough for every call."""
        return self._current

    @property
    def what(self) -> str:
        """Where it comes from, for people to read."""
        return self._source.what

    @property
    def problem(self) -> str:
        """What is currently wrong with it; "" if nothing is."""
        self._look_at_expiry()
        return "; ".join(filter(None, (self._problem, self._expiry)))

    def subscribe(self, listener: Callable[[Credentials], None]) -> None:
        """``listener`` is called, from any thread, after each rotation."""
        with self._lock:
            self._listeners.append(listener)

    def watch(self, watcher: Callable[[], None]) -> None:
        """``watcher`` is called twice a minute while a mesh has this identity: for what depends on dates."""
        with self._lock:
            self._watchers.append(watcher)

    def start(self, clock: Clock, alarms: Alarms) -> None:
        """Called by the mesh that it belongs to. Raises ``MeshError`` if it belongs to another mesh that is not closed, and
        ``BadCredentials`` if the source cannot be used."""
        with self._lock:
            if self._alarms is not None:
                raise MeshError(f"{self!r} belongs to a mesh already; make one for each mesh")
            self._clock, self._alarms = clock, alarms
        try:
            self._source.start(self._publish, self._report, clock, alarms)
        except BaseException:
            self.close()
            raise
        self._set_alarm()

    def close(self) -> None:
        """Stop watching the source."""
        with self._lock:
            self._alarms = None
            alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
        self._source.close()

    def after_fork(self) -> None:
        """Called in a forked child."""
        self._lock = threading.RLock()
        if self._current is not None:
            self._current.after_fork()
        self._source.after_fork()
        if self._alarm is not None:
            self._set_alarm()

    def status(self) -> dict[str, object]:
        """What ``mesh.status()`` shows, without the key."""
        current = self._current
        return {
            "source": self._source.what,
            "identity": "" if current is None else current.svid.identity.text,
            "ready": self.ready,
            "not_after": None if current is None else current.svid.not_after,
            "trust_domains": [] if current is None else sorted(current.bundles.trust_domains),
            "rotations": 0 if current is None else current.version - 1,
            "problem": self.problem,
        }

    def _publish(self, svid: Svid, bundles: TrustBundles) -> None:
        with self._lock:
            before = self._current
            if before is not None and before.svid.leaf == svid.leaf and before.bundles == bundles:
                return
            made = Credentials(svid, bundles, 1 if before is None else before.version + 1)
            self._current = made
            if before is not None:
                before.replaced = True
            listeners = list(self._listeners)
        if before is not None:
            log.info("%s: rotated (version %d)", svid.identity, made.version)
        self._look_at_expiry()
        for listener in listeners:
            try:
                listener(made)
            except Exception:
                log.exception(
                    "a callback after the rotation of %s raised an error; the rotation stays in effect",
                    svid.identity,
                )

    def _report(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem and problem != before:
            log.error("%s", problem)

    # -- expiry -----------------------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        alarms = self._alarms
        if alarms is not None:
            self._alarm = alarms.after(LOOK, functools.partial(_ring, weakref.ref(self)))

    def ring(self) -> None:
        """By its alarm."""
        if self._alarms is not None and not self._alarms.closed:
            self._set_alarm()
            self._look_at_expiry()
            for watcher in list(self._watchers):
                watcher()

    def _look_at_expiry(self) -> None:
        current, clock = self._current, self._clock
        if current is None or clock is None:
            return
        notice = expiry_notice(current.svid, clock.time(), in_trouble=bool(self._problem))
        before, self._expiry = self._expiry, notice
        if notice and notice != before:
            log.error("%s", "; ".join(filter(None, (notice, self._problem))))

    def __repr__(self) -> str:
        return f"<Identity of {self._source.what}>"


def _ring(identity: weakref.ref[Identity]) -> None:
    """Alarms do not keep a mesh that is dropped."""
    found = identity()
    if found is not None:
        found.ring()
