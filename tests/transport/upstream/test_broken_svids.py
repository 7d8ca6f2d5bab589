"""Servers that show a certificate which breaks a rule of SPIFFE: none is taken for anybody, and nothing is sent to it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshlib.engine.outcome import Failure
from meshlib.identity.servers import Servers
from meshlib.transport.upstream.mutual import MutualTls
from meshlib.transport.upstream.target import Target
from tests.support.broken_contexts import showing
from tests.support.broken_svids import BROKEN, GOOD
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server
from tests.support.mesh_tls import CLIENT, NOW, ROOT, Gate, MutualServer, WallClock, credentials, identity, svid

CASES = {name: wrong for name, wrong in BROKEN.items() if name != "not for clients"} | {
    "not for servers": {"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
    "expired": {"begin": -7200, "end": -3600},
    "not yet valid": {"begin": 3600, "end": 7200},
}
Runtime = Threads | Loop


class Shows:
    """Stands for the credentials of a server, with a leaf of our root."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong

    def server_context(self, offer: Sequence[str], *, require_peer: bool) -> ssl.SSLContext:
        return showing(credentials().server_context(offer, require_peer=require_peer), ROOT, NOW, **self.wrong)


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    made = request.param()
    yield made
    made.close()


def called(runtime: Runtime, http2: bool, allowed: Sequence[str], **wrong: Any) -> tuple[Any, bytes, int]:
    """What came of a call, what the server has received of it, and how many handshakes it has seen the end of."""
    gate = Gate(Shows(**wrong))  # type: ignore[arg-type]
    received = bytearray()
    accepted: list[int] = []

    def listen(peer: ssl.SSLSocket) -> None:
        accepted.append(1)
        if wrong:
            received.extend(peer.recv(65536))
            peer.close()
            raise ConnectionAbortedError

    gate.accepted = listen
    ours, _ = identity(svid(CLIENT))
    with H2Server(tls=gate) if http2 else MutualServer(gate) as server:  # type: ignore[arg-type]
        tls = MutualTls(Servers(ours, tuple, WallClock()), allowed, "DestinationRule default/reviews")
        outcome = runtime.call(Target("127.0.0.1", server.port, tls, http2=http2, label="reviews-1"), Call()).outcome
        runtime.settle()
    return outcome, bytes(received), len(accepted)


@pytest.mark.parametrize(("http2", "allowed"), [(False, (GOOD,)), (True, ())], ids=["http1-named", "http2-any"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_a_byte_is_sent(runtime: Runtime, name: str, http2: bool, allowed: Sequence[str]) -> None:
    outcome, received, _ = called(runtime, http2, allowed, **CASES[name])
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "reviews-1" in outcome.detail
    assert received == b""


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_the_same_certificate_without_a_mistake_is_called(runtime: Runtime, http2: bool) -> None:
    outcome, _, accepted = called(runtime, http2, (GOOD,))
    assert (outcome.status, accepted) == (200, 1)


def test_the_handshake_alone_would_take_most_of_them() -> None:
    """So it is our own judgement that is shown here."""
    made = Threads()
    taken = [name for name in CASES if called(made, False, (), **CASES[name])[2]]
    made.close()
    assert len(taken) >= 15
