"""mTLS of the mesh on connections that are made: who may answer, before a byte is sent; sessions. In both runtimes and
protocols."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest

import meshlib
from meshlib.engine.outcome import Failure
from meshlib.identity.credentials import Credentials
from meshlib.identity.servers import Servers
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from meshlib.transport.upstream.mutual import FUTILE, MutualTls, asked_by, verified_chain, vouched_of
from meshlib.transport.upstream.target import Target
from tests.support.eventually import eventually
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server
from tests.support.mesh_tls import (
    BUNDLES,
    CLIENT,
    DOMAIN,
    NOW,
    OTHER_ROOT,
    RATINGS,
    REVIEWS,
    ROOT,
    Gate,
    MutualServer,
    WallClock,
    bundles,
    credentials,
    identity,
    svid,
)

RULED = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }
    for kind, spec in (
        ("ServiceEntry", {"hosts": ["web.test"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS"}),
        ("DestinationRule", {"host": "web.test", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
    )
]
NAME = "outbound_.9080_._.reviews.default.svc.cluster.local"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
Runtime = Threads | Loop


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    made = request.param()
    yield made
    made.close()


class Client:
    """A mesh's part of mTLS: servers judged by an identity that the test rotates."""

    def __init__(self, trusts: TrustBundles = BUNDLES, aliases: tuple[str, ...] = (), *, ours: bool = True) -> None:
        self.clock = WallClock()
        self.identity, self.source = identity(svid(CLIENT) if ours else None, trusts)
        self.servers = Servers(self.identity, lambda: aliases, self.clock)

    def target(self, port: int, *allowed: str, http2: bool = False) -> Target:
        tls = MutualTls(self.servers, allowed, "DestinationRule default/reviews")
        return Target("127.0.0.1", port, tls, NAME, http2=http2, label="reviews-1")


both = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


def serving(gate: Gate, http2: bool) -> MutualServer | H2Server:
    return H2Server(tls=gate) if http2 else MutualServer(gate)  # type: ignore[arg-type]


@both
def test_the_server_that_is_meant_is_called_and_sees_who_calls(runtime: Runtime, http2: bool) -> None:
    client, gate = Client(), Gate(credentials(root=ROOT.intermediate(NOW)))
    with serving(gate, http2) as server:
        target = client.target(server.port, RATINGS, REVIEWS, http2=http2)
        assert [runtime.call(target, Call()).outcome.status for _ in range(2)] == [200, 200]
    current = client.identity.current()
    assert current is not None
    assert gate.callers == [current.svid.leaf]
    assert gate.selected == ["h2" if http2 else "http/1.1"]


@both
def test_requests_keep_the_scheme_of_their_url(runtime: Runtime, http2: bool) -> None:
    client, gate = Client(), Gate(credentials())
    with serving(gate, http2) as server:
        target = client.target(server.port, REVIEWS, http2=http2)
        assert target.scheme == b"http"
        assert runtime.call(target, Call()).outcome.status == 200
        if isinstance(server, H2Server):
            assert server.requests[0].header(b":scheme") == b"http"


ELSEWHERE = Authority.root("other.example", NOW)
WRONG = {
    "another service account": (
        credentials(RATINGS),
        "the server is spiffe://cluster.local/ns/default/sa/ratings; only",
    ),
    "the right name in another trust domain": (
        credentials("spiffe://other.example/ns/default/sa/reviews", ELSEWHERE, bundles(ELSEWHERE, ROOT)),
        "the server is spiffe://other.example/ns/default/sa/reviews; only",
    ),
    "a root of another trust domain vouching for ours": (
        Credentials(
            Authority(DOMAIN, ELSEWHERE.key, ELSEWHERE.certificate).issue(REVIEWS, NOW), bundles(ELSEWHERE, ROOT)
        ),
        "the root of its certificate does not vouch for the trust domain cluster.local",
    ),
    "a root that nobody knows": (credentials(root=OTHER_ROOT), "the server's certificate is not trusted"),
}


@both
@pytest.mark.parametrize("who", WRONG)
def test_another_server_is_refused_before_a_byte_is_sent(runtime: Runtime, http2: bool, who: str) -> None:
    shown, why = WRONG[who]
    client = Client(bundles(ROOT, ELSEWHERE))
    gate = Gate(shown, require_peer=False)
    received = bytearray()

    def listen(peer: ssl.SSLSocket) -> None:
        while data := peer.recv(65536):
            received.extend(data)

    gate.accepted = listen
    with serving(gate, http2) as server:
        outcome = runtime.call(client.target(server.port, REVIEWS, http2=http2), Call()).outcome
        runtime.settle()
    assert outcome.failure is Failure.CONNECT_FAILED
    assert why in outcome.detail
    assert "reviews-1" in outcome.detail
    assert received == b""


