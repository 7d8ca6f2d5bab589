"""PeerAuthentication STRICT at servers of every protocol: who shows no certificate of the mesh does not come in."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import meshlib
from meshlib.engine.peer_check import BODY
from meshlib.testing import as_caller
from tests.support.asgi import Client, Served, ask, http_scope, responds, ws_scope
from tests.support.fake_clock import FakeClock
from tests.support.grpc_echo import Message
from tests.support.grpc_probe import RUNTIMES, probe
from tests.support.peer_authentication import peer_authentication
from tests.support.protection import REVIEWS, protection
from tests.support.spiffe import Authority
from tests.support.wsgi import Answered, environ

WEB = "cluster.local/ns/default/sa/web"
STRICT = peer_authentication("all")


def plain(_environ: Any, start: Any) -> list[bytes]:
    start("200 OK", [])
    return [b"served"]


# -- ASGI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), (protection(maxBodyBytes=9),)], ids=["straight", "exchange"])
@pytest.mark.parametrize(
    "header", [(), ((b"grpc-timeout", b"1S"),), ((b"content-type", b"application/grpc"),)], ids=["", "deadline", "grpc"]
)
async def test_plain_http_is_refused_on_every_way_through_asgi(more: Any, header: Any) -> None:
    served = Served(STRICT, *more, workload=REVIEWS)
    called: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope)
        await responds()(scope, receive, send)

    asgi = meshlib.MeshASGIMiddleware(app, served.mesh)
    for scope in (http_scope("/", *header), http_scope("/healthz", *header, method="OPTIONS")):
        client = await ask(asgi, scope)
        assert client.status == (200 if header and b"grpc" in header[0][1] else 403)
        assert BODY.encode() in (client.body or client.headers.get(b"grpc-message", b""))
    assert called == []
    assert (await ask(as_caller(asgi, principal=WEB), http_scope())).status == 200
    assert len(called) == 1


async def test_tls_whose_peer_the_server_does_not_show_is_refused() -> None:
    asgi = meshlib.MeshASGIMiddleware(responds(), Served(STRICT).mesh)
    assert (await ask(asgi, http_scope(scheme="https"))).status == 403
    shown = Authority().issue(f"spiffe://{WEB}")[1].decode()
    tls = {"client_cert_chain": [shown], "client_cert_error": None}
    assert (await ask(asgi, http_scope(scheme="https", extensions={"tls": tls}))).status == 200
    bad = Authority().issue(f"spiffe://{WEB}", "spiffe://cluster.local/ns/default/sa/second")[1].decode()
    extensions = {"tls": {**tls, "client_cert_chain": [bad]}}
    assert (await ask(asgi, http_scope(scheme="https", extensions=extensions))).status == 403


async def test_a_websocket_is_turned_away() -> None:
    asgi = meshlib.MeshASGIMiddleware(responds(), Served(STRICT).mesh)
    client = Client({"type": "websocket.connect"})
    await asgi(ws_scope(extensions={"websocket.http.response": {}}), client.receive, client.send)
    assert client.got[0]["status"] == 403


async def test_the_port_decides_and_one_that_nobody_tells_is_strict() -> None:
    policy = peer_authentication("web", "PERMISSIVE", app="web")
    policy["spec"]["portLevelMtls"] = {"8443": {"mode": "STRICT"}}
    served = Served(policy, workload=meshlib.Workload(labels={"app": "web"}))
    asgi = meshlib.MeshASGIMiddleware(responds(), served.mesh)
    for server, status in ((("10.0.0.1", 8443), 403), (("10.0.0.1", 8080), 200), (None, 403)):
        assert (await ask(asgi, http_scope(server=server))).status == status, server


async def test_apply_changes_the_mode_for_the_next_request() -> None:
    served = Served()
    asgi = meshlib.MeshASGIMiddleware(responds(), served.mesh)
    for resources, status in (([], 200), ([STRICT], 403), ([peer_authentication("all", "PERMISSIVE")], 200)):
        served.mesh.apply(resources)
        assert (await ask(asgi)).status == status


async def test_what_is_refused_is_counted_logged_and_in_the_status(caplog: pytest.LogCaptureFixture) -> None:
    served = Served(STRICT)
    with caplog.at_level(logging.INFO, "meshlib.inbound"):
        await ask(meshlib.MeshASGIMiddleware(responds(), served.mesh), http_scope("/cart?token=c4n4ry"))
    assert served.counted() == [("403", "-")]
    assert served.mesh.status()["inbound"]["mtls_refused"] == {"default/all": 1}
    (said,) = [m for m in caplog.messages if "mtls_required" in m]
    assert "'/cart' from an unauthenticated peer" in said
    assert said.endswith("mtls_required_policy[default/all]_plain_text")
    assert "c4n4ry" not in caplog.text


# -- WSGI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), (protection(maxBodyBytes=9),)], ids=["straight", "exchange"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_plain_http_is_refused_through_wsgi(more: Any, scheme: str) -> None:
    with meshlib.Mesh.from_resources([STRICT, *more], workload=REVIEWS) as mesh:
        wsgi = meshlib.MeshWSGIMiddleware(plain, mesh)
        found = Answered().serve(wsgi, environ(**{"wsgi.url_scheme": scheme}))
        assert (found.status[:3], b"".join(found.body)) == ("403", BODY.encode())
        assert Answered().serve(as_caller(wsgi, principal=WEB), environ()).status[:3] == "200"


def test_it_is_asked_before_anything_that_needs_no_identity() -> None:
    with meshlib.Mesh.from_resources([STRICT, protection(maxHeaderBytes=200)], workload=REVIEWS) as mesh:
        wsgi = meshlib.MeshWSGIMiddleware(plain, mesh)
        large = environ(HTTP_X="y" * 300)
        assert Answered().serve(wsgi, dict(large)).status[:3] == "403"
        assert Answered().serve(as_caller(wsgi, principal=WEB), dict(large)).status[:3] == "431"


# -- gRPC -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_calls_without_a_certificate_are_refused_through_grpc(runtime: str, authority: Authority) -> None:
    with meshlib.Mesh.from_resources([STRICT]) as mesh:
        with probe(runtime, mesh) as server, server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=60)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, BODY)
        with (
            probe(runtime, mesh, credentials=authority.server()) as server,
            server.stub(authority.client(f"spiffe://{WEB}", "dns:web.test")) as stub,
        ):
            assert stub.Unary(Message(text="a"), timeout=60).text == "a"


# -- policies that break ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mesh_of(folder: Path) -> Iterator[tuple[meshlib.Mesh, Any]]:
    with meshlib.Mesh.from_path(folder, watch=False, clock=FakeClock()) as mesh:
        yield mesh, meshlib.MeshWSGIMiddleware(plain, mesh)


def status(app: Any) -> str:
    return Answered().serve(app, environ()).status[:3]


def test_an_edit_that_breaks_a_policy_keeps_its_last_good_version(tmp_path: Path) -> None:
    file = tmp_path / "mesh.json"
    for good, wanted in ((STRICT, "403"), (peer_authentication("all", "PERMISSIVE"), "200")):
        file.write_text(json.dumps(good))
        with mesh_of(tmp_path) as (mesh, app):
            for broken in ({**good, "spec": {"mtls": {"mode": "STRIKT"}}}, None):
                file.write_text(json.dumps(good)[:-5] if broken is None else json.dumps(broken))
                mesh.reload()
                assert status(app) == wanted


@pytest.mark.parametrize(
    "broken",
    [
        {**STRICT, "spec": {"mtls": {"mode": "STRIKT"}}},
        {**STRICT, "spec": 5},
        {**STRICT, "apiVersion": "security.istio.io/v9"},
        json.dumps(STRICT)[:-5],
        json.dumps(STRICT).replace('"mtls"', '"mtls": {"mode": "DISABLE"}, "mtls"'),
    ],
    ids=["mode", "spec", "version", "torn", "twice"],
)
def test_while_a_new_policy_is_broken_its_workloads_are_strict(tmp_path: Path, broken: Any) -> None:
    (tmp_path / "other.json").write_text(json.dumps(peer_authentication("other", "DISABLE", app="other")))
    with mesh_of(tmp_path) as (mesh, app):
        assert status(app) == "200"
        (tmp_path / "new.json").write_text(broken if isinstance(broken, str) else json.dumps(broken))
        mesh.reload()
        assert status(app) == "403"
        [said] = [p for p in mesh.problems if p.code == "refuses-everything"]
        assert "plain text is refused (STRICT)" in said.message
        assert mesh.status()["inbound"]["mtls"]["broken"]
        assert "cannot be read" in mesh.explain_inbound(path="/").reason
        (tmp_path / "new.json").write_text(json.dumps(peer_authentication("all", "PERMISSIVE")))
        mesh.reload()
        assert status(app) == "200"
