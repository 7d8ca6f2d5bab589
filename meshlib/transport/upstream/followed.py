"""What is made of certificate files, made anew when they have changed: whoever replaces them (cert-manager, a Kubernetes
secret, a person) tells nobody.

The files are looked at when a connection is made, never per call: a ``stat`` of each. New connections get the new version;
those that are open go on.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from meshlib.identity.file_stamp import Stamp, stamp
from meshlib.problems import MeshError

log = logging.getLogger("meshlib.tls")

T = TypeVar("T")


class UnusableFiles(MeshError, OSError):
    """There is no usable version of the files that a connection needs."""


class Followed(Generic[T]):
    """``load()`` of ``files``, again when they have changed. A new version that cannot be used (half written, broken, a key
    that is not yet that of the certificate) leaves the last good one in use: said once in the log at level ERROR, and in
    ``problem`` until a version is good. ``secrets``: names of what has the rest of the contents, to be told."""

    __slots__ = ("__weakref__", "_good", "_load", "_lock", "_secrets", "_seen", "files", "problem", "what")

    def __init__(self, what: str, files: Iterable[str], load: Callable[[], T], secrets: str = "") -> None:
        self.what = what
        self._secrets = secrets
        self.files = tuple(file for file in files if file)
        self.problem = ""
        self._load = load
        self._lock = threading.Lock()
        self._seen: tuple[Stamp, ...] | None = None
        self._good: list[T] = []

    def current(self) -> T:
        """The newest good version. Raises ``UnusableFiles`` when there has been none."""
        seen = tuple([stamp(file) for file in self.files])
        if seen == self._seen and self._good:
            return self._good[0]
        with self._lock:
            if seen != self._seen or not self._good:
                self._renew(seen)
            return self._good[0]

    def _renew(self, seen: tuple[Stamp, ...]) -> None:
        try:
            made = self._load()
        except (OSError, ValueError) as error:
            sources = ", ".join([*self.files, self._secrets] if self._secrets else self.files)
            named = f" ({sources})" if sources else ""
            told = f"{self.what} cannot be used{named}: {error}"
            # what is not the fault of the contents (too many open files ...) may be over at the next look
            self._seen = seen if isinstance(error, (ssl.SSLError, ValueError)) else None
            if not self._good:
                raise UnusableFiles(told) from error
            if not self.problem:
                log.error("%s; the last good version stays in use for new connections", told)
            self.problem = told
            return
        if self.problem:
            log.info("%s can be used again", self.what)
        elif self._good:
            log.info("%s changed on disk; new connections use them", self.what)
        self.problem = ""
        self._good = [made]
        self._seen = seen

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``."""
        return {"files": list(self.files), "problem": self.problem}
