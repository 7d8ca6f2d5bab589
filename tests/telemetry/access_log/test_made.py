"""Lines of calls that are made: what a sidecar beside the program would have logged."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from tests.support.evil_server import OK, EvilServer
from tests.support.more_time import with_more_time
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer

WHERE = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_HOST% %ROUTE_NAME%"

NO_RETRIES = {"retries": {"attempts": 0}}


def mesh(port: int, path: Path, form: Any = WHERE, **rule: Any) -> meshlib.Mesh:
    resources = [
        service("reviews"),
        *([pod("reviews", "v1", port)] if port else []),
        destination_rule("reviews", "v1"),
        virtual_service("reviews", {"name": "the-rule", "route": [to("reviews", "v1")], **rule}),
    ]
    return meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), access_log=path, access_log_format=form)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_response(path: Path) -> None:
    form = (
        '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
        "%RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %REQ(USER-AGENT)% %REQ(:AUTHORITY)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
        "%UPSTREAM_CLUSTER% %ROUTE_NAME% %UPSTREAM_PROTOCOL% %DOWNSTREAM_REMOTE_ADDRESS% %RESP(CONTENT-LENGTH)%"
    )
    with EchoServer("v1") as server, mesh(server.port, path, form) as m, m.client() as client:
        response = client.post("http://reviews:9080/a?b=c", content=b"12345", headers={"user-agent": "me/1"})
    (line,) = lines(path)
    head, _, rest = line.partition(" reviews:9080 ")
    assert head == '"POST /a?b=c HTTP/1.1" 200 - via_upstream 5 me/1'
    took, rest = rest.split(" ", 1)
    assert took.isdigit()
    assert rest == (
        f"outbound|9080|v1|reviews.default.svc.cluster.local the-rule HTTP/1.1 - {response.headers['content-length']}"
    )


def test_bytes_of_the_body_are_those_that_were_read(path: Path) -> None:
    with (
        EchoServer("v1") as server,
        mesh(server.port, path, "%BYTES_RECEIVED% %BYTES_SENT%") as m,
        m.client() as client,
    ):
        size = len(client.get("http://reviews:9080/").content)
        other = len(client.post("http://reviews:9080/", content=iter([b"123", b"45"])).content)
    assert lines(path) == [f"0 {size}", f"5 {other}"]


def test_addresses_of_the_connection(path: Path) -> None:
    form = "%UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%"
    with EchoServer("v1") as server, mesh(server.port, path, form) as m:
        with m.client() as client:
            local = client.get("http://reviews:9080/").extensions["network_stream"].get_extra_info("client_addr")[1]

        async def asked() -> int:
            async with m.async_client() as client:
                response = await client.get("http://reviews:9080/")
                found: int = response.extensions["network_stream"].get_extra_info("client_addr")[1]
                return found

        other = asyncio.run(asked())
        port = server.port
    assert lines(path) == [f"127.0.0.1:{port} 127.0.0.1 {n}" for n in (local, other)]


def test_a_refused_connection(path: Path) -> None:
    port = free_port()
    with mesh(port, path) as m, m.client() as client, pytest.raises(httpx.ConnectError):
        client.get("http://reviews:9080/")
    (line,) = lines(path)
    assert line.startswith("503 UF,URX upstream_reset_before_response_started{remote_connection_failure|")
    assert line.endswith(f"}} 3 127.0.0.1:{port} the-rule")


@pytest.mark.parametrize(
    ("plan", "rule", "expected"),
    [
        (["close"], NO_RETRIES, "503 UC upstream_reset_before_response_started{connection_termination} 1"),
        ([b"garbage\r\n\r\n"], NO_RETRIES, "502 UPE upstream_reset_before_response_started{protocol_error} 1"),
        ([OK], {}, "200 - via_upstream 1"),
    ],
)  # fmt: skip
def test_what_upstream_does(path: Path, plan: list[Any], rule: dict[str, Any], expected: str) -> None:
    with EvilServer(plan) as server, mesh(server.port, path, **rule) as m, m.client(local_replies="respond") as client:
        client.get("http://reviews:9080/")
        port = server.port
    assert lines(path) == [f"{expected} 127.0.0.1:{port} the-rule"]


def test_an_upstream_that_takes_longer_than_the_rule_allows(path: Path) -> None:
    def asks(seconds: float) -> None:
        path.write_text("")
        rule = {"timeout": f"{seconds}s", **NO_RETRIES}
        with EvilServer([60.0, OK]) as server, mesh(server.port, path, **rule) as m:
            with m.client(local_replies="respond") as client:
                client.get("http://reviews:9080/")
            port = server.port
        assert lines(path) == [f"504 UT response_timeout 1 127.0.0.1:{port} the-rule"]

    with_more_time(asks, 0.05, 1.0, 10.0)  # to connect as well


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}}, "418 FI fault_filter_abort 0 - the-rule"),
        ({"route": [to("reviews", "v9")]}, "503 NC cluster_not_found 0 - the-rule"),
        ({"match": [{"uri": {"prefix": "/else"}}]}, "404 NR route_not_found 0 - -"),
        ({"directResponse": {"status": 299}, "route": None}, "299 - direct_response 0 - the-rule"),
        ({}, "503 UH no_healthy_upstream 0 - the-rule"),
    ],
)  # fmt: skip
def test_what_is_responded_here(path: Path, rule: dict[str, Any], expected: str) -> None:
    with mesh(0, path, **rule) as m, m.client(local_replies="respond") as client:
        client.get("http://reviews:9080/")
    assert lines(path) == [expected]


def test_a_request_is_shown_as_it_was_sent(path: Path) -> None:
    form = "%REQ(:PATH)% %REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(:AUTHORITY)% %REQ(X-SET)% %RESP(X-BACK)%"
    rule = {
        "rewrite": {"uri": "/new", "authority": "other"},
        "match": [{"uri": {"prefix": "/old"}}],
        "headers": {"request": {"set": {"x-set": "by the rule"}}, "response": {"set": {"x-back": "too"}}},
    }
    with EchoServer("v1") as server, mesh(server.port, path, form, **rule) as m, m.client() as client:
        client.get("http://reviews:9080/old/a", headers={"x-set": "by the caller"})
    assert lines(path) == ["/new/a /old/a other by the rule too"]


def test_a_body_that_is_read_piece_by_piece_is_logged_at_its_end(path: Path) -> None:
    go_on = threading.Event()

    def wait(_sock: object) -> None:
        go_on.wait(30)

    plan: list[Any] = [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", wait, b"67890"]
    with EvilServer(plan) as server, mesh(server.port, path) as m, m.client() as client:
        with client.stream("GET", "http://reviews:9080/") as response:
            before = m._core.telemetry.flush_logs(30) and path.exists()
            go_on.set()
            response.read()
        go_on.clear()
        with client.stream("GET", "http://reviews:9080/"):
            pass  # dropped unread
        go_on.set()
        port = server.port
    assert not before
    where = f"1 127.0.0.1:{port} the-rule"
    assert lines(path) == [f"200 - via_upstream {where}", f"200 DC downstream_remote_disconnect {where}"]


def test_a_caller_that_gives_up_is_logged(path: Path) -> None:
    arrived, released = threading.Event(), threading.Event()

    def wait(_sock: object) -> None:
        arrived.set()
        released.wait(30)

    async def go(m: meshlib.Mesh) -> None:
        async with m.async_client() as client:
            task = asyncio.create_task(client.get("http://reviews:9080/"))
            await asyncio.to_thread(arrived.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        released.set()

    with EvilServer([wait]) as server, mesh(server.port, path) as m:
        asyncio.run(go(m))
        port = server.port
    assert lines(path) == [f"0 DC downstream_remote_disconnect 1 127.0.0.1:{port} the-rule"]
