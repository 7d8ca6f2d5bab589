"""TLS of gRPC calls: the caller's own credentials, a DestinationRule's, and what grpcio cannot check."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme

from meshlib.compiler.routes import TlsSettings
from meshlib.transport.grpcio.client.connect import CannotConnect, _tls
from tests.support.fake_clock import FakeClock
from tests.support.grpc_echo import EchoServer
from tests.support.grpc_runtimes import HOST, Threads, mesh_of, refused

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


def server_credentials(*names, mutual=False):
    issued = AUTHORITY.issue_cert(*names)
    return grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), b"".join(p.bytes() for p in issued.cert_chain_pems))],
        AUTHORITY.cert_pem.bytes() if mutual else None,
        mutual,
    )


@pytest.fixture
def files(tmp_path):
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = AUTHORITY.issue_cert("client.test")
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "cert.pem").write_bytes(b"".join(p.bytes() for p in mine.cert_chain_pems))
    return {name: str(tmp_path / f"{name}.pem") for name in ("ca", "key", "cert")}


async def test_the_callers_credentials_check_the_mesh_host(runtime_class):
    with EchoServer(credentials=server_credentials(HOST)) as server, mesh_of(server) as mesh:
        good = grpc.ssl_channel_credentials(AUTHORITY.cert_pem.bytes())
        assert await runtime_class(mesh, credentials=good).server() == "one"
        bad = grpc.ssl_channel_credentials(STRANGER.cert_pem.bytes())
        error = await refused(runtime_class(mesh, credentials=bad).unary(timeout=60))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.exchange.flags.startswith("UF")


async def test_a_certificate_for_another_host_is_refused():
    with EchoServer(credentials=server_credentials("other.test")) as server, mesh_of(server) as mesh:
        credentials = grpc.ssl_channel_credentials(AUTHORITY.cert_pem.bytes())
        error = await refused(Threads(mesh, credentials=credentials).unary(timeout=60))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not server.seen


async def test_a_destination_rule_makes_the_connection_tls(runtime_class, files):
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": files["ca"]}}
    with EchoServer(credentials=server_credentials(HOST)) as server, mesh_of(server, policy=policy) as mesh:
        assert await runtime_class(mesh).server() == "one"


async def test_a_secret_has_roots_certificate_and_key(runtime_class, files):
    keys = {"ca.crt": "ca", "tls.crt": "cert", "tls.key": "key"}
    values = {key: Path(files[name]).read_text() for key, name in keys.items()}
    policy = {"tls": {"mode": "MUTUAL", "credentialName": "s"}}

    def secret(**more: str) -> dict[str, object]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {**values, **more}}

    with EchoServer(credentials=server_credentials(HOST, mutual=True)) as server:
        with mesh_of(server, policy=policy, more=[secret()]) as mesh:
            assert await runtime_class(mesh).server() == "one"
        with mesh_of(server, policy=policy, more=[secret(**{"ca.crl": "revoked"})]) as mesh:
            error = await refused(Threads(mesh).unary())
            assert "revocation list" in error.details()
        with mesh_of(server, policy=policy, more=[secret(**{"tls.key": "c4n4ry"})]) as mesh:
            error = await refused(Threads(mesh).unary())
            assert "Secret default/s" in error.details()
            assert "c4n4ry" not in error.details()


async def test_a_destination_rule_shows_a_client_certificate(runtime_class, files):
    mutual = {
        "mode": "MUTUAL",
        "caCertificates": files["ca"],
        "clientCertificate": files["cert"],
        "privateKey": files["key"],
    }
    with EchoServer(credentials=server_credentials(HOST, mutual=True)) as server:
        with mesh_of(server, policy={"tls": mutual}) as mesh:
            assert await runtime_class(mesh).server() == "one"
        with mesh_of(server, policy={"tls": {"mode": "SIMPLE", "caCertificates": files["ca"]}}) as mesh:
            assert (await refused(runtime_class(mesh).unary(timeout=60))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("field", "name"), [({"sni": "inner.test"}, "inner.test"), ({"subjectAltNames": ["san.test"]}, "san.test")]
)
async def test_the_name_to_check_may_be_given(files, field, name):
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": files["ca"], **field}}
    with EchoServer(credentials=server_credentials(name)) as server, mesh_of(server, policy=policy) as mesh:
        assert await Threads(mesh).server() == "one"
    with EchoServer(credentials=server_credentials(HOST)) as server, mesh_of(server, policy=policy) as mesh:
        assert (await refused(Threads(mesh).unary(timeout=60))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ({"subjectAltNames": ["spiffe://cluster.local/ns/default/sa/echo"]}, "SPIFFE"),
        ({"subjectAltNames": ["a.test", "b.test"]}, "one DNS name"),
        ({"subjectAltNames": ["a.test"], "sni": "b.test"}, "differ"),
        ({"insecureSkipVerify": True}, "always verifies"),
    ],
)
async def test_what_grpcio_cannot_check_is_not_left_unchecked(runtime_class, files, field, word):
    tls = {"mode": "SIMPLE", **({} if "insecureSkipVerify" in field else {"caCertificates": files["ca"]}), **field}
    with EchoServer(credentials=server_credentials(HOST)) as server, mesh_of(server, policy={"tls": tls}) as mesh:
        error = await refused(runtime_class(mesh).unary())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert word in error.details()
        assert not server.seen


@pytest.mark.parametrize(("host", "fits"), [("a.test:80", True), ("api.test:80", False)])
async def test_a_name_of_the_service_entry_beside_the_host_is_one_too_many_for_grpcio(files, host, fits):
    settings = TlsSettings("SIMPLE", ca_certificates=files["ca"], subject_alt_names=("a.test",), named_too=True)
    if fits:
        assert _tls(settings, host)[1] == "a.test"
    else:
        with pytest.raises(CannotConnect, match="ServiceEntry"):
            _tls(settings, host)


async def test_istio_mutual_without_an_identity_fails_closed(runtime_class):
    with EchoServer() as server, mesh_of(server, policy={"tls": {"mode": "ISTIO_MUTUAL"}}) as mesh:
        error = await refused(runtime_class(mesh).unary())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not server.seen


async def test_files_that_cannot_be_read_say_which(tmp_path):
    missing = str(tmp_path / "none.pem")
    with EchoServer() as server, mesh_of(server, policy={"tls": {"mode": "SIMPLE", "caCertificates": missing}}) as mesh:
        error = await refused(Threads(mesh).unary())
        assert "none.pem" in error.details()


async def test_call_credentials_that_a_destination_rule_would_lose_are_refused(files):
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": files["ca"]}}
    token = grpc.access_token_call_credentials("secret")
    composite = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), token)
    with EchoServer(credentials=server_credentials(HOST)) as server, mesh_of(server, policy=policy) as mesh:
        error = await refused(Threads(mesh, credentials=composite).unary())
        assert "call credentials" in error.details()
        runtime = Threads(mesh)
        assert await runtime.server(credentials=token) == "one"
        assert server.seen[0].metadata["authorization"] == "Bearer secret"


async def test_a_certificate_with_the_wrong_spiffe_id_and_the_right_name_is_what_grpcio_accepts():
    """The reason why a SPIFFE ID in subjectAltNames is refused: grpcio would not notice."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ca_key = serialization.load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    ca = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(HOST), x509.UniformResourceIdentifier("spiffe://evil.test/ns/x/sa/y")]
            ),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials([(pem, certificate.public_bytes(serialization.Encoding.PEM))])
    with EchoServer(credentials=credentials) as server, mesh_of(server) as mesh:
        own = grpc.ssl_channel_credentials(AUTHORITY.cert_pem.bytes())
        assert await Threads(mesh, credentials=own).server() == "one"


async def test_rotated_certificates_count_for_new_channels_within_a_second(runtime_class, tmp_path):
    clock = FakeClock()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.cert_pem.bytes())
    issued = STRANGER.issue_cert(HOST)
    rotated = grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), b"".join(p.bytes() for p in issued.cert_chain_pems))]
    )
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": str(ca)}}
    with (
        EchoServer(credentials=server_credentials(HOST)) as before,
        EchoServer(credentials=rotated) as after,
        mesh_of(before, policy=policy, clock=clock) as mesh,
    ):
        runtime = runtime_class(mesh)
        assert await runtime.server() == "one"
        ca.write_bytes(b"half of it")
        clock.advance(2)
        assert await runtime.server() == "one"
        assert str(ca) in mesh.status()["certificates"][0]["problem"]
        ca.write_bytes(STRANGER.cert_pem.bytes())
        clock.advance(2)
        # the address stays, who answers there has a new certificate
        endpoint = next(iter(mesh._core.live.bound.values())).endpoints[0]
        object.__setattr__(endpoint.endpoint, "port", after.port)
        assert await runtime.server() == "one"
        assert after.seen
        assert mesh.status()["certificates"][0]["problem"] == ""
