"""Certificates that ``meshlib ca serve`` hands out over the Workload API: one an identity, made anew at half of its life and
whenever the authority or a root changes. For development: whoever opens the socket is given the key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.spiffe_id import SCHEME
from meshlib.problems import MeshError
from meshlib.security.pem import blocks
from meshlib.security.workload_messages import X509Svid, X509SvidResponse, write_bundles, write_svids

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.clock import Clock
    from meshlib.security.authority import Authority
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles

log = logging.getLogger("meshlib.ca")

LOOK = 30.0
"""Seconds between two looks at the wall clock, which may jump."""


class Standing(Protocol):
    """What an authority is now; the same object as long as nothing changes. ``Store.current`` gives one."""

    @property
    def signer(self) -> Authority:
        """Who signs."""
        ...

    @property
    def bundles(self) -> TrustBundles:
        """The roots of its own trust domain, and of those federated with it."""
        ...


class Issued:
    """Of one SPIFFE ID. ``subscribe``d functions are called, from any thread, when there is something new."""

    def __init__(
        self,
        standing: Callable[[], Standing],
        spiffe_id: str,
        clock: Clock,
        alarms: Alarms,
        *,
        ttl: float,
        dns: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        self._standing = standing
        self._spiffe_id = spiffe_id
        self._clock = clock
        self._alarms = alarms
        self._ttl = ttl
        self._dns = dns
        self._hint = hint
        self._lock = threading.RLock()
        self._listeners: dict[int, Callable[[], object]] = {}
        self._alarm: Alarm | None = None
        self._closed = False
        self._problem = ""
        self._svid: Svid | None = None
        self._of: Standing | None = None
        self._made = 0.0
        self.version = 0
        self.svids = b""
        """X509SVIDResponse as it is now."""
        self.bundles = b""
        """X509BundlesResponse as it is now."""
        self.renew()

    def renew(self) -> None:
        """A new certificate, by the authority as it is now. Raises ValueError for an ID that it may not sign."""
        standing = self._standing()
        now = self._clock.time()
        svid = standing.signer.issue(self._spiffe_id, now, ttl=self._ttl, dns=self._dns)
        own = standing.signer.trust_domain
        federated = {f"{SCHEME}{name}": _joined(standing.bundles, name) for name in standing.bundles.trust_domains}
        bundle = federated.pop(f"{SCHEME}{own}", b"")
        told = X509Svid(svid.identity.text, _chain(svid), _key(svid), bundle, self._hint)
        with self._lock:
            self._svid, self._of, self._made = svid, standing, now
            self.svids = write_svids(X509SvidResponse([told], federated))
            self.bundles = write_bundles({f"{SCHEME}{own}": bundle, **federated})
            self.version += 1
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def follow(self) -> None:
        """Renew by the clock, from now on."""
        with self._lock:
            if not self._closed:
                self._alarm = self._alarms.after(min(LOOK, self._ttl / 8), self.ring)

    def look(self) -> None:
        """Renew when it is time, or something has changed."""
        svid = self._svid
        assert svid is not None
        now, half = self._clock.time(), (self._made + svid.not_after) / 2
        if now >= half or now < svid.not_before or self._standing() is not self._of:
            self.renew()

    def ring(self) -> None:
        """By an alarm: look, and say what is wrong once; the last one is handed out meanwhile."""
        problem = ""
        try:
            self.look()
        except (MeshError, ValueError) as error:
            problem = f"no new certificate of {self._spiffe_id} can be made: {error}"
        finally:
            self.follow()
        if problem and problem != self._problem:
            log.error("%s", problem)
        self._problem = problem

    def subscribe(self, listener: Callable[[], object]) -> Callable[[], None]:
        """The returned function ends it."""
        key = id(listener)
        with self._lock:
            self._listeners[key] = listener

        def end() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return end

    def close(self) -> None:
        """Nothing is renewed any more."""
        with self._lock:
            self._closed = True
            if self._alarm is not None:
                self._alarm.cancel()

    def __repr__(self) -> str:
        return f"<Issued {self._spiffe_id} version {self.version}>"


def _joined(bundles: TrustBundles, trust_domain: str) -> bytes:
    return b"".join(bundles.roots_of(trust_domain))


def _chain(svid: Svid) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join([each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(svid.chain_pem)])


def _key(svid: Svid) -> bytes:
    (block,) = blocks(svid.key_pem, "the key")  # PKCS#8
    return block.content
