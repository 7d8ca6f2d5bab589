"""One version of what is shown and trusted."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from meshlib.clock import SystemClock
from meshlib.identity.credentials import CIPHERS, Credentials
from meshlib.identity.memory_file import memory_file
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.security.trust_bundles import TrustBundles

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)


def credentials() -> Credentials:
    svid = ROOT.issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)
    return Credentials(svid, TrustBundles({"cluster.local": (ROOT.root_der,)}))


def test_a_context_is_made_once_a_version_and_offer() -> None:
    made = credentials()
    assert made.client_context(["istio"]) is made.client_context(["istio"])
    assert made.client_context(["istio"]) is not made.client_context(["istio-h2"])


@pytest.mark.parametrize("of", [Credentials.server_context, Credentials.client_context])
def test_threads_that_ask_at_once_get_the_same_one(
    of: Callable[[Credentials, list[str]], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a session that one of them gives, or keeps, resumes at half of the connections that come after."""
    made, both, original = credentials(), threading.Barrier(2), Credentials._made

    def made_together(self: Credentials, *asked: Any) -> ssl.SSLContext:
        both.wait(20)
        return original(self, *asked)

    monkeypatch.setattr(Credentials, "_made", made_together)
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda alpn: of(made, alpn), [["http/1.1"]] * 2)
    assert one is other


def test_a_peer_must_show_a_certificate_unless_it_need_not() -> None:
    made = credentials()
    assert made.server_context(["http/1.1"]).verify_mode is ssl.CERT_REQUIRED
    assert made.server_context(["http/1.1"], require_peer=False).verify_mode is ssl.CERT_OPTIONAL


TODAY = SystemClock.time()
OTHER = Authority.root("cluster.local", TODAY)
FIRST = Authority.root("cluster.local", TODAY)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def of(authority: Authority, *trusted: Authority) -> Credentials:
    svid = authority.issue("spiffe://cluster.local/ns/default/sa/reviews", TODAY)
    return Credentials(svid, TrustBundles({"cluster.local": tuple(each.root_der for each in trusted)}))


class Ended(NamedTuple):
    resumed: bool
    cipher: str
    session: ssl.SSLSession | None


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Ended:
    """In memory, with a byte from the server: TLS 1.3 sends its sessions, and refuses clients, after the handshake. Raises
    ssl.SSLError when either side refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    calls = client.wrap_bio(to_client, to_server, session=session)
    serves = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (calls, serves):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    serves.write(b"x")
    assert calls.read(1) == b"x"
    cipher = calls.cipher()
    assert cipher is not None
    return Ended(bool(serves.session_reused), cipher[0], calls.session)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


def client_of(credentials: Credentials, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = credentials.client_context(["http/1.1"])
    context.minimum_version = context.maximum_version = version
    return context


def test_a_session_is_resumed_within_a_version(version: ssl.TLSVersion) -> None:
    server, client = of(FIRST, FIRST).server_context(["http/1.1"]), client_of(of(FIRST, FIRST), version)
    first = handshake(client, server)
    assert not first.resumed
    assert handshake(client, server, first.session).resumed


def test_a_session_does_not_outlive_the_root_that_it_was_made_under(version: ssl.TLSVersion) -> None:
    before, after = of(FIRST, FIRST, OTHER), of(FIRST, OTHER)
    client = client_of(of(FIRST, FIRST), version)
    session = handshake(client, before.server_context(["http/1.1"])).session
    with pytest.raises(ssl.SSLError):
        handshake(client, after.server_context(["http/1.1"]), session)


DER = 2
"""``_ssl.ENCODING_DER``."""


def split(pem: bytes) -> list[str]:
    return [f"{each}{END}" for each in pem.decode().split(END)[:-1]]


END = "-----END CERTIFICATE-----\n"


def shown_by(server: ssl.SSLContext) -> list[bytes]:
    """The certificates that a client is shown, DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    calls = client.wrap_bio(to_client, to_server)
    serves = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (calls, serves, calls):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return [each.public_bytes(DER) for each in calls._sslobj.get_unverified_chain()]  # type: ignore[attr-defined]


def test_a_leaf_of_the_root_is_shown_with_it_as_openssl_would_find_it_at_each_handshake() -> None:
    found = of(FIRST, OTHER, FIRST)
    by_openssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by_openssl.load_verify_locations(cadata=found.bundles.pem)
    with memory_file(found.svid.key_pem, found.svid.chain_pem) as path:
        by_openssl.load_cert_chain(path)
    assert shown_by(found.server_context([])) == [found.svid.leaf, FIRST.root_der] == shown_by(by_openssl)
    assert found._root_pem() == pem_of(FIRST.root_der).encode()


def test_a_leaf_behind_an_intermediate_or_of_a_root_that_is_not_ours_is_shown_as_it_is() -> None:
    under = FIRST.intermediate(TODAY)
    behind = of(under, FIRST)
    assert [behind.svid.leaf, *map(ssl.PEM_cert_to_DER_cert, split(under.chain_pem))] == shown_by(
        behind.server_context([])
    )
    alone = of(FIRST, OTHER)
    assert shown_by(alone.server_context([])) == [alone.svid.leaf]


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    made = of(FIRST, FIRST)
    for context in (made.client_context(["http/1.1"]), made.server_context(["http/1.1"])):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_suites_of_tls_1_2_are_those_of_mozilla() -> None:
    made = of(FIRST, FIRST)
    mozilla = set(CIPHERS.split(":"))
    for context in (made.client_context(["http/1.1"]), made.server_context(["http/1.1"])):
        assert {str(each["name"]) for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"} == mozilla
    old = client_of(of(FIRST, FIRST), ssl.TLSVersion.TLSv1_2)
    old.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError):
        handshake(old, made.server_context(["http/1.1"]))


def test_no_peer_renegotiates() -> None:
    """One is judged when its handshake is over; TLS 1.3 has no second one."""
    made = of(FIRST, FIRST)
    for context in (made.client_context(["http/1.1"]), made.server_context(["http/1.1"])):
        assert context.options & ssl.OP_NO_RENEGOTIATION
