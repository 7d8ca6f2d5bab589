"""``credentialName`` on real handshakes: roots, certificates and keys of Secrets, which are shown nowhere."""

from __future__ import annotations

import json
import ssl
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from tests.mesh.test_tls import server_context
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secret(**values: bytes | str) -> dict[str, Any]:
    """Keys: ``tls_crt`` for tls.crt."""
    data = {k.replace("_", "."): v.decode() if isinstance(v, bytes) else v for k, v in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reviews-tls"}, "stringData": data}


def mine(authority: trustme.CA, **more: bytes | str) -> dict[str, Any]:
    """A Secret with a certificate of ours."""
    issued = authority.issue_cert("client.test")
    pems = {"tls_crt": issued.cert_chain_pems[0].bytes(), "tls_key": issued.private_key_pem.bytes()}
    return secret(**{"ca_crt": authority.cert_pem.bytes(), **pems, **more})


def resources(port: int, mode: str, *secrets: dict[str, Any]) -> list[dict[str, Any]]:
    rule = destination_rule("reviews", tls={"mode": mode, "credentialName": "reviews-tls"})
    return [service("reviews"), pod("reviews", "v1", port), rule, *secrets]


def get(context: ssl.SSLContext | None, mode: str, *secrets: dict[str, Any]) -> httpx.Response:
    with (
        EvilServer([OK], tls=context) as server,
        meshlib.Mesh.from_resources(resources(server.port, mode, *secrets)) as mesh,
        mesh.client() as client,
    ):
        return client.get("http://reviews:9080/")


def test_the_server_is_verified_by_the_roots_of_the_secret_and_no_others(authority: trustme.CA) -> None:
    context = server_context(authority, "reviews")
    assert get(context, "SIMPLE", secret(ca_crt=authority.cert_pem.bytes())).status_code == 200
    assert get(context, "SIMPLE", secret(cacert=authority.cert_pem.bytes())).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate is not trusted"):
        get(context, "SIMPLE", secret(ca_crt=trustme.CA().cert_pem.bytes()))
    with pytest.raises(httpx.ConnectError, match="reviews"):
        get(server_context(authority, "other"), "SIMPLE", secret(ca_crt=authority.cert_pem.bytes()))


def test_our_certificate_is_that_of_the_secret(authority: trustme.CA) -> None:
    context = server_context(authority, "reviews", mutual=True)
    assert get(context, "MUTUAL", mine(authority)).status_code == 200
    with pytest.raises(httpx.TransportError):
        get(context, "SIMPLE", mine(authority))


def test_a_secret_that_is_renewed_counts_for_the_next_connection(authority: trustme.CA) -> None:
    context = server_context(authority, "reviews", mutual=True)
    other = trustme.CA()
    with EvilServer([OK], [OK], tls=context) as server:
        broken = mine(authority, ca_crt=other.cert_pem.bytes())
        with (
            meshlib.Mesh.from_resources(resources(server.port, "MUTUAL", broken)) as mesh,
            mesh.client() as client,
        ):
            with pytest.raises(httpx.ConnectError):
                client.get("http://reviews:9080/")
            mesh.apply(resources(server.port, "MUTUAL", mine(authority)))
            assert client.get("http://reviews:9080/").status_code == 200


def test_without_the_secret_calls_fail_with_the_reason_and_never_in_plain_text() -> None:
    with pytest.raises(httpx.ConnectError, match="there is no Secret default/reviews-tls among the resources"):
        get(None, "SIMPLE")


@pytest.mark.parametrize(
    "values",
    [
        {"ca_crt": "c4n4ry"},
        {"ca_crt": "-----BEGIN CERTIFICATE-----\nc4n4ry\n-----END CERTIFICATE-----\n"},
        {"tls_key": "-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n"},
        {"tls_key": "c4n4ry\u00e9"},
    ],
)
def test_what_openssl_cannot_read_is_named_and_shown_nowhere(
    authority: trustme.CA, values: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    made = resources(1, "MUTUAL", mine(authority, **values))
    with meshlib.Mesh.from_resources(made) as mesh, mesh.client() as client:
        with pytest.raises(httpx.ConnectError, match="Secret default/reviews-tls") as caught:
            client.get("http://reviews:9080/")
        told = mesh.explain(url="http://reviews:9080/")
        shown = [
            str(caught.value),
            repr(mesh),
            str(told),
            json.dumps(told.to_dict()),
            json.dumps(mesh.status()),
            caplog.text,
        ]
        shown += [repr(mesh._core.live.snapshot.clusters)] if mesh._core.live is not None else []
        assert not any("c4n4ry" in text or "PRIVATE KEY" in text for text in shown)
