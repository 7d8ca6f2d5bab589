"""subjectAltNames of a DestinationRule on real handshakes, with certificates that try to pass for others."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import meshlib
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service

SPIFFE = "spiffe://cluster.local/ns/default/sa/reviews"
OTHER = "spiffe://cluster.local/ns/default/sa/other"

DNS, URI = 0x82, 0x86  # the tags of these names in a certificate


def general_names(*names: tuple[int, bytes]) -> x509.UnrecognizedExtension:
    """Names as they are, whatever a library that writes certificates would say to them."""
    body = b"".join(bytes([tag, len(text)]) + text for tag, text in names)
    assert len(body) < 256
    length = bytes([len(body)]) if len(body) < 128 else bytes([0x81, len(body)])
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30" + length + body)


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self.pem = self._sign(self.name, self.key, (ca, True))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: tuple[Any, bool]) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(*extension)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server(self, folder: Path, *names: tuple[int, bytes]) -> ssl.SSLContext:
        """A server's context whose certificate has just these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reviews")])
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / "server.pem"
        file.write_bytes(secret + self._sign(subject, key, (general_names(*names), False)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=["threads", "asyncio"])
def call(request, authority, tmp_path) -> Callable[..., Any]:
    """One call to a server whose certificate has these names, under a rule that allows those."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)

    async def one(names: list[tuple[int, bytes]], allowed: list[str]) -> int:
        with EvilServer([OK], tls=authority.server(tmp_path, *names)) as server:
            rule = destination_rule(
                "reviews", tls={"mode": "SIMPLE", "caCertificates": str(ca), "subjectAltNames": allowed}
            )
            with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), rule]) as mesh:
                if request.param == "threads":
                    with mesh.client() as client:
                        return client.get("http://reviews:9080/").status_code
                async with mesh.async_client() as client:
                    return (await client.get("http://reviews:9080/")).status_code

    return one


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ([(DNS, b"*.example.test")], ["api.example.test"]),
        ([(DNS, b"API.example.test")], ["api.example.test"]),
        ([(DNS, b"other.test"), (URI, SPIFFE.encode())], ["nobody.test", SPIFFE]),
    ],
    ids=["a wildcard", "another case", "one of several"],
)
async def test_an_allowed_name_is_accepted(call, names, allowed):
    assert await call(names, allowed) == 200


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ([(DNS, SPIFFE.encode())], [SPIFFE]),
        ([(URI, b"api.example.test")], ["api.example.test"]),
        ([(URI, SPIFFE.encode()), (URI, OTHER.encode())], [SPIFFE]),
        ([(DNS, b"api.example.test\0.evil.test")], ["api.example.test"]),
        ([(DNS, b"x, DNS:api.example.test")], ["api.example.test"]),
        ([(DNS, b"*.example.test")], ["a.b.example.test"]),
        ([(DNS, b"*.test")], ["api.example.test"]),
    ],
    ids=["DNS like a URI", "URI like DNS", "two URIs", "NUL", "comma", "two labels", "wide"],
)
async def test_what_only_looks_like_an_allowed_name_is_refused(call, names, allowed):
    with pytest.raises(httpx.ConnectError, match=r"the DestinationRule .* wants one of"):
        await call(names, allowed)


async def test_names_that_are_no_text_are_refused(call):
    with pytest.raises(httpx.ConnectError, match="cannot be read"):
        await call([(DNS, b"api\xff.test")], ["api.test"])
