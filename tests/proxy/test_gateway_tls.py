"""TLS that a gateway ends: which certificate a client is shown, and which one it must show."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.eventually import eventually
from tests.support.gateway_certificates import certificate_pem, client, key_pem, leaf, root, secret, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.identities import CLIENT, World
from tests.support.resources import service_entry, to, virtual_service
from tests.support.servers import EchoServer

SHOP, BANK = leaf("shop.test"), leaf("bank.test")
SOMEBODY, STRANGER = leaf("spiffe://x/somebody", "somebody.test"), leaf("stranger.test", of="another")
GONE = (ssl.SSLError, ConnectionError)


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


def routes(app, *hosts):
    return [
        service_entry(
            "app",
            "app.internal.test",
            ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
            resolution="STATIC",
            endpoints=[{"address": "127.0.0.1", "ports": {"http": app.port}}],
        ),
        *(
            virtual_service(
                host.replace(".", "-"),
                {"route": [to("app.internal.test", port=8000)]},
                hosts=[host],
                gateways=["gw"],
            )
            for host in hosts
        ),
    ]


def https(*hosts, mode="SIMPLE", name="", **tls):
    return server(
        *hosts, port=443, protocol="HTTPS", name=name or hosts[0].replace("*", "any"), tls={"mode": mode, **tls}
    )


def get(gw, context, name="shop.test", host="", path="/"):
    with gw.client(443, lambda sock: context.wrap_socket(sock, server_hostname=name)) as made:
        return made.get(path, "GET", host or name)


def headers(response):
    assert response.status == 200
    return json.loads(response.body)["headers"]


def test_each_server_shows_its_own_certificate_by_the_name_that_is_asked_for(app):
    with Gateway(
        *routes(app, "shop.test", "bank.test"),
        tls_secret("shop", SHOP),
        tls_secret("bank", BANK),
        gateway(https("shop.test", credentialName="shop"), https("bank.test", credentialName="bank")),
    ) as gw:
        assert headers(get(gw, client()))["x-forwarded-proto"] == "https"
        assert get(gw, client(), "bank.test").status == 200
        assert get(gw, client(), "shop.test", host="bank.test").status == 404, "its routes are those of its server"


def test_a_name_that_no_server_has_is_not_spoken_to(app):
    with Gateway(
        *routes(app, "shop.test"), tls_secret("shop", SHOP), gateway(https("shop.test", credentialName="shop"))
    ) as gw:
        with pytest.raises(GONE):
            get(gw, client(), "other.test")
        with gw.client(443) as plain, pytest.raises(ConnectionError):
            plain.get("/", "GET", "shop.test")
        listener = gw.process.listener
        assert (listener.counts["no_server"], listener.counts["not_tls"]) == (1, 1)
        assert get(gw, client()).status == 200


def test_a_client_hello_that_comes_byte_by_byte_is_read(app):
    with Gateway(
        *routes(app, "shop.test"), tls_secret("shop", SHOP), gateway(https("shop.test", credentialName="shop"))
    ) as gw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        done = client().wrap_bio(incoming, outgoing, server_hostname="shop.test")
        with gw.client(443) as raw:
            raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    done.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        raw.send(bytes((byte,)))
                    incoming.write(raw.sock.recv(65536))
        assert done.getpeercert()["subjectAltName"] == (("DNS", "shop.test"),)


def test_http2_is_offered(app):
    with Gateway(
        *routes(app, "shop.test"), tls_secret("shop", SHOP), gateway(https("shop.test", credentialName="shop"))
    ) as gw:
        sock = client(alpn=("h2", "http/1.1")).wrap_socket(gw.client(443).sock, server_hostname="shop.test")
        with sock:
            assert sock.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_clients_show_certificates_of_the_roots_in_the_secret(app, mode):
    with Gateway(
        *routes(app, "shop.test"),
        tls_secret("shop", SHOP, root("root")),
        gateway(https("shop.test", mode=mode, credentialName="shop")),
    ) as gw:
        told = headers(get(gw, client(SOMEBODY)))["x-forwarded-client-cert"]
        assert f"Hash={hashlib.sha256(SOMEBODY[0].public_bytes(Encoding.DER)).hexdigest()}" in told
        assert "URI=spiffe://x/somebody;DNS=somebody.test" in told
        assert 'Subject="CN=spiffe://x/somebody"' in told
        assert "Cert=" in told
        with pytest.raises(GONE):
            get(gw, client(STRANGER))
        if mode == "MUTUAL":
            with pytest.raises(GONE):
                get(gw, client())
        else:
            assert "x-forwarded-client-cert" not in headers(get(gw, client()))


def test_roots_may_be_in_a_secret_of_their_own(app):
    with Gateway(
        *routes(app, "shop.test"),
        tls_secret("shop", SHOP),
        secret("shop-cacert", cacert=certificate_pem(root("another"))),
        gateway(https("shop.test", mode="MUTUAL", credentialName="shop")),
    ) as gw:
        assert get(gw, client(STRANGER)).status == 200
        with pytest.raises(GONE):
            get(gw, client(SOMEBODY))


def spki(pair):
    key = pair[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def digest(pair):
    return hashlib.sha256(pair[0].public_bytes(Encoding.DER)).hexdigest()


OTHER = leaf("other-client.test")


@pytest.mark.parametrize(
    "demand",
    [
        {"subjectAltNames": ["somebody.test"]},
        {"subjectAltNames": ["nobody", "spiffe://x/somebody"]},
        {"verifyCertificateHash": [digest(SOMEBODY).upper()]},
        {"verifyCertificateHash": [":".join(digest(SOMEBODY)[i : i + 2] for i in range(0, 64, 2))]},
        {"verifyCertificateSpki": [spki(SOMEBODY)]},
        {"verifyCertificateSpki": [spki(SOMEBODY)], "verifyCertificateHash": [digest(SHOP)]},
    ],
)
def test_a_server_may_demand_more_of_clients(app, demand):
    with Gateway(
        *routes(app, "shop.test"),
        tls_secret("shop", SHOP, root("root")),
        gateway(https("shop.test", mode="MUTUAL", credentialName="shop", **demand)),
    ) as gw:
        assert get(gw, client(SOMEBODY)).status == 200
        with pytest.raises(GONE):
            get(gw, client(OTHER))
        assert len(app.seen) == 1
        assert eventually(lambda: gw.process.listener.counts["refused_peer"] == 1)


def test_istio_mutual_takes_certificates_of_the_mesh(app):
    world = World(of_a_mesh=True)
    world.rotate()
    with Gateway(
        *routes(app, "shop.test"), gateway(https("shop.test", mode="ISTIO_MUTUAL")), identity=world.identity
    ) as gw:
        context = world.client()
        context.check_hostname = False
        assert f"URI={CLIENT}" in headers(get(gw, context))["x-forwarded-client-cert"]
        with pytest.raises(GONE):
            get(gw, world.stranger())


def test_versions_are_those_of_the_server(app):
    with Gateway(
        *routes(app, "shop.test", "bank.test"),
        tls_secret("shop", SHOP),
        tls_secret("bank", BANK),
        gateway(
            https("shop.test", credentialName="shop", minProtocolVersion="TLSV1_3"),
            https(
                "bank.test",
                credentialName="bank",
                maxProtocolVersion="TLSV1_2",
                cipherSuites=["ECDHE-ECDSA-AES256-GCM-SHA384"],
            ),
        ),
    ) as gw:
        with pytest.raises(GONE):
            get(gw, client(maximum=ssl.TLSVersion.TLSv1_2))
        assert get(gw, client()).status == 200
        sock = client().wrap_socket(gw.client(443).sock, server_hostname="bank.test")
        with sock:
            assert (sock.version(), sock.cipher()[0]) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")


def test_a_missing_secret_closes_its_server_and_no_other(app, caplog):
    with Gateway(
        *routes(app, "shop.test", "bank.test"),
        tls_secret("bank", BANK),
        gateway(https("shop.test", credentialName="shop"), https("bank.test", credentialName="bank")),
    ) as gw:
        (problem,) = [p for p in gw.mesh.problems if p.code == "certificate-missing"]
        assert "there is no Secret default/shop among the resources" in problem.message
        with pytest.raises(GONE):
            get(gw, client())
        assert get(gw, client(), "bank.test").status == 200


def test_a_secret_may_change_its_kind_and_closes_its_server_only_while_it_is_of_none_that_will_do(app):
    """kubernetes.io/tls and Opaque with Istio's own keys serve; one with a password, or roots alone, does not."""
    renewed = leaf("shop.test", "generic.shop.test")
    resources = [
        *routes(app, "shop.test", "bank.test"),
        tls_secret("bank", BANK),
        gateway(https("shop.test", credentialName="shop"), https("bank.test", credentialName="bank")),
    ]
    kinds = [
        ({**tls_secret("shop", SHOP), "type": "kubernetes.io/tls"}, ["shop.test"]),
        (
            {**secret("shop", cert=certificate_pem(renewed), key=key_pem(renewed)), "type": "Opaque"},
            ["shop.test", "generic.shop.test"],
        ),
        ({**secret("shop", username=b"u", password=b"p"), "type": "kubernetes.io/basic-auth"}, []),
        ({**tls_secret("shop", SHOP), "type": "kubernetes.io/tls"}, ["shop.test"]),
        ({**secret("shop", ca_crt=certificate_pem(root("root"))), "type": "Opaque"}, []),
    ]
    with Gateway(*resources, kinds[0][0]) as gw:
        for made, names in kinds:
            gw.mesh.apply([*resources, made])
            if names:
                with client().wrap_socket(gw.client(443).sock, server_hostname="shop.test") as sock:
                    assert [name for _, name in sock.getpeercert()["subjectAltName"]] == names
            else:
                with pytest.raises(GONE):
                    get(gw, client())
                (told,) = [p for p in gw.mesh.problems if p.code == "certificate-missing"]
                assert "default/shop" in told.message
            assert get(gw, client(), "bank.test").status == 200


