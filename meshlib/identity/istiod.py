"""An identity from istiod: a certificate signing request to its CreateCertificate (istio.v1.auth), renewed between 50 and
80 % of the certificate's life. What it has given last stays in use while it is away."""

from __future__ import annotations

import logging
import os
import random
import threading
from typing import TYPE_CHECKING

from meshlib.identity import grpc_process
from meshlib.identity.errors import BadCredentials
from meshlib.identity.file_stamp import stamp
from meshlib.identity.istiod_call import Call, Failed, Way
from meshlib.identity.istiod_chain import asked_name, bearer, judged, key_and_request
from meshlib.identity.told import Told
from meshlib.policy import reconnect
from meshlib.security.certificate_messages import CertificateRequest, read_response, write_request
from meshlib.security.trust_bundles import read_roots
from meshlib.workload import DEFAULT_TRUST_DOMAIN

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.clock import Clock
    from meshlib.identity.source import Publish, Report
    from meshlib.security.svid import Svid

log = logging.getLogger("meshlib.identity")

SERVER_NAME = "istiod.istio-system.svc"
CLUSTER = "Kubernetes"
TTL = 86400.0
"""Seconds that a certificate is asked to be valid, as Istio's agent asks (its SECRET_TTL)."""
LOOK = 30.0
"""Seconds between two looks at the wall clock, which may jump, and at the file of roots."""
LONGEST = 60.0
"""Seconds between attempts that fail, at most."""
PATIENCE = 5.0
"""Seconds that ``start`` waits for the first certificate, of the machine's time."""


