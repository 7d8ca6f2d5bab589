"""A client and a server of the mesh whose certificates come from our Workload API: they rotate under calls, and the authority
changes in three steps, without a failed call; the old root is refused afterwards. 180 rotations with ``MESHLIB_FAULTS=1``."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.ca.serving import Serving, Socket
from meshlib.clock import SystemClock
from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.fake_clock import FakeClock
from tests.support.mesh_server import SECONDS, MeshServer, tells
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import pod, service
from tests.support.standing import Standing

ROTATIONS = 180 if os.environ.get("MESHLIB_FAULTS") == "1" else 6
CLIENT = "spiffe://cluster.local/ns/default/sa/client"
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
TTL = 3600.0


class Moved(FakeClock):
    """Its wall clock goes from the machine's present and is set by hand; nothing else of it moves."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.ahead = seconds
        self._present = SystemClock.time()

    def time(self) -> float:
        return self._present + self.ahead


def eventually(what: Callable[[], bool]) -> None:
    for _ in range(int(SECONDS / 0.005)):
        if what():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it does not come")


class World:
    """``clock`` is what both meshes judge certificates by, ``api_clock`` what they are made by: both ``ahead`` of the
    machine's, which OpenSSL goes by."""

    def __init__(self, folder: Path, ahead: float = 0.0) -> None:
        self.clock, self.api_clock = Moved(ahead), Moved(ahead)
        self.roots = [Authority.root("cluster.local", self.clock.time()) for _ in range(2)]
        self.standing = self.stand(self.roots[0], self.roots[0])
        sockets = [Socket(f"unix:{folder}/{name[-6:]}.sock", name) for name in (CLIENT, REVIEWS)]
        self.serving = Serving(lambda: self.standing, self.api_clock, sockets=sockets, ttl=TTL)
        self.serving.start()
        ours, theirs = (meshlib.Identity.from_workload_api(socket.uri) for socket in sockets)
        self.identities = (ours, theirs)
        self.stack = contextlib.ExitStack()
        registry = CollectorRegistry
        server = self.stack.enter_context(
            meshlib.Mesh.from_resources(
                [peer_authentication("all", "STRICT")], identity=theirs, clock=self.clock, registry=registry()
            )
        )
        self.server = self.stack.enter_context(MeshServer(tells, server, keep_alive=3600))
        where: dict[str, Any] = pod("reviews", "v1", self.server.port)
        where["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
        where["spec"]["serviceAccountName"] = "reviews"
        self.mesh = self.stack.enter_context(
            meshlib.Mesh.from_resources(
                [service("reviews"), where], identity=ours, clock=self.clock, registry=registry()
            )
        )
        self.said: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(3)]

    @staticmethod
    def stand(signer: Authority, *trusted: Authority) -> Standing:
        return Standing(signer, TrustBundles({"cluster.local": tuple(each.root_der for each in trusted)}))

    def load(self) -> None:
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        with self.mesh.client(timeout=SECONDS) as client:
            while not self._stop.is_set():
                said = self.ask(client)
                self.said[said] += 1
                if said != "mTLS":
                    self._stop.wait(0.01)

    @staticmethod
    def ask(client: httpx.Client) -> str:
        try:
            response = client.get("http://reviews:9080/")
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        mutual = response.status_code == 200 and response.json()["tls"]
        return "mTLS" if mutual else str(response.status_code)

    def more(self, calls: int = 2) -> None:
        wanted = self.said["mTLS"] + calls
        eventually(lambda: self.said["mTLS"] >= wanted or len(self.said) > 1)

    def renew(self, act: str = "renew") -> None:
        """All have a new certificate, each at its own time."""
        before = [each.current() for each in self.identities]
        for issued in self.serving._issued:
            getattr(issued, act)()
            self.more(1)
        eventually(lambda: all(each.current() is not old for each, old in zip(self.identities, before, strict=True)))

    def end(self) -> dict[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
        return dict(self.said)

    def close(self) -> None:
        self._stop.set()
        self.stack.close()
        self.serving.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.fault
def test_no_call_fails_while_certificates_and_the_authority_change(world: World) -> None:
    old, new = world.roots
    world.load()
    world.more()
    for _ in range(ROTATIONS):
        world.renew()
    for standing in (world.stand(old, old, new), world.stand(new, old, new), world.stand(new, new)):
        world.standing = standing
        world.renew("look")
        world.more(6)
    said = world.end()
    assert said == {"mTLS": said["mTLS"]}
    assert [each.status()["rotations"] for each in world.identities] == [ROTATIONS + 3] * 2
    stranger = Credentials(old.issue(CLIENT, world.clock.time()), world.stand(old, old, new).bundles)
    with pytest.raises(httpx.TransportError), httpx.Client(verify=stranger.client_context(["http/1.1"])) as client:
        client.get(f"https://127.0.0.1:{world.server.port}/")


@pytest.mark.fault
def test_no_call_fails_while_certificates_come_to_their_end_and_are_renewed_in_time(tmp_path: Path) -> None:
    """Life is an hour, and more than that goes by while calls do; the Workload API looks at its clock each minute. (It begins
    in the past, so that OpenSSL, which sees the present alone, takes each of them.)"""
    world = World(tmp_path, ahead=35 - TTL)
    try:
        world.load()
        world.more()
        first = [each.current() for each in world.identities]
        while world.clock.ahead < 50:
            step = min(60.0, 50 - world.clock.ahead)
            world.api_clock.ahead += step
            for issued in world.serving._issued:
                issued.look()
            world.clock.ahead += step
            world.more(1)
        assert all(one is not None and one.svid.not_after < world.clock.time() for one in first)
        said = world.end()
        assert said == {"mTLS": said["mTLS"]}
        assert all(each.ready and each.status()["rotations"] for each in world.identities)
    finally:
        world.close()


@pytest.mark.fault
def test_certificates_that_expire_under_calls_end_them_with_the_reason_until_new_ones_come(world: World) -> None:
    """The clock of the meshes goes past the end of what the Workload API has told last; then it is right again."""
    world.load()
    world.more()
    assert set(world.said) == {"mTLS"}
    world.clock.ahead += TTL + 1
    world.mesh._core.trust_watch.look()  # as it does each 10 s
    eventually(lambda: len(world.said) > 1)
    with world.mesh.client() as client:
        assert f"our certificate ({CLIENT}) expired" in world.ask(client)
        assert not world.identities[0].ready
        world.clock.ahead -= TTL + 1
        for issued in world.serving._issued:
            issued.renew()
        eventually(lambda: world.ask(client) == "mTLS")
    calls = world.said["mTLS"]
    eventually(lambda: world.said["mTLS"] > calls + 6)
    failed = [said for said in world.end() if said != "mTLS"]
    assert failed
    # a call under way meets a server that, by the same clock, cuts off whom it does not trust any more
    why = (f"our certificate ({CLIENT}) expired", "flags UC")
    assert [said for said in failed if not any(each in said for each in why)] == []
    assert world.identities[0].ready