def test_a_rotation_shows_the_new_certificate_and_leaves_connections_and_other_servers_alone(app):
    resources = [
        *routes(app, "shop.test", "bank.test"),
        tls_secret("bank", BANK),
        gateway(https("shop.test", credentialName="shop"), https("bank.test", credentialName="bank")),
    ]
    renewed = leaf("shop.test", "www.shop.test")
    with Gateway(*resources, tls_secret("shop", SHOP)) as gw:
        contexts = gw.process.listener.contexts
        bank = client().wrap_socket(gw.client(443).sock, server_hostname="bank.test")
        shop = client().wrap_socket(gw.client(443).sock, server_hostname="shop.test")
        assert len(contexts) == 2
        before = dict(contexts._made)
        gw.mesh.apply([*resources, tls_secret("shop", renewed)])
        assert eventually(lambda: len(contexts) == 1)
        after = client().wrap_socket(gw.client(443).sock, server_hostname="shop.test")
        with bank, shop, after:
            assert len(after.getpeercert()["subjectAltName"]) == 2
            (kept,) = before.keys() & contexts._made.keys()
            assert before[kept] is contexts._made[kept]
            for sock, host in ((bank, "bank.test"), (shop, "shop.test"), (after, "shop.test")):
                sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_certificates_come_from_files_which_are_followed(app, tmp_path):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(certificate_pem(SHOP))
    key.write_bytes(key_pem(SHOP))
    renewed = leaf("shop.test", "new.shop.test")
    with Gateway(
        *routes(app, "shop.test"),
        gateway(https("shop.test", serverCertificate=str(certificate), privateKey=str(key))),
    ) as gw:
        assert get(gw, client()).status == 200
        certificate.write_bytes(certificate_pem(renewed))
        key.write_bytes(key_pem(renewed))
        sock = client().wrap_socket(gw.client(443).sock, server_hostname="shop.test")
        with sock:
            assert len(sock.getpeercert()["subjectAltName"]) == 2


