"""``Identity``: who this process is in the mesh, as a certificate that rotates. What users hand to ``Mesh(identity=...)``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.identity.credentials import Credentials
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.alarms import Alarms
    from meshlib.clock import Clock
    from meshlib.identity.source import CredentialSource
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles

log = logging.getLogger("meshlib.identity")


class BadCredentials(MeshError, ValueError):
    """A certificate, key or bundle that cannot be used: says which file, why, and what to do."""


class Identity:
    """Made by ``from_files``, ``from_workload_api`` or ``from_istiod``; belongs to the mesh that it is given to, which starts
    and closes it. ``current`` is what new connections use."""

    __slots__ = ("_current", "_listeners", "_lock", "_problem", "_source")

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._lock = threading.RLock()
        self._current: Credentials | None = None
        self._problem = ""
        self._listeners: list[Callable[[Credentials], None]] = []

    def current(self) -> Credentials | None:
        """The newest good version; None when there has been none yet."""
        self._source.look()
        return self._current

    @property
    def problem(self) -> str:
        """What is wrong now; "" when all is well."""
        return self._problem

    def subscribe(self, listener: Callable[[Credentials], None]) -> None:
        """``listener`` is called, from any thread, after each rotation."""
        with self._lock:
            self._listeners.append(listener)

    def start(self, clock: Clock, alarms: Alarms) -> None:
        """By the mesh that it belongs to."""
        self._source.start(self._publish, self._report, clock, alarms)

    def close(self) -> None:
        """Stop following the source."""
        self._source.close()

    def after_fork(self) -> None:
        """In a forked child."""
        self._lock = threading.RLock()
        self._source.after_fork()

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``: no key."""
        current = self._current
        return {
            "source": self._source.what,
            "identity": "" if current is None else current.svid.identity.text,
            "not_after": None if current is None else current.svid.not_after,
            "trust_domains": [] if current is None else sorted(current.bundles.trust_domains),
            "rotations": 0 if current is None else current.version - 1,
            "problem": self._problem,
        }

    def _publish(self, svid: Svid, bundles: TrustBundles) -> None:
        with self._lock:
            before = self._current
            if before is not None and before.svid.leaf == svid.leaf and before.bundles == bundles:
                return
            made = Credentials(svid, bundles, 1 if before is None else before.version + 1)
            self._current = made
            listeners = list(self._listeners)
        for listener in listeners:
            listener(made)

    def _report(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.error("%s", problem)
        self._problem = problem

    def __repr__(self) -> str:
        return f"<Identity of {self._source.what}>"
