"""What a remote source tells its identity, from whichever thread: nothing any more once it is stopped, and one failure once,
whatever words it comes in. (When a certificate is about to expire, ``Identity`` says by itself.)"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.identity.source import Publish, Report
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles


class Told:
    """Of one source, from its ``start`` to its ``close``."""

    __slots__ = ("_kind", "_lock", "_publish", "_report", "_stopped", "svid")

    def __init__(self, publish: Publish, report: Report) -> None:
        self._publish = publish
        self._report = report
        self._lock = threading.Lock()
        self._kind: str | None = None
        self._stopped = False
        self.svid: Svid | None = None
        """What was published last."""

    def good(self, svid: Svid, bundles: TrustBundles) -> None:
        """A new good version, which ends what was wrong."""
        with self._lock:
            if self._stopped:
                return
            self.svid, self._kind = svid, None
        self._publish(svid, bundles)  # outside: it calls whoever listens
        self._report("")

    def failed(self, problem: str, kind: str) -> None:
        """Why there is no newer version. ``kind``: what it is a case of; what is of the kind of the last one is said in its
        words, for servers put addresses and numbers into theirs."""
        with self._lock:
            if self._stopped or kind == self._kind:
                return
            self._kind = kind
            none = "" if self.svid is not None else "; there is no certificate yet, so no mTLS"
        self._report(f"{problem}{none}")

    def stop(self) -> None:
        """Nothing is published or said afterwards."""
        with self._lock:
            self._stopped = True

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
