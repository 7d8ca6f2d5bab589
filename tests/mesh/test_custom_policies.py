"""The action CUSTOM from YAML to the wire: policies, providers of MeshConfig and real authorizers, on every kind of server."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest

import meshlib
from tests.support.ads_server import message, pool
from tests.support.asgi import Client, ask, body, http_scope, responds, ws_scope
from tests.support.authorizers import HOST, Seen, over_grpc, over_http, resources
from tests.support.evil_server import EvilServer
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.mesh_config import config_map, mesh_config
from tests.support.wsgi import Answered, environ

ADMIN = on_paths("/admin*")


def custom(name: str = "ask", provider: str = "opa", rule: Any = ADMIN) -> dict[str, Any]:
    return authorization_policy(name, "CUSTOM", rule, provider={"name": provider})


def opa(over: str = "http", name: str = "opa", service: str = HOST, **settings: Any) -> dict[str, Any]:
    kind = "envoyExtAuthzHttp" if over == "http" else "envoyExtAuthzGrpc"
    return {"name": name, kind: {"service": service, "port": 8000, **settings}}


def let_in_alice(asked: Seen) -> Any:
    """As Istio's sample: a header decides."""
    if "allow" in asked.headers.get("authorization", ""):
        return 200, [("x-user", "alice"), ("set-cookie", "seen=1")], b""
    return 403, [("x-why", "not alice")], b"denied by opa"


@contextmanager
def meshed(
    *more: dict[str, Any], decide: Any = let_in_alice, **settings: Any
) -> Iterator[tuple[meshlib.Mesh, list[Any]]]:
    """A mesh whose provider opa is a small server."""
    wanted = {"headersToUpstreamOnAllow": ["x-user"], "headersToDownstreamOnAllow": ["set-cookie"], **settings}
    with over_http(decide) as (port, seen):
        there = [*resources(port), config_map(extensionProviders=[opa(**wanted)]), *more]
        with meshlib.Mesh.from_resources(there) as mesh:
            yield mesh, seen