def test_a_certificate_that_cannot_be_used_is_said_and_closes_its_server(app, caplog):
    with Gateway(
        *routes(app, "shop.test"),
        secret("shop", tls_crt=certificate_pem(SHOP), tls_key=key_pem(BANK)),
        gateway(https("shop.test", credentialName="shop")),
    ) as gw:
        with pytest.raises(GONE):
            get(gw, client())
        said = "is not served: tls of Gateway/default/gw servers[0] cannot be used (Secret default/shop):"
        assert said in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ca_crt": b"none"}, "the roots of clients (ca.crt, caCertificates) cannot be read"),
        (
            {"ca_crt": certificate_pem(root("root")), "ca_crl": b"none"},
            "the revocation list (ca.crl, caCrl) cannot be read",
        ),
    ],
)
def test_roots_and_lists_that_are_none_are_told_from_the_certificate(app, caplog, more, said):
    with Gateway(
        *routes(app, "shop.test"),
        secret("shop", tls_crt=certificate_pem(SHOP), tls_key=key_pem(SHOP), **more),
        gateway(https("shop.test", mode="MUTUAL", credentialName="shop")),
    ) as gw:
        with pytest.raises(GONE):
            get(gw, client(SOMEBODY))
        assert said in caplog.text


def test_accents_in_the_roots_of_one_server_stop_none(app):
    with Gateway(
        *routes(app, "shop.test", "bank.test"),
        tls_secret("bank", BANK),
        secret(
            "shop",
            tls_crt=certificate_pem(SHOP),
            tls_key=key_pem(SHOP),
            ca_crt="# é\n".encode() + certificate_pem(root("root")),
        ),
        secret("none", tls_crt=certificate_pem(SHOP), tls_key=key_pem(SHOP), ca_crt="é".encode()),
        gateway(
            https("none.test", mode="MUTUAL", credentialName="none"),
            https("shop.test", mode="MUTUAL", credentialName="shop"),
            https("bank.test", credentialName="bank"),
        ),
    ) as gw:
        assert get(gw, client(SOMEBODY)).status == 200
        assert get(gw, client(), "bank.test").status == 200
        with pytest.raises(GONE):
            get(gw, client(SOMEBODY), "none.test")


