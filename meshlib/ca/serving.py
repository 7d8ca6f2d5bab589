"""``meshlib ca serve``: the Workload API on sockets, and istiod's certificate API on a port, of one authority on disk. What is
changed there (``meshlib ca rotate``) is followed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.alarms import Alarms
from meshlib.ca.certificates import MOST, TTL, CertificateService
from meshlib.ca.issued import Issued
from meshlib.ca.istiod import CertificateServer, ServerCertificate
from meshlib.ca.workload_api import MODE, WorkloadApiServer
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.ca.callers import ByToken
    from meshlib.ca.issued import Standing
    from meshlib.clock import Clock


@dataclass(frozen=True, slots=True)
class Socket:
    """A Workload API: at ``uri`` whoever may open it (``mode``) is ``spiffe_id``."""

    uri: str
    spiffe_id: str
    dns: tuple[str, ...] = ()
    mode: int = MODE


class Serving:
    """From ``start`` to ``close``."""

    def __init__(
        self,
        standing: Callable[[], Standing],
        clock: Clock,
        *,
        sockets: Sequence[Socket] = (),
        istiod_address: str = "",
        by_token: ByToken | None = None,
        ttl: float = TTL,
        most: float = MOST,
    ) -> None:
        """Raises ``MeshError`` for what cannot be served."""
        if not sockets and not istiod_address:
            raise MeshError(
                "there is nothing to serve: name a socket of the Workload API, or an address of istiod's API"
            )
        self._alarms = Alarms(clock)
        self._issued: list[Issued] = []
        self._servers: list[WorkloadApiServer | CertificateServer] = []
        self._lock = threading.Lock()
        try:
            for each in sockets:
                try:
                    issued = Issued(standing, each.spiffe_id, clock, self._alarms, ttl=ttl, dns=each.dns)
                except ValueError as error:
                    raise MeshError(f"{each.spiffe_id} cannot be issued: {error}") from error
                self._issued.append(issued)
                self._servers.append(WorkloadApiServer(each.uri, issued, mode=each.mode))
            self.istiod: CertificateServer | None = None
            if istiod_address:
                service = CertificateService(standing, by_token, clock, ttl=min(ttl, most), most=most)
                self.istiod = CertificateServer(istiod_address, service, ServerCertificate(standing, clock))
                self._servers.append(self.istiod)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """All serve when it returns. Raises ``MeshError``, and serves nothing then."""
        try:
            for server in self._servers:
                server.start()
        except BaseException:
            self.close()
            raise
        for issued in self._issued:
            issued.follow()

    def close(self) -> None:
        """End all streams and calls. Idempotent."""
        with self._lock:
            servers, self._servers = self._servers, []
            issued, self._issued = self._issued, []
        for each in issued:
            each.close()
        for server in servers:
            server.close()
        self._alarms.close()
