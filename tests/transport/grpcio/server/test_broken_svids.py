"""Certificates that break a rule of SPIFFE, over gRPC: gRPC core takes most of them in its handshake, and nobody gets an
identity."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import meshlib
from meshlib.security.authority import Authority
from tests.support.broken_svids import BROKEN, GOOD, KEY_PEM, signed
from tests.support.grpc_mtls import World, ask, peer_authentication, served

REFUSED = ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")
DATES = {"expired": {"begin": -7200, "end": -3600}, "not yet valid": {"begin": 3600, "end": 7200}}
CASES = {**BROKEN, **DATES}


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def ports(request: pytest.FixtureRequest) -> Iterator[tuple[World, int, int]]:
    """A port that is STRICT, and one that lets everybody in and tells who it takes them for."""
    world = World()
    with (
        meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as strict,
        meshlib.Mesh.from_resources(
            [peer_authentication("PERMISSIVE")], identity=(other := World(root=world.root)).identity
        ) as open_,
    ):
        world.rotate()
        other.rotate()
        with served(strict, request.param) as (one, _), served(open_, request.param) as (two, _):
            yield world, one, two


def shown(world: World, root: Authority | None = None, **wrong: object) -> grpc.ChannelCredentials:
    made = signed(root or world.root, world.now, **wrong)  # type: ignore[arg-type]
    pem = world.bundles().pem.encode()
    return grpc.ssl_channel_credentials(pem, KEY_PEM, made.public_bytes(Encoding.PEM))


@pytest.mark.parametrize("name", CASES)
def test_a_broken_certificate_gives_no_identity(ports: tuple[World, int, int], name: str) -> None:
    world, strict, permissive = ports
    assert ask(strict, shown(world, **CASES[name])) in REFUSED
    assert ask(permissive, shown(world, **CASES[name])) in ("nobody", *REFUSED)


def test_the_same_certificate_without_a_mistake_gives_one(ports: tuple[World, int, int]) -> None:
    world, strict, permissive = ports
    assert ask(strict, shown(world)) == ask(permissive, shown(world)) == GOOD


def test_a_leaf_cannot_sign_others(ports: tuple[World, int, int]) -> None:
    world, strict, permissive = ports
    leaf = signed(world.root, world.now)
    from tests.support.broken_svids import KEY

    impostor = Authority("cluster.local", KEY, leaf, world.root)
    made = signed(impostor, world.now).public_bytes(Encoding.PEM) + leaf.public_bytes(Encoding.PEM)
    credentials = grpc.ssl_channel_credentials(world.bundles().pem.encode(), KEY_PEM, made)
    assert ask(strict, credentials) in REFUSED
    assert ask(permissive, credentials) in ("nobody", *REFUSED)


def test_a_root_vouches_for_its_own_trust_domain_only() -> None:
    """Both roots are trusted in the handshake; whose it was the path tells."""
    world = World()
    foreign = Authority.root("other.test", world.now)
    from meshlib.security.trust_bundles import TrustBundles

    both = TrustBundles({"cluster.local": (world.root.root_der,), "other.test": (foreign.root_der,)})
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        world.source.publish(world.rotate(), both)
        with served(mesh) as (port, _):
            other = "spiffe://other.test/ns/a/sa/b"
            assert ask(port, shown(world, foreign, uris=(other,))) == other
            assert ask(port, shown(world, foreign)) in REFUSED
            assert ask(port, shown(world, uris=(other,))) in REFUSED


@pytest.mark.parametrize("chained", [True, False])
def test_intermediates_that_the_peer_shows_lead_to_the_root(chained: bool) -> None:
    world = World()
    intermediate = world.root.intermediate(world.now)
    with meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        world.rotate()
        with served(mesh) as (port, _):
            svid = intermediate.issue(GOOD, world.now)
            chain = svid.chain_pem if chained else svid.chain_pem[: svid.chain_pem.index(b"-----END") + 26]
            credentials = grpc.ssl_channel_credentials(world.bundles().pem.encode(), svid.key_pem, chain)
            assert ask(port, credentials) == (GOOD if chained else "UNAVAILABLE")