class IstiodSource:
    """Alarms of the mesh say when to ask; a thread asks, and ends. ``server_name`` is what istiod's own certificate must be of,
    whatever ``address`` (host:port) leads there. ``token_file`` and ``root_file`` are read for every call."""

    def __init__(
        self,
        address: str,
        token_file: str | os.PathLike[str],
        root_file: str | os.PathLike[str],
        *,
        trust_domain: str = DEFAULT_TRUST_DOMAIN,
        server_name: str = SERVER_NAME,
        cluster: str = CLUSTER,
        ttl: float = TTL,
        rng: random.Random | None = None,
        patience: float = PATIENCE,
    ) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdecimal() or "/" in address:
            raise BadCredentials(f"{address!r} is not an address of istiod: write it as istiod.istio-system.svc:15012")
        self._address = address
        self._token_file, self._root_file = os.fspath(token_file), os.fspath(root_file)
        self._trust_domain = trust_domain
        self._server_name, self._cluster = server_name, cluster
        self._ttl = ttl
        self._rng = rng or random.Random()
        self._patience = patience
        self._lock = threading.RLock()
        self._running = False
        self._failures = 0
        self._renew_at: float | None = None
        self._roots_seen: object = None
        self._look_alarm: Alarm | None = None
        self._retry: Alarm | None = None
        self._call: Call | None = None
        self._asking = False

    @property
    def what(self) -> str:
        """For people."""
        return f"istiod at {self._address}"

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        """Raises ``BadCredentials`` without grpcio; nothing for a server or files that are not there yet."""
        grpc_process.library()
        self._wall = clock.time
        self._alarms = alarms
        self._told = Told(publish, report)
        self._began = threading.Event()
        self._running = True
        self._ask()
        self._look_later()
        self._began.wait(self._patience)

    def look(self) -> None:
        """Alarms look."""

    def close(self) -> None:
        """Break off."""
        with self._lock:
            running, self._running = self._running, False
            call, self._call = self._call, None
            alarms = [each for each in (self._look_alarm, self._retry) if each is not None]
        for alarm in alarms:
            alarm.cancel()
        if call is not None:
            call.stop()
        if running:
            self._told.stop()

    def after_fork(self) -> None:
        """The certificate stays; it is renewed here where grpcio can, and said to be not where it cannot."""
        self._lock = threading.RLock()
        call, self._call, self._asking = self._call, None, False
        if call is not None:
            grpc_process.keep(call)
        if not self._running:
            return
        self._told.after_fork()
        if grpc_process.may_be_used():
            grpc_process.once_settled(self._look_later)
        else:
            self._told.failed(f"{self.what} is not asked again here: {grpc_process.FORKED}", "forked")

    # -- when -------------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        with self._lock:
            if self._running:
                self._look_alarm = self._alarms.after(min(LOOK, self._ttl / 8), self._look)

    def _look(self) -> None:
        """Whether it is time to renew, or the roots of istiod have changed."""
        try:
            renew_at = self._renew_at
            if renew_at is not None and (self._wall() >= renew_at or stamp(self._root_file) != self._roots_seen):
                self._ask()
        finally:
            self._look_later()

    def _ask(self) -> None:
        with self._lock:
            if not self._running or self._asking or not grpc_process.may_be_used():
                return
            self._asking = True
            self._retry = None
            self._renew_at = None
        threading.Thread(target=self._asked, name="meshlib-istiod", daemon=True).start()

    # -- in a thread of its own ---------------------------------------------------------------------------------------

    def _asked(self) -> None:
        problem = kind = ""
        try:
            self._obtain()
        except Failed as error:
            problem, kind = str(error), error.kind
        except Exception as error:  # whatever it is, it is asked again
            log.warning("what was not expected of %s", self.what, exc_info=True)
            problem, kind = f"{self.what} could not be asked ({type(error).__name__})", type(error).__name__
        with self._lock:
            self._asking = False
            if not self._running:
                return
            if problem:
                self._failures += 1
                self._told.failed(problem, kind)
                wait = reconnect.delay(self._failures, self._rng, longest=LONGEST)
                self._retry = self._alarms.after(wait, self._ask)
        self._began.set()

    def _obtain(self) -> None:
        """One certificate, by the first of the ways that is let in. Raises ``Failed``."""
        self._roots_seen = stamp(self._root_file)
        roots = self._roots()
        token = ""
        failures: list[Failed] = []
        try:
            token = self._token()
        except Failed as error:
            failures.append(error)
        key, csr = key_and_request(asked_name(token, self._trust_domain))
        asked = write_request(CertificateRequest(csr, round(self._ttl)))
        for way in self._ways(token):
            try:
                chain = self._create(asked, roots, way)
            except Failed as error:
                failures.append(error)
            else:
                self._take(chain, key)
                return
        problems = dict.fromkeys(str(each) for each in failures)
        raise Failed("; ".join(problems), "+".join(each.kind for each in failures))

    def _ways(self, token: str) -> list[Way]:
        """By the certificate that is to be renewed, while it is valid; then by the token."""
        ways = []
        svid: Svid | None = self._told.svid
        if svid is not None and svid.not_before <= self._wall() < svid.not_after:
            ways.append(Way(svid=svid))
        if token:
            ways.append(Way(token=token))
        return ways

    def _create(self, asked: bytes, roots: bytes, way: Way) -> bytes:
        call = Call(self._address, self._server_name, roots, way, self._cluster)
        with self._lock:
            if not self._running:
                call.stop()
                raise Failed("closed", "closed")
            self._call = call
        try:
            return call.create(asked, self.what)
        finally:
            call.stop()
            self._call = None

    def _take(self, raw: bytes, key: bytes) -> None:
        now = self._wall()
        try:
            svid, bundles = judged(read_response(raw), key, self._trust_domain, now)
        except ValueError as error:
            raise Failed(f"{self.what} has sent what is not used: {error}", str(error)) from None
        self._failures = 0
        self._renew_at = reconnect.renewal(now, svid.not_after, self._rng)
        self._told.good(svid, bundles)

    def _roots(self) -> bytes:
        text = self._read(self._root_file, "the roots of istiod")
        try:
            read_roots(text)
        except ValueError as error:
            raise Failed(f"{self.what} is not asked: {self._root_file}: {error}", "roots") from None
        return text

    def _token(self) -> str:
        text = self._read(self._token_file, "the token")
        try:
            return bearer(text)
        except ValueError as error:
            raise Failed(f"{self.what} is not asked: the token in {self._token_file} {error}", "token") from None

    def _read(self, file: str, part: str) -> bytes:
        try:
            with open(file, "rb") as opened:
                return opened.read(1 << 20)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Failed(f"{self.what} is not asked: {part} in {file} cannot be read: {why}", part) from None

    def __repr__(self) -> str:
        return f"<IstiodSource {self._address}>"
