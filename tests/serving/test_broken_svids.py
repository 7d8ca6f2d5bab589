"""Certificates that break a rule of SPIFFE, shown to ``meshlib serve`` over real handshakes, and to an ASGI application behind
it: OpenSSL takes most of them, and nobody gets an identity."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from meshlib.mesh import Mesh
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.broken_contexts import showing
from tests.support.broken_svids import BROKEN, GOOD
from tests.support.identities import SERVER, World
from tests.support.mesh_server import SECONDS, MeshServer

DATES = {"expired": {"begin": -7200, "end": -3600}, "not yet valid": {"begin": 3600, "end": 7200}}
CASES = {**BROKEN, **DATES}
OTHER = "spiffe://other.test/ns/default/sa/reviews"


class Port:
    """A server that tells who it takes its caller for, and counts whom it has served."""

    def __init__(self, world: World, mode: str) -> None:
        authentication = {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "istio-system"},
            "spec": {"mtls": {"mode": mode}},
        }
        self.mesh = Mesh.from_resources([authentication], identity=world.identity)
        self.served = 0
        self.server = MeshServer(self.tells, self.mesh)

    async def tells(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"].endswith("shutdown"):
                    return
        self.served += 1
        request = self.mesh.inbound()
        assert request is not None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(request.principal or "nobody").encode()})

    def ask(self, context: ssl.SSLContext) -> str:
        """Whom it takes us for; a status, or "no connection"."""
        try:
            with httpx.Client(verify=context, timeout=SECONDS, trust_env=False) as client:
                response = client.get(f"https://127.0.0.1:{self.server.port}/")
        except httpx.TransportError as error:
            assert not isinstance(error, httpx.TimeoutException)
            return "no connection"
        return response.text if response.status_code == 200 else str(response.status_code)


Ports = tuple[World, Port, Port]


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    """Both trust two domains, so that a handshake tells nothing of which root a caller comes by."""
    one, two = World(of_a_mesh=True), World(of_a_mesh=True)
    two.root = one.root
    for world in (one, two):
        world.source.publish(
            one.root.issue(SERVER, one.now),
            TrustBundles({"cluster.local": (one.root.root_der,), "other.test": (FOREIGN.root_der,)}),
        )
    strict, permissive = Port(one, "STRICT"), Port(two, "PERMISSIVE")
    with strict.mesh, permissive.mesh, strict.server, permissive.server:
        yield one, strict, permissive


FOREIGN = Authority.root("other.test", World(of_a_mesh=True).now)


def refused(ports: Ports, context: ssl.SSLContext) -> None:
    _, strict, permissive = ports
    before = strict.served
    assert strict.ask(context) in ("no connection", "403")
    assert strict.served == before
    assert permissive.ask(context) in ("no connection", "nobody")


@pytest.mark.parametrize("name", CASES)
def test_a_broken_certificate_gives_no_identity(ports: Ports, name: str) -> None:
    world = ports[0]
    refused(ports, showing(world.client(), world.root, world.now, **CASES[name]))


def test_there_are_as_many_as_were_asked_for() -> None:
    assert len(BROKEN) >= 22


def test_the_same_certificate_without_a_mistake_gives_one(ports: Ports) -> None:
    world, strict, permissive = ports
    context = showing(world.client(), world.root, world.now)
    assert strict.ask(context) == permissive.ask(context)
    assert permissive.ask(context).endswith(GOOD.removeprefix("spiffe://"))
    assert strict.served > 0


def test_a_root_vouches_for_its_own_trust_domain_only(ports: Ports) -> None:
    world, strict, _ = ports
    assert strict.ask(showing(world.client(), FOREIGN, world.now, uris=(OTHER,))).endswith(
        "other.test/ns/default/sa/reviews"
    )
    refused(ports, showing(world.client(), FOREIGN, world.now))
    refused(ports, showing(world.client(), world.root, world.now, uris=(OTHER,)))


def test_one_without_a_certificate_is_nobody(ports: Ports) -> None:
    refused(ports, ports[0].stranger())