def written(folder, name, pair, key=None):
    """The options of a server whose certificate is in files."""
    certificate, private = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(certificate_pem(pair))
    private.write_bytes(key_pem(pair) if key is None else key)
    return {"serverCertificate": str(certificate), "privateKey": str(private)}


def named(gw, name):
    """The certificate that is shown for it."""
    with client().wrap_socket(gw.client(443).sock, server_hostname=name) as sock:
        return sock.getpeercert()["subjectAltName"][0][1]


def test_contexts_are_kept_for_the_servers_that_were_asked_for_last(app, tmp_path):
    hosts = ("a.test", "b.test", "c.test")
    servers = [https(host, **written(tmp_path, host, leaf(host))) for host in hosts]
    with Gateway(*routes(app, *hosts), gateway(*servers)) as gw:
        contexts = gw.process.listener.contexts
        contexts._most = 2
        first = client().wrap_socket(gw.client(443).sock, server_hostname="a.test")
        assert [named(gw, host) for host in ("b.test", "a.test", "c.test", "a.test", "b.test")] == [
            "b.test",
            "a.test",
            "c.test",
            "a.test",
            "b.test",
        ]
        assert (len(contexts), contexts.kept) == (3, 2)
        kept = [tls.pairs[0].certificate_file.rpartition("/")[2] for tls in contexts._made]
        assert kept == ["a.test.crt", "b.test.crt"]
        with first:  # whose context was left out meanwhile
            first.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert first.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_context_that_was_left_out_is_made_again_of_the_last_good_files(app, tmp_path, caplog):
    hosts = ("a.test", "b.test")
    servers = [https(host, **written(tmp_path, host, leaf(host))) for host in hosts]
    with Gateway(*routes(app, *hosts), gateway(*servers)) as gw:
        gw.process.listener.contexts._most = 1
        assert [named(gw, host) for host in hosts] == list(hosts)
        (tmp_path / "a.test.crt").write_bytes(b"half writ")
        assert named(gw, "a.test") == "a.test"
        assert "the last good version stays in use for new connections" in caplog.text
        assert named(gw, "b.test") == "b.test"
        assert named(gw, "a.test") == "a.test", "and again, without the file"


@pytest.mark.parametrize("key", [b"", b"not PEM"])
def test_a_key_that_is_none_closes_its_server(app, tmp_path, caplog, key):
    with Gateway(
        *routes(app, "shop.test"), gateway(https("shop.test", **written(tmp_path, "shop", SHOP, key=key)))
    ) as gw:
        with pytest.raises(GONE):
            get(gw, client())
        assert "is not served: tls of Gateway/default/gw servers[0] cannot be used" in caplog.text


def test_roots_and_revocations_in_files_are_kept_with_the_certificate(app, tmp_path):
    roots = tmp_path / "ca.crt"
    roots.write_bytes(certificate_pem(root("root")))
    hosts = ("a.test", "b.test")
    servers = [
        https(host, mode="MUTUAL", caCertificates=str(roots), **written(tmp_path, host, leaf(host))) for host in hosts
    ]
    with Gateway(*routes(app, *hosts), gateway(*servers)) as gw:
        gw.process.listener.contexts._most = 1
        for host in (*hosts, *hosts):
            told = headers(get(gw, client(SOMEBODY), host))["x-forwarded-client-cert"]
            assert "URI=spiffe://x/somebody" in told
            with pytest.raises(GONE):
                get(gw, client(STRANGER), host)
