"""DestinationRule tls on real handshakes."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service, service_entry


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path) -> dict[str, str]:
    """Paths of a CA, a client certificate and its key."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("client.test")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    return {name: str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key")}


def server_context(authority: trustme.CA, *names: str, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    if mutual:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def get(context: ssl.SSLContext | None, **tls: Any) -> httpx.Response:
    with EvilServer([OK], tls=context) as server:
        rule = destination_rule("reviews", tls=tls)
        with (
            meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), rule]) as mesh,
            mesh.client() as client,
        ):
            return client.get("http://reviews:9080/")


def test_mode_disable_speaks_plaintext():
    assert get(None, mode="DISABLE").status_code == 200


def test_mode_simple_verifies_the_server_against_ca_certificates(authority, files):
    context = server_context(authority, "reviews")
    assert get(context, mode="SIMPLE", caCertificates=files["ca.pem"]).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate"):
        get(server_context(trustme.CA(), "reviews"), mode="SIMPLE", caCertificates=files["ca.pem"])


def test_sni_is_the_name_that_is_asked_for_and_verified(authority, files):
    context = server_context(authority, "other.test")
    asked: list[Any] = []
    context.sni_callback = lambda sock, name, ctx: asked.append(name)
    assert get(context, mode="SIMPLE", caCertificates=files["ca.pem"], sni="other.test").status_code == 200
    assert asked == ["other.test"]


@pytest.mark.parametrize(
    ("shown", "sni", "refused"),
    [
        (("api.test", "a.test"), "", ""),
        (("a.test",), "", "certificate is not trusted: Hostname mismatch"),
        (("api.test",), "", "wants one of a.test"),
        (("a.test",), "x.test", ""),
        (("x.test",), "x.test", "wants one of a.test"),
    ],
)
def test_names_of_a_service_entry_count_where_the_rule_names_none(authority, files, shown, sni, refused):
    tls = {"mode": "SIMPLE", "caCertificates": files["ca.pem"], **({"sni": sni} if sni else {})}
    with EvilServer([OK], tls=server_context(authority, *shown)) as server:
        place = {"address": "127.0.0.1", "ports": {"http": server.port}}
        entry = service_entry("api", "api.test", endpoints=[place], subjectAltNames=["a.test"])
        with (
            meshlib.Mesh.from_resources([entry, destination_rule("api.test", tls=tls)]) as mesh,
            mesh.client() as client,
        ):
            if not refused:
                assert client.get("http://api.test/").status_code == 200
                return
            with pytest.raises(httpx.ConnectError, match=refused):
                client.get("http://api.test/")
            assert not server.requests


def test_subject_alt_names_are_the_names_that_count(authority, files):
    context = server_context(authority, "a.test", "b.test")
    ca = files["ca.pem"]
    assert get(context, mode="SIMPLE", caCertificates=ca, subjectAltNames=["b.test"]).status_code == 200
    with pytest.raises(httpx.ConnectError, match=r"wants one of c\.test"):
        get(context, mode="SIMPLE", caCertificates=ca, subjectAltNames=["c.test"])


def test_mode_mutual_shows_our_certificate(authority, files):
    context = server_context(authority, "reviews", mutual=True)
    mutual = {
        "mode": "MUTUAL",
        "caCertificates": files["ca.pem"],
        "clientCertificate": files["client.pem"],
        "privateKey": files["client.key"],
    }
    assert get(context, **mutual).status_code == 200
    with pytest.raises(httpx.ConnectError, match="the server does not accept us: it requires a certificate") as refused:
        get(context, mode="SIMPLE", caCertificates=files["ca.pem"])
    assert refused.value.exchange.flags.startswith("UF")
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("reviews").configure_cert(stranger)
    trustme.CA().configure_trust(stranger)
    stranger.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(httpx.ConnectError, match=r"does not accept us: .*\(unknown CA\)"):
        get(stranger, **mutual)


def test_insecure_skip_verify_takes_any_certificate():
    stranger = server_context(trustme.CA(), "nobody.test")
    assert get(stranger, mode="SIMPLE", insecureSkipVerify=True).status_code == 200


def revocation_list(authority: trustme.CA, serials: list[int]) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    builder = builder.last_update(now - datetime.timedelta(days=1)).next_update(now + datetime.timedelta(days=1))
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_ca_crl_refuses_a_revoked_certificate(authority, files, tmp_path):
    from cryptography import x509

    issued = authority.issue_cert("reviews")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    serial = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number
    crl = Path(tmp_path / "crl.pem")
    crl.write_bytes(revocation_list(authority, []))
    rule = {"mode": "SIMPLE", "caCertificates": files["ca.pem"], "caCrl": str(crl)}
    assert get(context, **rule).status_code == 200
    crl.write_bytes(revocation_list(authority, [serial]))
    with pytest.raises(httpx.ConnectError, match="revoked"):
        get(context, **rule)


def test_a_certificate_that_changes_on_disk_counts_for_the_next_mesh(authority, files, tmp_path):
    other = trustme.CA()
    context = server_context(other, "reviews")
    ca = tmp_path / "rotating.pem"
    authority.cert_pem.write_to_path(str(ca))
    with pytest.raises(httpx.ConnectError):
        get(context, mode="SIMPLE", caCertificates=str(ca))
    other.cert_pem.write_to_path(str(ca))
    assert get(context, mode="SIMPLE", caCertificates=str(ca)).status_code == 200


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        ({"mode": "ISTIO_MUTUAL"}, "this process has no certificate"),
        ({"mode": "SIMPLE", "credentialName": "secret"}, "TLS secret secret"),
    ],
)
def test_tls_that_cannot_be_had_fails_and_is_never_plaintext(tls, why):
    with pytest.raises(httpx.ConnectError, match=why):
        get(None, **tls)


@pytest.mark.parametrize("ends", ["the client", "the mesh"])
def test_no_connection_of_a_loop_is_left_when_its_owner_is_closed(authority, files, ends):
    """asyncio waits half a minute for a server's close_notify: nobody should have to."""
    left = []

    async def go(mesh: meshlib.Mesh) -> None:
        async with mesh.async_client() as client:
            assert (await client.get("http://reviews:9080/")).status_code == 200
            if ends == "the mesh":
                await mesh.aclose()
        left.extend(sockets_of(asyncio.get_running_loop()))

    with EvilServer([OK], tls=server_context(authority, "reviews")) as server:
        rule = destination_rule("reviews", tls={"mode": "SIMPLE", "caCertificates": files["ca.pem"]})
        with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), rule]) as mesh:
            asyncio.run(go(mesh))
    assert left == []


def sockets_of(loop: asyncio.AbstractEventLoop) -> list[int]:
    """The connections that the loop still watches, its own wake-up aside."""
    own = loop._ssock  # type: ignore[attr-defined]
    return [key.fd for key in loop._selector.get_map().values() if key.fd != own.fileno()]  # type: ignore[attr-defined]
