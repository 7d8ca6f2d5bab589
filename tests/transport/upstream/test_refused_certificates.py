"""A server that does not accept our certificate says so at the first read under TLS 1.3: the attempt failed to connect."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator

import pytest

from meshlib.compiler.routes import TlsSettings
from meshlib.engine.outcome import Failure
from meshlib.identity.servers import Servers
from meshlib.transport.upstream.mutual import MutualTls
from meshlib.transport.upstream.refused_certificates import (
    HINT,
    may_refuse_late,
    note_handshake,
    refusal_at_first_read,
    refusal_in,
)
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import upstream_context
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.h2_server import H2Server
from tests.support.mesh_tls import (
    BUNDLES,
    CLIENT,
    OTHER_ROOT,
    REVIEWS,
    Gate,
    MutualServer,
    WallClock,
    bundles,
    credentials,
    identity,
    svid,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
Runtime = Threads | Loop


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    made = request.param()
    yield made
    made.close()


def mutual(port: int, http2: bool) -> Target:
    """As a client whose certificate the server does not know."""
    ours, _ = identity(svid(CLIENT, OTHER_ROOT), BUNDLES)
    return Target(
        "127.0.0.1",
        port,
        MutualTls(Servers(ours, tuple, WallClock()), (REVIEWS,), "a test"),
        http2=http2,
        label="reviews-1",
    )


def anonymous(port: int, http2: bool) -> Target:
    """As a client without one (DestinationRule ``mode: SIMPLE``)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=BUNDLES.pem)
    return Target("127.0.0.1", port, context, http2=http2, label="reviews-1")


def of_a_rule(port: int, http2: bool) -> Target:
    """As a client with the certificate of a DestinationRule (``mode: MUTUAL``), which the server does not know."""
    shown, name = svid(CLIENT, OTHER_ROOT), "Secret default/client"
    settings = TlsSettings(
        "MUTUAL",
        subject_alt_names=(REVIEWS,),
        credential=name,
        ca_pem=BUNDLES.pem.encode(),
        certificate_pem=shown.chain_pem,
        key_pem=shown.key_pem,
    )
    return Target(
        "127.0.0.1",
        port,
        upstream_context(settings),
        subject_alt_names=settings.subject_alt_names,
        http2=http2,
        label="reviews-1",
    )


CASES = {
    "MUTUAL of a rule": (of_a_rule, "it does not trust the authority that has signed ours (unknown CA)"),
    "unknown CA": (mutual, "it does not trust the authority that has signed ours (unknown CA)"),
    "no certificate": (anonymous, "it requires a certificate and was shown none"),
}
BODIES = {"no body": None, "small": b"x" * 100, "large": b"x" * 3_000_000}


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("who", CASES)
@pytest.mark.parametrize("body", BODIES)
def test_it_is_a_failure_to_connect_with_the_reason(runtime: Runtime, http2: bool, who: str, body: str) -> None:
    make, why = CASES[who]
    gate = Gate(credentials())
    gate.versions = (V13, V13)
    with H2Server(tls=gate) if http2 else MutualServer(gate) as server:  # type: ignore[arg-type]
        content = BODIES[body]
        headers = [] if content is None else [(b"content-length", str(len(content)).encode())]
        call = Call(method=b"GET" if content is None else b"POST", headers=headers, body=content)
        outcome = runtime.call(make(server.port, http2), call).outcome
    assert not outcome.stale
    assert len(gate.refused) == 1
    if outcome.detail != f"TLS to reviews-1: the server does not accept us: {why}":
        # asyncio drops what it has not read when a write fails: one that comes at this very moment meets a closed socket
        assert runtime.name == "asyncio"
        assert isinstance(outcome.error, ConnectionError)
        assert http2 or outcome.detail.endswith(f"({HINT})")
    assert outcome.failure is Failure.CONNECT_FAILED or outcome.detail.endswith(f"({HINT})")


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_verdict_that_has_come_is_read_before_anything_is_written(
    runtime: Runtime, http2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(credentials())
    gate.versions = (V13, V13)
    make, why = CASES["unknown CA"]
    with H2Server(tls=gate) if http2 else MutualServer(gate) as server:  # type: ignore[arg-type]
        judge = MutualTls.judge

        def judge_slowly(*given: object) -> object:
            waited = threading.Event()
            for _ in range(10_000):
                if gate.refused and gate.refused[0].errno != 0:
                    break
                waited.wait(0.001)
            waited.wait(0.02)  # the kernel hands on what the server has sent
            return judge(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(MutualTls, "judge", judge_slowly)
        outcome = runtime.call(make(server.port, http2), Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert outcome.detail == f"TLS to reviews-1: the server does not accept us: {why}"


@pytest.mark.parametrize("who", CASES)
def test_before_tls_1_3_the_handshake_says_it_in_the_same_words(runtime: Runtime, who: str) -> None:
    make, _ = CASES[who]
    gate = Gate(credentials())
    gate.versions = (V12, V12)
    with MutualServer(gate) as server:
        outcome = runtime.call(make(server.port, False), Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert outcome.detail.startswith("TLS to reviews-1: the server does not accept us: it ")


def test_a_connection_that_breaks_without_such_an_alert_may_have_carried_a_request(runtime: Runtime) -> None:
    ours, _ = identity(svid(), bundles(OTHER_ROOT))
    gate = Gate(credentials(root=OTHER_ROOT))
    with MutualServer(gate) as server:
        server.respond = lambda peer: peer.close()
        target = Target("127.0.0.1", server.port, MutualTls(Servers(ours, tuple, WallClock()), (), "a test"))
        assert runtime.call(target, Call()).outcome.failure is Failure.RESET


def alert(reason: str) -> ssl.SSLError:
    made = ssl.SSLError(1, reason)
    made.reason = reason
    return made


class Peer(ssl.SSLObject):
    """As much of one as is asked."""

    def __init__(self, version: str, asks_later: bool = False) -> None:
        self._version = version
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.post_handshake_auth = asks_later

    def version(self) -> str:
        return self._version

    @property
    def context(self) -> ssl.SSLContext:
        return self._context


def test_only_an_alert_that_ends_a_handshake_says_that_no_request_was_processed() -> None:
    unknown = alert("TLSV1_ALERT_UNKNOWN_CA")
    late = Peer("TLSv1.3")
    assert refusal_at_first_read(late, unknown) == ""  # its handshake is not over
    # of TLS 1.2 it may be about a renegotiation, after the request was read
    others = (Peer("TLSv1.2"), Peer("TLSv1.3", asks_later=True))
    for peer in (late, *others):
        note_handshake(peer)
    assert refusal_at_first_read(late, unknown) == refusal_in(unknown) != ""
    for peer in (*others, None):
        assert not may_refuse_late(peer)
        assert refusal_at_first_read(peer, unknown) == ""


@pytest.mark.parametrize(
    "error", [None, ConnectionResetError(), alert("TLSV1_ALERT_INTERNAL_ERROR"), ssl.SSLError(1, "made by Python")]
)
def test_other_errors_say_nothing_of_certificates(error: BaseException | None) -> None:
    assert refusal_in(error) == ""
    assert refusal_at_first_read(Peer("TLSv1.3"), error) == ""
