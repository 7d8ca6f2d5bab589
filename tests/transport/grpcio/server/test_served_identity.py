"""Whom a server serves: known by the certificate, and by nothing that the caller sends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.grpc_echo import Message
from tests.support.grpc_probe import probe
from tests.support.grpc_served import BOOKINFO, KINDS, call


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_knows_its_caller_by_the_certificate(runtime, counted, authority, kind):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO, "dns:productpage.test")) as stub:
            call(stub, kind)
    assert server.notes.seen
    for seen in server.notes.seen:
        request = seen.request
        assert request is not None, seen.where
        assert (request.principal, request.secure, request.mutual, request.scheme) == (BOOKINFO, True, True, "https")
        assert (request.method, request.path, request.protocol) == ("POST", f"/meshlib.test.Echo/{kind}", "grpc")
        host, _, port = request.peer.rpartition(":")
        assert host == "127.0.0.1"
        assert port.isdigit()
    ((labels, _),) = counted.samples("istio_requests_total")
    assert labels["source_principal"] == BOOKINFO
    assert labels["destination_principal"] == "spiffe://cluster.local/ns/default/sa/ratings"
    assert labels["connection_security_policy"] == "mutual_tls"


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("dns:productpage.test",),
        ("https://productpage.test/",),
        (BOOKINFO, "spiffe://cluster.local/ns/default/sa/admin"),
        (BOOKINFO, "https://productpage.test/"),
        ("dns:spiffe://cluster.local/ns/default/sa/admin",),
        # what gRPC core takes for SPIFFE ids
        (f"{BOOKINFO}?x",),
        (f"{BOOKINFO}#x",),
        (f"{BOOKINFO}/",),
        ("spiffe://cluster.local:8080/ns/default/sa/admin",),
        ("spiffe://eve@cluster.local/ns/default/sa/admin",),
        ("spiffe://CLUSTER.local/ns/default/sa/admin",),
        ("spiffe://cluster.local/ns/../sa/admin",),
        ("spiffe://cluster.local/ns/default/sa/%61dmin",),
    ],
)
@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_certificate_without_exactly_one_spiffe_id_gives_no_principal(runtime, counted, authority, names):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(*names)) as stub:
            assert stub.Unary(Message(text="a")).server == ""
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.mutual) == ("", True)
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["source_principal"], labels["connection_security_policy"]) == ("unknown", "mutual_tls")


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_certificate_that_may_sign_others_is_nobodys(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO, ca=True)) as stub:
            assert stub.Unary(Message(text="a")).server == ""


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_the_identity_is_more_than_a_text(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO)) as stub:
            stub.Unary(Message(text="a"))
    (seen,) = server.notes.seen
    peer = seen.request.peer_id
    assert (peer.trust_domain, peer.namespace, peer.service_account) == (
        "cluster.local",
        "default",
        "bookinfo-productpage",
    )


def test_what_grpcio_does_not_tell_is_unknown_and_the_port_may_be_said(runtime, counted):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"))
    request = server.notes.seen[0].request
    assert (request.host_known, request.authority, request.port, request.local_ip, request.sni) == (
        False,
        "",
        0,
        "",
        "",
    )
    with probe(runtime, counted.mesh, port=9090) as server, server.stub() as stub:
        stub.Unary(Message(text="a"))
    assert server.notes.seen[0].request.port == 9090


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(counted, port):
    for make in (counted.mesh.grpc_server_interceptors, counted.mesh.aio_grpc_server_interceptors):
        with pytest.raises(ValueError, match="1 to 65535"):
            make(port=port)


def test_tls_without_a_client_certificate_is_secure_and_nobody(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server(mutual=False)) as server:
        with server.stub(authority.client(anonymous=True)) as stub:
            stub.Unary(Message(text="a"))
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.secure, seen.request.mutual) == ("", True, False)
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["connection_security_policy"], labels["destination_principal"]) == ("none", "unknown")


def test_metadata_cannot_make_a_principal(runtime, counted):
    claims = (("peer_spiffe_id", BOOKINFO), ("x-forwarded-client-cert", f"URI={BOOKINFO}"), ("k-bin", b"\x00\xff"))
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), metadata=claims)
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.secure, seen.request.scheme) == ("", False, "http")
    assert seen.request.header("x-forwarded-client-cert") == f"URI={BOOKINFO}"
    assert seen.request.header("k-bin") == "\x00\xff"
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["source_principal"], labels["connection_security_policy"]) == ("unknown", "none")


def test_calls_at_the_same_time_see_each_their_own(runtime, counted, authority):
    ids = [f"spiffe://cluster.local/ns/default/sa/caller-{i}" for i in range(4)]
    wrong: list[Any] = []

    def calls(mine: str) -> None:
        with server.stub(authority.client(mine)) as stub:
            for _ in range(10):
                answers = [stub.Unary(Message(text="a"))]
                answers += stub.Expand(Message(text="a", count=3))
                answers += stub.Chat(iter([Message(text="a")] * 3))
                answers.append(stub.Collect(iter([Message(text="a")] * 3)))
                wrong.extend(a.server for a in answers if a.server != mine)

    with probe(runtime, counted.mesh, credentials=authority.server(), workers=16) as server:
        threads = [threading.Thread(target=calls, args=(mine,)) for mine in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []
        assert counted.settled({("200", "0", "-"): 160})
    assert {
        labels["source_principal"]: value for labels, value in counted.samples("istio_requests_total")
    } == dict.fromkeys(ids, 40)
    assert counted.messages() == (4 * 10 * (1 + 1 + 3 + 3), 4 * 10 * (1 + 3 + 3 + 1))
