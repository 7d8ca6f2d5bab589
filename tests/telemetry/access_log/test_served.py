"""Lines of calls that are served, by every door, whichever way a request takes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.access_log.format import parse
from meshlib.engine.inbound import MET
from meshlib.telemetry.access_log import alike
from meshlib.telemetry.access_log.alike import text_alike
from meshlib.telemetry.access_log.made import MadeEntry
from meshlib.telemetry.access_log.served import OTHERS
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.inbound_proxy import InboundProxy
from tests.support.resources import service
from tests.support.servers import EchoServer

FORM = (
    '"%REQ(:METHOD)% %PATH% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% '
    "%BYTES_SENT% %RESP(X-ANSWER)% %REQ(:AUTHORITY)% %ROUTE_NAME%"
)
DENY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "no-admin", "namespace": "default"},
    "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin"]}}]}]},
}


def mesh(path: Path, *resources: dict[str, Any], form: Any = FORM) -> meshlib.Mesh:
    return meshlib.Mesh.from_resources(
        [service("me"), *resources],
        registry=CollectorRegistry(),
        access_log=path,
        access_log_format=form,
        workload=meshlib.Workload("me-v1", labels={"app": "me"}),
    )


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    if scope["path"] == "/fail":
        raise ValueError("on purpose")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-answer", b"42")]})
    await send({"type": "http.response.body", "body": b"got " + message.get("body", b"")})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("on purpose")
    start_response("200 OK", [("X-Answer", "42")])
    return [b"got " + body]


def through_asgi(m: meshlib.Mesh, calls: list[tuple[str, str, bytes]]) -> None:
    async def go() -> None:
        transport = httpx.ASGITransport(meshlib.MeshASGIMiddleware(asgi_app, m), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://me") as client:
            for method, path, body in calls:
                await client.request(method, path, content=body)

    asyncio.run(go())


def through_wsgi(m: meshlib.Mesh, calls: list[tuple[str, str, bytes]]) -> None:
    transport = httpx.WSGITransport(meshlib.MeshWSGIMiddleware(wsgi_app, m))
    with httpx.Client(transport=transport, base_url="http://me") as client:
        for method, path, body in calls:
            with contextlib.suppress(ValueError):
                client.request(method, path, content=body)


DOORS = {"asgi": through_asgi, "wsgi": through_wsgi}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Callable[[meshlib.Mesh, list[tuple[str, str, bytes]]], None]:
    return DOORS[request.param]


def test_each_request_has_its_line(tmp_path: Path, door: Any) -> None:
    path = tmp_path / "access.log"
    with mesh(path) as m:
        # the third and fourth are like those before, to the letter
        door(m, [("POST", "/a?b=c", b"12345")] * 4 + [("GET", "/fail", b"")])
    expected = '"POST /a?b=c HTTP/1.1" 200 - via_upstream 5 9 42 me default'
    assert path.read_text().splitlines() == [expected] * 4 + [
        '"GET /fail HTTP/1.1" 500 - via_upstream 0 0 - me default'
    ]


def test_what_is_refused_has_its_line_and_its_reason(tmp_path: Path, door: Any) -> None:
    path = tmp_path / "access.log"
    with mesh(path, DENY) as m:
        door(m, [("GET", "/ok", b""), ("GET", "/admin", b"")] * 2)
    lines = path.read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["200", "403", "200", "403"]
    assert "rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]" in lines[1]
    assert lines[1].split()[6:8] == ["0", str(len("RBAC: access denied"))]


def test_a_log_that_comes_with_a_reload_has_all_from_there_on(tmp_path: Path, door: Any) -> None:
    """Doors remember requests that they have met, and note them without a record: not when somebody wants a line of each."""
    from dataclasses import replace

    from meshlib.policy.telemetry_settings import AccessLog, TelemetrySettings, WorkloadTelemetry
    from meshlib.telemetry.access_log.writer import flush_all

    path = tmp_path / "access.log"
    with meshlib.Mesh.from_resources([service("me")], registry=CollectorRegistry()) as m:
        middlewares = {
            "asgi": meshlib.MeshASGIMiddleware(asgi_app, m),
            "wsgi": meshlib.MeshWSGIMiddleware(wsgi_app, m),
        }

        async def asgi(times: int) -> None:
            transport = httpx.ASGITransport(middlewares["asgi"])  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://me") as client:
                for _ in range(times):
                    await client.get("/a")

        def go(times: int) -> None:
            if door is through_asgi:
                asyncio.run(asgi(times))
            else:
                with httpx.Client(transport=httpx.WSGITransport(middlewares["wsgi"]), base_url="http://me") as client:  # type: ignore[arg-type]
                    for _ in range(times):
                        client.get("/a")

        go(5)
        live = m._core.live
        assert live is not None
        log = AccessLog("file", path=str(path), text="%PATH%")
        told = WorkloadTelemetry(server=TelemetrySettings(access_logs=(log,)))
        m._core.install(replace(live.snapshot, telemetry=told))
        go(150)
        live = m._core.live
        assert live is not None
        m._core.install(replace(live.snapshot, telemetry=WorkloadTelemetry()))
        go(5)
    flush_all(30)
    assert path.read_text().splitlines() == ["/a"] * 150


def test_who_called_and_what_was_claimed(tmp_path: Path) -> None:
    from meshlib.testing import as_caller

    path = tmp_path / "access.log"
    form = (
        "%DOWNSTREAM_PEER_URI_SAN% %DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)% "
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
    )
    with mesh(path, form=form) as m:
        app = as_caller(
            meshlib.MeshASGIMiddleware(asgi_app, m),
            principal="spiffe://cluster.local/ns/default/sa/caller",
            claims={"iss": "i", "sub": "me"},
            source_ip="10.1.2.3",
        )

        async def go() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://me") as client:
                await client.get("/", headers={"x-forwarded-for": "1.1.1.1, 10.9.9.9"})

        asyncio.run(go())
    assert path.read_text() == "spiffe://cluster.local/ns/default/sa/caller me 10.9.9.9 10.1.2.3\n"


def test_how_long_the_application_took(tmp_path: Path, door: Any) -> None:
    path = tmp_path / "access.log"
    form = "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %RESPONSE_DURATION%"
    with mesh(path, form=form) as m:
        door(m, [("GET", "/a", b"")] * 3)
    for line in path.read_text().splitlines():
        assert line.split()[0].isdigit(), line
        assert line.split()[0] == line.split()[1]


def test_a_line_that_fails_is_counted_and_its_request_is_served(tmp_path: Path, door: Any) -> None:
    """Also of a request like those before it, whose short way is another."""

    def fails(*_: object) -> bool:
        raise RuntimeError("on purpose")

    path = tmp_path / "access.log"
    with mesh(path) as m:
        door(m, [("GET", "/a", b"")] * 3)
        telemetry = m._telemetry_of_servers()
        assert telemetry._logs is not None
        telemetry._logs.short = telemetry._logs.write = fails  # type: ignore[assignment, method-assign]
        telemetry._logs.doors = dict.fromkeys(telemetry._logs.doors, fails)
        door(m, [("GET", "/a", b"")] * 3)
        assert telemetry.failures == 3
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("writes", [True, False])
def test_a_request_whose_head_was_met_is_left_to_the_side_that_is_closer(monkeypatch, writes):
    monkeypatch.setattr(alike, "PLAIN", False)

    class Met:
        facts = staticmethod(lambda _wanted: MET)

    class Refused:
        facts = staticmethod(lambda _wanted: None)

    asked, put, met = [], [], Met()

    def closer(*call):
        asked.append(call)
        return writes

    made = text_alike(parse("%PATH%"), OTHERS, lambda line, _: put.append(line), lambda: 0.0, closer=closer)
    assert made.write(met, 1.0, None) is writes
    assert not made.write(Refused(), 1.0, None), "of which there is nothing short to say"
    assert (asked, put) == ([(met, 1.0, None)], [])


OF_THE_HOP = (
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_PROTOCOL% "
    "%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON% %BYTES_SENT% "
    "%REQ(:PATH)% %REQ(X-MINE)% %REQ(X-TWICE)% %REQ(USER-AGENT)% %DOWNSTREAM_REMOTE_ADDRESS%"
)


@pytest.mark.parametrize("way", ["short", "long"])
def test_a_line_of_a_request_that_was_passed_on_says_where_to_and_how_that_went(tmp_path, monkeypatch, way):
    if way == "long":
        monkeypatch.setattr("meshlib.telemetry.access_log.alike.PLAIN", True)
    entries = []
    monkeypatch.setattr(
        "meshlib.telemetry.access_log.served.MadeEntry", lambda *of: entries.append(of) or MadeEntry(*of)
    )
    path = tmp_path / "log"
    with EchoServer("app") as app:
        came_by = []
        app.behave = lambda handler: came_by.append(handler.client_address)
        options = {"access_log": path, "access_log_format": OF_THE_HOP}
        with InboundProxy(app.port, **options) as proxy, proxy.client() as client:
            for target in ("/a?token=x", "/a", "/b", "/a"):
                client.get(target, "GET", "me", "X-Mine: 1", "x-twice: a", "X-Twice: b", "User-Agent: caf\xe9")
            said = client.get("/a", "GET", "me", "x-forwarded-for: 192.0.2.7")
            here = client.sock.getsockname()
        port = app.port
    lines = path.read_text().splitlines()
    wanted = []
    for n, target in enumerate(("/a?token=***", "/a", "/b", "/a", "/a")):
        mine, remote = ("1 a,b caf\xe9", f"{here[0]}:{here[1]}") if n < 4 else ("- - -", "192.0.2.7:0")
        size, local = lines[n].split(" ")[9], "{}:{}".format(*came_by[n])
        wanted.append(
            f"200 - via_upstream 127.0.0.1:{port} inbound|{port}|| HTTP/1.1 {local} 1 - {size} {target} {mine} {remote}"
        )
    assert lines == wanted
    assert lines[4].split(" ")[9] == str(len(said.body))
    if not PLAIN:
        assert (len(entries) < 5) == (way == "short")