def test_an_alias_of_our_trust_domain_is_vouched_for_by_our_roots(runtime: Runtime) -> None:
    old = Authority("old.example", ROOT.key, ROOT.certificate).issue("spiffe://old.example/ns/default/sa/reviews", NOW)
    gate = Gate(Credentials(old, BUNDLES))
    with MutualServer(gate) as server:
        for aliases, status in (((), 0), (("old.example",), 200)):
            target = Client(aliases=aliases).target(server.port, old.identity.text)
            assert runtime.call(target, Call()).outcome.status == status


@pytest.mark.parametrize(
    ("reported", "why"),
    [("", "none has been received from the test's hand"), ("the file a.pem is empty", "the file a.pem is empty")],
)
def test_without_a_certificate_the_reason_says_who_asks_for_one_and_why_there_is_none(
    runtime: Runtime, reported: str, why: str
) -> None:
    client, gate = Client(ours=False), Gate(credentials())
    client.source.report(reported)
    with MutualServer(gate) as server:
        outcome = runtime.call(client.target(server.port, REVIEWS), Call()).outcome
        assert outcome.failure is Failure.CONNECT_FAILED
        assert outcome.detail == (
            "DestinationRule default/reviews requires mTLS of the mesh (ISTIO_MUTUAL), and this process has no certificate "
            f"yet: {why}"
        )
        client.source.publish(svid(), BUNDLES)  # late, not never
        assert runtime.call(client.target(server.port, REVIEWS), Call()).outcome.status == 200


def test_without_an_identity_the_reason_says_how_to_give_one(runtime: Runtime) -> None:
    servers = Servers(None, tuple, WallClock())
    target = Target("127.0.0.1", 1, MutualTls(servers, (), "DestinationRule a/b"), NAME)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "Mesh(identity=meshlib.Identity.from_files(cert, key, bundle))" in outcome.detail


