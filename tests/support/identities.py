"""An identity that a test rotates by hand, and a clock whose wall time OpenSSL agrees with."""

from __future__ import annotations

import ssl

from meshlib.alarms import Alarms
from meshlib.clock import Clock, SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.identity.identity import Identity
from meshlib.identity.source import Publish, Report
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.support.fake_clock import FakeClock

SERVER = "spiffe://cluster.local/ns/default/sa/reviews"
CLIENT = "spiffe://cluster.local/ns/default/sa/productpage"


class TodaysClock(FakeClock):
    """Moved by hand, beginning today: handshakes are judged by the machine's time."""

    def __init__(self) -> None:
        super().__init__()
        self._today = SystemClock.time() - self.now

    def time(self) -> float:
        return self._today + self.now


class ByHand:
    """A source that tells what the test tells it."""

    what = "the test"
    _publish: Publish | None = None
    _told: tuple[Svid, TrustBundles] | None = None

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        self._publish, self.report = publish, report
        if self._told is not None:
            publish(*self._told)

    def publish(self, svid: Svid, bundles: TrustBundles) -> None:
        """From now on, or from its start on."""
        self._told = svid, bundles
        if self._publish is not None:
            self._publish(svid, bundles)

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


class World:
    """A root, the identity of a server, and contexts of clients. ``root`` may be changed between rotations. ``of_a_mesh``: the
    identity is started by the mesh that it is given to, else at once."""

    def __init__(self, *, of_a_mesh: bool = False) -> None:
        self.now = SystemClock.time()
        self.root = Authority.root("cluster.local", self.now)
        self.source = ByHand()
        self.identity = Identity(self.source)
        if not of_a_mesh:
            self.identity.start(SystemClock(), Alarms())

    def bundles(self, *roots: Authority) -> TrustBundles:
        return TrustBundles({"cluster.local": tuple(each.root_der for each in roots or (self.root,))})

    def rotate(self, *trusted: Authority, ttl: float = 86400.0) -> Svid:
        """A new certificate of the server, by ``root``; ``trusted``: all roots that count from now on."""
        svid = self.root.issue(SERVER, self.now, ttl=ttl)
        self.source.publish(svid, self.bundles(*trusted))
        return svid

    def client(
        self,
        signer: Authority | None = None,
        *trusted: Authority,
        name: str = CLIENT,
        ttl: float = 86400.0,
        alpn: tuple[str, ...] = ("http/1.1",),
    ) -> ssl.SSLContext:
        """The context of a client with a certificate of ``signer`` (the root)."""
        svid = (signer or self.root).issue(name, self.now, ttl=ttl)
        return Credentials(svid, self.bundles(*(trusted or (self.root,)))).client_context(alpn)

    def stranger(self) -> ssl.SSLContext:
        """A client without a certificate that believes anybody."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
