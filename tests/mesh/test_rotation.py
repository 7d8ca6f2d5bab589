"""Certificates that are replaced on disk while a mesh runs: new connections use the new ones, without apply()."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from meshlib.transport.upstream.followed import stamp
from tests.mesh.test_tls import revocation_list, server_context
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service

LAST = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", "close"]


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture(params=["threads", "asyncio"])
def get(request) -> Callable[..., Any]:
    """One call on a client of its own."""

    async def one(mesh: meshlib.Mesh, url: str = "http://reviews:9080/", **options: Any) -> int:
        if request.param == "threads":
            with mesh.client(**options) as client:
                return client.get(url).status_code
        async with mesh.async_client(**options) as client:
            return (await client.get(url)).status_code

    return one


def mesh_to(server: EvilServer, **tls: Any) -> meshlib.Mesh:
    rule = destination_rule("reviews", tls=tls)
    return meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), rule])


def write(authority: trustme.CA, path: Path) -> str:
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


async def test_a_new_ca_counts_for_new_connections(authorities, get, tmp_path):
    old, new = authorities
    ca = tmp_path / "ca.pem"
    write(old, ca)
    with (
        EvilServer(LAST, tls=server_context(old, "reviews")) as server,
        mesh_to(server, mode="SIMPLE", caCertificates=str(ca)) as mesh,
    ):
        assert await get(mesh) == 200
        server.tls = server_context(new, "reviews")
        with pytest.raises(httpx.ConnectError, match="not trusted"):
            await get(mesh)
        write(new, ca)
        assert await get(mesh) == 200
        assert mesh.status()["certificates"] == [{"files": [str(ca)], "problem": ""}]


async def test_a_kubernetes_secret_is_swapped_by_its_links(authorities, get, tmp_path):
    """ca.pem -> ..data/ca.pem, ..data -> a folder of its own for each version."""
    for name, authority in zip(("v1", "v2"), authorities, strict=True):
        (tmp_path / name).mkdir()
        write(authority, tmp_path / name / "ca.pem")
    for name in ("v1", "v2"):  # alike in all that a link does not change
        os.utime(tmp_path / name / "ca.pem", (1e9, 1e9))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "ca.pem").symlink_to("..data/ca.pem")
    old, new = authorities
    with (
        EvilServer(LAST, tls=server_context(old, "reviews")) as server,
        mesh_to(server, mode="SIMPLE", caCertificates=str(tmp_path / "ca.pem")) as mesh,
    ):
        assert await get(mesh) == 200
        (tmp_path / "next").symlink_to("v2")
        os.replace(tmp_path / "next", tmp_path / "..data")
        server.tls = server_context(new, "reviews")
        assert await get(mesh) == 200


def test_a_file_of_the_same_size_and_time_is_another_one(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    before = stamp(str(file))
    assert stamp(str(file)) == before
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert stamp(str(file)) != before


async def test_a_new_client_certificate_is_shown(authorities, get, tmp_path):
    ours, _ = authorities
    ca, cert, key = write(ours, tmp_path / "ca.pem"), tmp_path / "cert.pem", tmp_path / "key.pem"
    shown: list[str] = []

    def note(sock: Any) -> None:
        shown.append(dict(sock.getpeercert()["subjectAltName"])["DNS"])

    def issue(name: str, step: Callable[[], None] = lambda: None) -> None:
        issued = ours.issue_cert(name)
        cert.write_bytes(issued.cert_chain_pems[0].bytes())
        step()
        key.write_bytes(issued.private_key_pem.bytes())

    issue("one.test")
    context = server_context(ours, "reviews", mutual=True)
    tls = {"caCertificates": ca, "clientCertificate": str(cert), "privateKey": str(key)}
    with EvilServer([note, *LAST], tls=context) as server, mesh_to(server, mode="MUTUAL", **tls) as mesh:
        assert await get(mesh) == 200
        issue("two.test")
        assert await get(mesh) == 200
        issued = ours.issue_cert("three.test")
        cert.write_bytes(issued.cert_chain_pems[0].bytes())
        assert await get(mesh) == 200  # the key is not yet that of the certificate: the pair before is used
        assert "KEY_VALUES_MISMATCH" in mesh.status()["certificates"][0]["problem"].upper().replace(" ", "_")
        key.write_bytes(issued.private_key_pem.bytes())
        assert await get(mesh) == 200
        assert mesh.status()["certificates"][0]["problem"] == ""
    assert shown == ["one.test", "two.test", "two.test", "three.test"]


async def test_a_new_revocation_list_counts(authorities, get, tmp_path):
    from cryptography import x509

    ours, _ = authorities
    issued = ours.issue_cert("reviews")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    serial = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(ours, []))
    tls = {"caCertificates": write(ours, tmp_path / "ca.pem"), "caCrl": str(crl)}
    with EvilServer(LAST, tls=context) as server, mesh_to(server, mode="SIMPLE", **tls) as mesh:
        assert await get(mesh) == 200
        crl.write_bytes(revocation_list(ours, [serial]))
        with pytest.raises(httpx.ConnectError, match="revoked"):
            await get(mesh)


@pytest.mark.parametrize(
    "broken", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB", b"no certificate", None], ids=["empty", "cut", "text", "gone"]
)
async def test_a_broken_version_leaves_the_last_good_one_and_says_so_once(authorities, get, tmp_path, caplog, broken):
    old, new = authorities
    ca = tmp_path / "ca.pem"
    write(old, ca)
    with (
        EvilServer(LAST, tls=server_context(old, "reviews")) as server,
        mesh_to(server, mode="SIMPLE", caCertificates=str(ca)) as mesh,
        caplog.at_level(logging.ERROR, "meshlib.tls"),
    ):
        assert await get(mesh) == 200
        if broken is None:
            ca.unlink()
        else:
            ca.write_bytes(broken)
        for _ in range(3):
            assert await get(mesh) == 200
        assert len(caplog.records) == 1
        assert str(ca) in caplog.text
        assert str(ca) in mesh.status()["certificates"][0]["problem"]
        write(new, ca)
        server.tls = server_context(new, "reviews")
        assert await get(mesh) == 200
        assert mesh.status()["certificates"][0]["problem"] == ""


async def test_files_that_were_never_good_are_a_connect_error_that_names_them(get, tmp_path):
    missing = tmp_path / "none.pem"
    with EvilServer(LAST) as server, mesh_to(server, mode="SIMPLE", caCertificates=str(missing)) as mesh:
        with pytest.raises(httpx.ConnectError, match=r"none\.pem.*No such file"):
            await get(mesh)
        assert server.requests == []


def test_open_connections_go_on_and_calls_on_them_look_at_no_file(authorities, tmp_path, monkeypatch):
    old, new = authorities
    ca = tmp_path / "ca.pem"
    write(old, ca)
    with (
        EvilServer([OK], tls=server_context(old, "reviews")) as server,
        mesh_to(server, mode="SIMPLE", caCertificates=str(ca)) as mesh,
        mesh.client() as client,
    ):
        client.get("http://reviews:9080/")
        write(new, ca)
        looks: list[Any] = []
        real = os.stat
        monkeypatch.setattr(
            os, "stat", lambda path, *args, **kwargs: (looks.append(path), real(path, *args, **kwargs))[1]
        )
        for _ in range(20):
            client.get("http://reviews:9080/")
        assert str(ca) not in looks
        assert server.connections == 1


async def test_the_clients_own_files_are_followed_too(authorities, tmp_path, get, recwarn):
    old, new = authorities
    ca = tmp_path / "ca.pem"
    write(old, ca)
    with EvilServer(LAST, tls=server_context(old, "localhost")) as server, meshlib.Mesh.from_resources([]) as mesh:
        url = f"https://localhost:{server.port}/"
        client = mesh.client(verify=str(ca))  # one client, as a program has it
        assert client.get(url).status_code == 200
        server.tls = server_context(new, "localhost")
        write(new, ca)
        assert client.get(url).status_code == 200
        own = ssl.create_default_context(cafile=str(ca))
        assert await get(mesh, url, verify=own) == 200
        write(old, ca)
        server.tls = server_context(old, "localhost")
        with pytest.raises(httpx.ConnectError, match="not trusted"):
            await get(mesh, url, verify=own)  # a context of the caller's stays what it is
        client.close()


async def test_the_clients_own_certificate_is_followed_too(authorities, tmp_path, get):
    ours, _ = authorities
    ca = write(ours, tmp_path / "ca.pem")
    both = tmp_path / "both.pem"
    shown: list[str] = []

    def note(sock: Any) -> None:
        shown.append(dict(sock.getpeercert()["subjectAltName"])["DNS"])

    context = server_context(ours, "localhost", mutual=True)
    with EvilServer([note, *LAST], tls=context) as server, meshlib.Mesh.from_resources([]) as mesh:
        for name in ("one.test", "two.test"):
            both.write_bytes(ours.issue_cert(name).private_key_and_cert_chain_pem.bytes())
            trust = ssl.create_default_context(cafile=ca)
            if name == "one.test":
                client = mesh.client(verify=trust, cert=str(both))
            assert client.get(f"https://localhost:{server.port}/").status_code == 200
        client.close()
    assert shown == ["one.test", "two.test"]


def test_a_copy_of_the_folder_is_another_version(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"one")
    before = stamp(str(tmp_path / "a" / "x"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").rename(tmp_path / "a")
    assert stamp(str(tmp_path / "a" / "x")) != before