class App:
    """What the application got."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        got = b""
        while True:
            message = await receive()
            got += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(got)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": b"hello"})

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.scopes.append(environ)
        self.bodies.append(environ["wsgi.input"].read())
        start_response("200 OK", [("x-app", "1")])
        return [b"hello"]


GOOD = (b"authorization", b"Bearer allow")


# -- servers of every kind --------------------------------------------------------------------------------------------


async def test_an_asgi_application_gets_what_the_authorizer_lets_in() -> None:
    app = App()
    with meshed(custom()) as (mesh, seen):
        served = meshlib.MeshASGIMiddleware(app, mesh)
        denied = await ask(served, http_scope("/admin"))
        assert (denied.status, denied.body, denied.headers[b"x-why"]) == (403, b"denied by opa", b"not alice")
        assert app.scopes == []
        good = await ask(served, http_scope("/admin?q", GOOD, (b"x-user", b"mallory")))
        assert (good.status, good.body, good.headers[b"set-cookie"]) == (200, b"hello", b"seen=1")
        assert [v for n, v in app.scopes[0]["headers"] if n.lower() == b"x-user"] == [b"alice"]
        assert (await ask(served, http_scope("/free"))).status == 200
        assert [asked.target for asked in seen] == ["/admin", "/admin?q"]
        assert seen[1].headers["host"] == "shop.test"


async def test_a_websocket_is_asked_about_before_it_is_accepted() -> None:
    with meshed(custom(), includeRequestBodyInCheck={"maxRequestBytes": 5}) as (mesh, seen):
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        client = Client({"type": "websocket.connect"})
        await served(ws_scope("/admin"), client.receive, client.send)
    assert client.got == [{"type": "websocket.close", "code": 1008}]
    assert (seen[0].method, seen[0].body) == ("GET", b"")


def test_a_wsgi_application_gets_what_the_authorizer_lets_in() -> None:
    app = App()
    with meshed(custom()) as (mesh, _):
        served = meshlib.MeshWSGIMiddleware(app.wsgi, mesh)
        denied = Answered().serve(served, environ("/admin"))
        assert (denied.status, b"".join(denied.body)) == ("403 Forbidden", b"denied by opa")
        assert app.scopes == []
        good = Answered().serve(served, environ("/admin", HTTP_AUTHORIZATION="Bearer allow", HTTP_X_USER="mallory"))
        assert (good.status, dict(good.headers)["set-cookie"]) == ("200 OK", "seen=1")
        assert app.scopes[0]["HTTP_X_USER"] == "alice"


def test_a_grpc_server_asks_too() -> None:
    got: list[Any] = []

    def serve(raw: bytes, context: Any) -> bytes:
        got.append(dict(context.invocation_metadata()))
        return raw

    handler = grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(serve)})
    with meshed(custom(rule=on_paths("/a.B/*"))) as (mesh, seen):
        server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=mesh.grpc_server_interceptors())
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_unary("/a.B/C")
                with pytest.raises(grpc.RpcError) as refused:
                    call(b"x", timeout=60)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert got == []
                assert call(b"x", metadata=(("authorization", "allow"), ("x-user", "mallory")), timeout=60) == b"x"
        finally:
            server.stop(None).wait(60)
    assert got[0]["x-user"] == "alice"
    assert (seen[0].method, seen[0].target) == ("POST", "/a.B/C")


@pytest.mark.parametrize(
    ("settings", "sent", "told", "status"),
    [
        ({"maxRequestBytes": 20}, b"hello world", b"hello world", 200),
        ({"maxRequestBytes": 5, "allowPartialMessage": True}, b"hello world", b"hello", 200),
        ({"maxRequestBytes": 5}, b"hello world", None, 413),
    ],
)
async def test_the_application_reads_all_of_a_body_that_the_authorizer_has_seen(
    settings: Any, sent: bytes, told: bytes | None, status: int
) -> None:
    app = App()
    with meshed(custom(), includeRequestBodyInCheck=settings) as (mesh, seen):
        asgi = meshlib.MeshASGIMiddleware(app, mesh)
        pieces = [body(sent[i : i + 4], True) for i in range(0, len(sent), 4)]
        client = await ask(asgi, http_scope("/admin", GOOD, method="POST"), *pieces, body())
        assert client.status == status
        wsgi = meshlib.MeshWSGIMiddleware(app.wsgi, mesh)
        made = environ(
            "/admin",
            "POST",
            HTTP_AUTHORIZATION="Bearer allow",
            CONTENT_LENGTH=str(len(sent)),
            **{"wsgi.input": io.BytesIO(sent)},
        )
        answered = await asyncio.to_thread(lambda: Answered().serve(wsgi, made))
        assert answered.status.startswith(str(status))
    assert [asked.body for asked in seen] == [told] * 2 if told else seen == []
    assert app.bodies == ([sent] * 2 if status == 200 else [])


# -- order ------------------------------------------------------------------------------------------------------------


async def test_what_an_authorizer_changes_is_what_later_policies_see() -> None:
    """CUSTOM comes first: DENY by a header, or ALLOW, judge the request that the authorizer has made of it."""
    only_alice = authorization_policy(
        "alice", "ALLOW", {"when": [{"key": "request.headers[x-user]", "values": ["alice"]}]}
    )
    with meshed(custom(rule={}), only_alice) as (mesh, _):
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        assert (await ask(served, http_scope("/", GOOD))).status == 200
        forged = await ask(served, http_scope("/", (b"x-user", b"alice")))
        assert (forged.status, forged.body) == (403, b"denied by opa")
    with meshed(custom(rule={}), only_alice, headersToUpstreamOnAllow=[]) as (mesh, _):
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        refused = await ask(served, http_scope("/", GOOD))
        assert (refused.status, refused.body) == (403, b"RBAC: access denied")
        assert refused.headers[b"set-cookie"] == b"seen=1"  # what the authorizer lets in, whoever responds


async def test_a_request_must_be_let_in_by_every_provider_whose_rules_match_it() -> None:
    with ExitStack() as stack:
        first, asked_first = stack.enter_context(over_http(lambda asked: (200, [("x-first", "1")], b"")))
        second, asked_second = stack.enter_context(over_http(lambda asked: (401, [], b"second")))
        there = [
            *resources(first),
            *_renamed(resources(second), "second.test"),
            config_map(
                extensionProviders=[
                    opa(name="b", service="second.test"),
                    opa(name="a", headersToUpstreamOnAllow=["x-first"]),
                ]
            ),
            custom("one", "b", on_paths("/both")),
            custom("two", "a", {}),
        ]
        mesh = stack.enter_context(meshlib.Mesh.from_resources(there))
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        assert (await ask(served, http_scope("/one"))).status == 200
        client = await ask(served, http_scope("/both"))
        assert (client.status, client.body) == (401, b"second")
        assert (len(asked_first), len(asked_second)) == (2, 1)


def _renamed(there: list[Any], host: str) -> list[Any]:
    there[0]["metadata"]["name"] = host
    there[0]["spec"]["hosts"] = [host]
    return there


# -- providers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ([], "MeshConfig has no extension provider opa"),
        ([config_map(extensionProviders=[opa(name="other")])], "MeshConfig has no extension provider opa"),
        ([config_map(extensionProviders=[opa(service="nobody.test")])], "the registry has no service nobody.test"),
        ([mesh_config(extensionProviders=[opa(service="infra/" + HOST)])], f"no service {HOST} in namespace infra"),
    ],
)
async def test_where_no_provider_can_be_asked_what_the_rules_match_is_refused_and_said(config: Any, why: str) -> None:
    with meshlib.Mesh.from_resources([*resources(1), *config, custom()]) as mesh:
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        client = await ask(served, http_scope("/admin"))
        assert (client.status, client.body) == (403, b"RBAC: access denied")
        assert (await ask(served, http_scope("/free"))).status == 200
        (problem,) = [p for p in mesh.problems if p.code == "provider-unusable"]
        assert problem.path == "AuthorizationPolicy/default/ask"
        assert why in problem.message


async def test_no_virtual_service_has_a_say_in_how_an_authorizer_is_called() -> None:
    fault = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "opa", "namespace": "default"},
        "spec": {
            "hosts": [HOST],
            "http": [
                {
                    "fault": {"abort": {"httpStatus": 200, "percentage": {"value": 100}}},
                    "route": [{"destination": {"host": "elsewhere.test"}}],
                }
            ],
        },
    }
    with meshed(custom(), fault) as (mesh, seen):
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        assert (await ask(served, http_scope("/admin"))).status == 403
        assert (await ask(served, http_scope("/admin", GOOD))).status == 200
    assert len(seen) == 2


async def test_an_authorizer_over_grpc_from_yaml() -> None:
    from google.protobuf import json_format

    def check(asked: Any) -> Any:
        allowed = "allow" in asked.attributes.request.http.headers.get("authorization", "")
        said = {"ok_response": {"headers": [{"header": {"key": "x-user", "value": "alice"}}]}} if allowed else {}
        said = said or {"status": {"code": 7}, "denied_response": {"body": "denied by opa"}}
        made = message("envoy.service.auth.v3.CheckResponse")()
        return json_format.ParseDict(said, made, descriptor_pool=pool())

    app = App()
    with over_grpc(check) as (port, _):
        there = [*resources(port, "GRPC"), config_map(extensionProviders=[opa("grpc")]), custom()]
        with meshlib.Mesh.from_resources(there) as mesh:
            served = meshlib.MeshASGIMiddleware(app, mesh)
            denied = await ask(served, http_scope("/admin"))
            assert (denied.status, denied.body) == (403, b"denied by opa")
            assert (await ask(served, http_scope("/admin", GOOD))).status == 200
    assert (b"x-user", b"alice") in app.scopes[0]["headers"]


# -- reloads ----------------------------------------------------------------------------------------------------------


async def test_an_authorizer_comes_moves_and_goes_with_its_service() -> None:
    with over_http(let_in_alice) as (one, asked_one), over_http(let_in_alice) as (two, asked_two):
        rest = [config_map(extensionProviders=[opa()]), custom()]
        with meshlib.Mesh.from_resources(rest) as mesh:
            served = meshlib.MeshASGIMiddleware(responds(), mesh)

            async def asked() -> int:
                return (await ask(served, http_scope("/admin", GOOD))).status

            assert await asked() == 403
            for port, seen in ((one, asked_one), (two, asked_two), (one, asked_one)):
                mesh.apply([*resources(port), *rest])
                del seen[:]
                assert await asked() == 200
                assert len(seen) == 1
            mesh.apply(rest)
            assert await asked() == 403
            mesh.apply([*resources(two), *rest[:1]])
            assert await asked() == 200
            assert mesh.status()["authorizers"]["opa"]["allowed"] == 3


# -- faults -----------------------------------------------------------------------------------------------------------


async def test_fail_open_lets_in_only_where_it_is_written_and_status_on_error_is_obeyed() -> None:
    for settings, status in (({}, 403), ({"statusOnError": "503"}, 503), ({"failOpen": True}, 200)):
        there = [*resources(1), config_map(extensionProviders=[opa(**settings)]), custom()]
        with meshlib.Mesh.from_resources(there) as mesh:
            client = await ask(meshlib.MeshASGIMiddleware(responds(), mesh), http_scope("/admin"))
            assert client.status == status
            facts = mesh.status()["authorizers"]["opa"]
            assert (facts["failed"], facts["let_in"]) == (1, int(status == 200))


async def test_hundreds_of_cancelled_questions_leave_nothing_behind() -> None:
    with EvilServer([lambda sock: sock.recv(1)]) as server:
        there = [*resources(server.port), config_map(extensionProviders=[opa()]), custom()]
        with meshlib.Mesh.from_resources(there) as mesh:
            served = meshlib.MeshASGIMiddleware(responds(), mesh)
            for _ in range(3):
                tasks = [asyncio.create_task(ask(served, http_scope("/admin"))) for _ in range(100)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                assert all(
                    isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*tasks, return_exceptions=True)
                )
            assert mesh._core.live is not None
            state = mesh._core.live.cluster(f"outbound|8000||{HOST}").state
            assert (state.active, mesh._core.live.check_failures.count) == (0, 0)


async def test_no_secret_of_a_request_is_told_but_to_the_authorizer(caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cr3t-canary"

    def fails(asked: Seen) -> Any:
        return 503, [("x-why", asked.headers["authorization"])], asked.body + asked.target.encode()

    caplog.set_level(logging.DEBUG)
    settings = {
        "includeRequestHeadersInCheck": ["cookie"],
        "includeAdditionalHeadersInCheck": {"x-key": secret},
        "includeRequestBodyInCheck": {"maxRequestBytes": 100},
    }
    with meshed(custom(), decide=fails, **settings) as (mesh, seen):
        served = meshlib.MeshASGIMiddleware(responds(), mesh)
        headers = [(b"authorization", f"Bearer {secret}".encode()), (b"cookie", f"a={secret}".encode())]
        client = await ask(served, http_scope(f"/admin?t={secret}", *headers), body(secret.encode()))
        told = [
            client.got,
            mesh.status(),
            mesh.problems,
            repr(mesh),
            repr(mesh._core.live and mesh._core.live.snapshot),
        ]
        assert secret in repr(seen)
    assert client.status == 403
    assert secret not in repr(told)
    assert secret not in caplog.text
    assert "opa" in caplog.text
