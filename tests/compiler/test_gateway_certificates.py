"""``tls`` of a server: what is shown and demanded, and out of what."""

from __future__ import annotations

import pytest

from meshlib.compiler.gateway_certificates import Unusable, compile_tls
from meshlib.compiler.tls_secrets import Secrets
from meshlib.resources.loader import load_objects
from meshlib.resources.server_tls import ServerTls
from tests.support.gateway_certificates import certificate_pem, key_pem, leaf, root, secret, tls_secret

PAIR = leaf("shop.test")


def tls(*resources, **written):
    secrets = Secrets(load_objects(resources).resources, "default")
    return compile_tls(ServerTls.model_validate(written), secrets)


def test_a_secret_gives_certificate_key_and_roots():
    made = tls(tls_secret("shop", PAIR, root("root")), mode="MUTUAL", credentialName="shop")
    assert made.pairs[0].certificate == certificate_pem(PAIR)
    assert made.pairs[0].key == key_pem(PAIR)
    assert made.ca == certificate_pem(root("root"))
    assert tls(tls_secret("shop", PAIR, root("root")), mode="SIMPLE", credentialName="shop").ca == b""


def test_two_credentials_give_two_certificates():
    other = leaf("two.test")
    made = tls(tls_secret("a", PAIR), tls_secret("b", other), mode="SIMPLE", credentialNames=["a", "b"])
    assert [pair.certificate for pair in made.pairs] == [certificate_pem(PAIR), certificate_pem(other)]


def test_roots_may_be_named_apart():
    roots = secret("clients", ca_crt=certificate_pem(root("another")))
    made = tls(tls_secret("shop", PAIR), roots, mode="MUTUAL", credentialName="shop", caCertCredentialName="clients")
    assert made.ca == certificate_pem(root("another"))


def test_files_are_read_later():
    made = tls(mode="MUTUAL", serverCertificate="/c", privateKey="/k", caCertificates="/ca", caCrl="/crl")
    assert (made.pairs[0].certificate_file, made.pairs[0].key_file, made.ca_file, made.crl_file) == (
        "/c",
        "/k",
        "/ca",
        "/crl",
    )


def test_a_secret_of_another_namespace_is_not_read():
    with pytest.raises(
        Unusable, match=r"other/shop is of another namespace; a workload reads Secrets of its own, default"
    ):
        tls(tls_secret("shop", PAIR, namespace="other"), mode="SIMPLE", credentialName="other/shop")


def test_versions_that_leave_none_are_said():
    with pytest.raises(Unusable, match="no version is left") as raised:
        tls(
            tls_secret("shop", PAIR),
            mode="SIMPLE",
            credentialName="shop",
            minProtocolVersion="TLSV1_3",
            maxProtocolVersion="TLSV1_2",
        )
    assert raised.value.field == "minProtocolVersion"


def test_ciphers_that_istio_does_not_know_are_left_out():
    made = tls(
        tls_secret("shop", PAIR),
        mode="SIMPLE",
        credentialName="shop",
        cipherSuites=["ECDHE-RSA-AES128-GCM-SHA256", "NULL", "ECDHE-RSA-AES128-GCM-SHA256"],
    )
    assert made.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