def test_a_certificate_of_ours_that_has_expired_is_not_shown(runtime: Runtime) -> None:
    client, gate = Client(), Gate(credentials())
    client.clock.jump(7200.0)
    with MutualServer(gate) as server:
        outcome = runtime.call(client.target(server.port, REVIEWS), Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "our certificate (spiffe://cluster.local/ns/default/sa/client) expired 3600 s ago" in outcome.detail
    assert gate.callers == []


# -- sessions -----------------------------------------------------------------------------------------------------------


def one_after_the_other(runtime: Runtime, target: Target, calls: int) -> list[int]:
    """Each on a connection of its own."""
    statuses = []
    for _ in range(calls):
        statuses.append(runtime.call(target, Call()).outcome.status)
        runtime.upstream.close_idle()
        runtime.settle()
    return statuses


@both
@pytest.mark.parametrize("version", [V12, V13], ids=["TLS1.2", "TLS1.3"])
def test_a_session_is_resumed_with_the_same_server(runtime: Runtime, http2: bool, version: ssl.TLSVersion) -> None:
    client, gate = Client(), Gate(credentials())
    gate.versions = (version, version)
    with serving(gate, http2) as server:
        assert one_after_the_other(runtime, client.target(server.port, REVIEWS, http2=http2), 3) == [200] * 3
    assert gate.resumed == [False, True, True]


@both
def test_a_session_is_copied_once_and_again_when_the_server_takes_it_no_more(runtime: Runtime, http2: bool) -> None:
    """Python copies it each time it is asked for, which takes as long as half a handshake."""
    client, gate = Client(), Gate(credentials())
    with serving(gate, http2) as server:
        target = client.target(server.port, REVIEWS, http2=http2)
        assert isinstance(target.tls, MutualTls)
        kept = []
        for turn in range(4):
            if turn == 2:
                gate.shown = credentials()  # its tickets are sealed with other keys
            one_after_the_other(runtime, target, 1)
            kept.append(next(iter(target.tls._kept.values())).session)
    assert gate.resumed == [False, True, False, True]
    assert kept[0] is kept[1]
    assert kept[1] is not kept[2]
    assert kept[2] is kept[3]


@both
def test_a_server_that_gives_a_ticket_seldom_is_resumed_once_it_has_given_one(runtime: Runtime, http2: bool) -> None:
    client, gate = Client(), Gate(credentials())
    context = gate.shown.server_context(gate.offer)
    with serving(gate, http2) as server:
        target = client.target(server.port, REVIEWS, http2=http2)
        context.num_tickets = 0
        one_after_the_other(runtime, target, FUTILE + 1)
        context.num_tickets = 1
        one_after_the_other(runtime, target, 2)
    assert gate.resumed == [False] * (FUTILE + 2) + [True]


def test_a_session_that_was_not_resumed_is_not_offered_again(runtime: Runtime) -> None:
    """By a server that has new keys and gives no ticket at first: it would be as if it never resumed."""
    client, gate = Client(), Gate(credentials())
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        one_after_the_other(runtime, target, 1)
        gate.shown = credentials()
        context = gate.shown.server_context(gate.offer)
        context.num_tickets = 0
        one_after_the_other(runtime, target, FUTILE + 1)
        context.num_tickets = 1
        one_after_the_other(runtime, target, 2)
    assert gate.resumed == [False] * (FUTILE + 3) + [True]


def test_handshakes_that_offer_one_session_together_count_as_one(runtime: Runtime) -> None:
    client, gate = Client(), Gate(credentials())
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        one_after_the_other(runtime, target, 1)
        gate.shown = credentials()
        gate.shown.server_context(gate.offer)  # before many threads make one each, of other keys
        runtime.many(target, [Call() for _ in range(2 * FUTILE)])
        runtime.upstream.close_idle()
        runtime.settle()
        one_after_the_other(runtime, target, 1)
    assert gate.resumed[-1] is True


def test_a_server_that_never_resumes_is_not_asked_for_sessions_for_ever(runtime: Runtime) -> None:
    client, gate = Client(), Gate(credentials())
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        assert isinstance(target.tls, MutualTls)
        kept = []
        for _ in range(FUTILE + 2):
            gate.shown = credentials()  # its tickets are sealed with other keys
            one_after_the_other(runtime, target, 1)
            kept.append([each.session for each in target.tls._kept.values()])
        assert kept[0] != kept[1]
        assert [len(each) for each in kept] == [1] * FUTILE + [0, 0], "what is not resumed is not offered, either"
        assert not any(gate.resumed)
        client.source.publish(svid(CLIENT), BUNDLES)  # the next version begins anew
        one_after_the_other(runtime, target, 2)
    assert gate.resumed[-2:] == [False, True]


def test_a_session_is_known_after_the_first_request_already(runtime: Runtime) -> None:
    """And not only when its connection ends: others are opened beside it."""
    client, gate = Client(), Gate(credentials())
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        for _ in range(2):
            runtime.call(target, Call())
        runtime.many(target, [Call() for _ in range(3)])
    assert gate.resumed[0] is False
    assert all(gate.resumed[1:])


@pytest.mark.parametrize("version", [V12, V13], ids=["TLS1.2", "TLS1.3"])
def test_no_session_outlives_the_version_it_was_made_under(runtime: Runtime, version: ssl.TLSVersion) -> None:
    client, gate = Client(), Gate(credentials())
    gate.versions = (version, version)
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        one_after_the_other(runtime, target, 2)
        client.source.publish(svid(), BUNDLES)
        one_after_the_other(runtime, target, 2)
    assert gate.resumed == [False, True, False, True]


def test_no_session_goes_to_another_target(runtime: Runtime) -> None:
    client, gate = Client(), Gate(credentials())
    with MutualServer(gate) as server:
        one_after_the_other(runtime, client.target(server.port, REVIEWS), 1)
        one_after_the_other(runtime, client.target(server.port, REVIEWS), 1)
    assert gate.resumed == [False, False]


def test_the_server_of_a_resumed_session_is_judged_again(runtime: Runtime) -> None:
    """Nothing is verified in such a handshake: dates are looked at here."""
    client, gate = Client(), Gate(Credentials(svid(REVIEWS, ttl=1800.0), BUNDLES))
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        assert one_after_the_other(runtime, target, 2) == [200, 200]
        client.clock.jump(2000.0)
        outcome = runtime.call(target, Call()).outcome
        assert outcome.failure is Failure.CONNECT_FAILED
        assert "expired 200 s ago" in outcome.detail
        assert eventually(
            lambda: len(gate.resumed) == 3
        )  # the server may hear later than the client that this one is over
        client.clock.jump(-2000.0)
        assert one_after_the_other(runtime, target, 1) == [200]
    assert gate.resumed == [False, True, True, False]


def test_a_root_that_is_dropped_is_refused_with_an_old_session_too(runtime: Runtime) -> None:
    client, gate = Client(bundles(ROOT, OTHER_ROOT)), Gate(credentials(trusts=bundles(ROOT, OTHER_ROOT)))
    with MutualServer(gate) as server:
        target = client.target(server.port, REVIEWS)
        assert one_after_the_other(runtime, target, 2) == [200, 200]
        client.source.publish(svid(root=OTHER_ROOT), bundles(OTHER_ROOT))
        outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "the server's certificate is not trusted" in outcome.detail


def test_what_nobody_verified_vouches_for_nobody() -> None:
    sock = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a")
    assert (verified_chain(sock), vouched_of(sock), vouched_of(None)) == ((), None, None)


def test_who_asks_for_it_is_the_rule_that_does_and_else_auto_mtls() -> None:
    mesh = meshlib.Mesh.from_resources(RULED)
    with mesh:
        clusters = mesh._core.live.snapshot.clusters.values()
    ruled = next(cluster for cluster in clusters if cluster.host == "web.test")
    assert asked_by(ruled) == "DestinationRule/default/web"
    assert asked_by(replace(ruled, tls=None)) == "auto mTLS for web.test"
