"""CUSTOM: an authorizer is asked, over HTTP and gRPC, on threads and on asyncio; whatever is wrong with it, nobody comes in."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import meshlib
from meshlib.compiler.mesh_settings import BodyInCheck
from meshlib.engine.authorization_check import judge_routed
from meshlib.engine.inbound_request import InboundRequest
from tests.support.ads_server import message
from tests.support.authorizers import Asking, Below, custom, over_grpc, over_http, provider, resources
from tests.support.evil_server import EvilServer
from tests.support.identities import World

RUNTIMES = ["threads", "asyncio"]


@pytest.fixture(params=RUNTIMES)
def runtime(request: Any) -> str:
    return str(request.param)


def request(path: str = "/a", *headers: tuple[str, str], **more: Any) -> InboundRequest:
    return InboundRequest("GET", path, headers, authority="me:80", query="q=1", peer="10.0.0.1:4711", **more)


def check_response(**fields: Any) -> Any:
    from google.protobuf import json_format

    from tests.support.ads_server import pool

    made = message("envoy.service.auth.v3.CheckResponse")()
    return json_format.ParseDict(fields, made, descriptor_pool=pool())


class Body:
    """A body at hand, in every runtime."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def peek(self, limit: int) -> tuple[bytes, bool]:
        return self.body[:limit], len(self.body) < limit

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        return self.peek(limit)


# -- over HTTP --------------------------------------------------------------------------------------------------------


def test_200_lets_in_and_the_application_gets_its_headers(runtime: str) -> None:
    said = [("x-user", "alice"), ("set-cookie", "s=1"), ("x-envoy-auth-headers-to-remove", "x-secret"), ("x-more", "1")]
    made = provider(upstream_headers_on_allow=("x-user",), downstream_headers_on_allow=("set-cookie",))
    with (
        over_http(lambda asked: (200, said, b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asking = Asking(mesh, custom(made), runtime)
        asked = request("/a", ("x-user", "mallory"), ("x-secret", "s"), ("authorization", "Bearer t"))
        call = asking.serve(asked)
    assert (call.status, call.flags) == (200, "")
    assert (seen[0].method, seen[0].target, seen[0].body) == ("GET", "/a?q=1", b"")
    told = seen[0].headers
    assert (told["host"], told["authorization"], told["content-length"]) == ("me:80", "Bearer t", "0")
    assert "x-user" not in told
    assert asked.header("x-user") == "alice"
    assert asked.header("x-secret") is None
    assert asked.for_application is not None
    assert asked.for_application.applied([(b"X-Secret", b"s"), (b"X-User", b"mallory")]) == [(b"x-user", b"alice")]
    assert asked.response_headers([]) == [(b"set-cookie", b"s=1")]
    assert asking.known.of("opa").facts() == {
        "allowed": 1,
        "denied": 0,
        "failed": 0,
        "let_in": 0,
        "failing": False,
        "why": "",
    }


def test_what_is_denied_is_what_the_authorizer_says(runtime: str) -> None:
    with (
        over_http(lambda asked: (401, [("www-authenticate", "Bearer"), ("x-why", "?")], b"who?")) as (port, _),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        call = Asking(mesh, custom(provider(downstream_headers_on_deny=("x-other",))), runtime).serve(request())
    refusal = call.refusal
    assert refusal is not None
    assert (call.status, call.flags, refusal.detail) == (401, "UAEX", "ext_authz_denied")
    assert (refusal.content, refusal.headers) == (b"who?", ((b"www-authenticate", b"Bearer"),))


def test_requests_that_no_rule_matches_are_not_asked_about(runtime: str) -> None:
    with (
        over_http(lambda asked: (403, [], b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asking = Asking(mesh, custom(provider(), Below("/admin")), runtime)
        assert asking.serve(request("/a")).status == 200
        assert seen == []
        assert asking.serve(request("/admin/x")).status == 403
    assert len(seen) == 1


def test_every_spelling_of_the_path_that_somebody_acts_on_must_be_let_in() -> None:
    """The normalized one is what Envoy would send on; the other is what this application gets."""
    with (
        over_http(lambda asked: (403 if asked.target.startswith("/admin") else 200, [], b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asking = Asking(mesh, custom(provider()), "threads")
        assert asking.serve(request("/public/../admin")).status == 403
        assert asking.serve(request("/admin/../public")).status == 403
        assert asking.serve(request("/public")).status == 200
        assert asking.serve(request("/a%00b")).status == 400
    assert [asked.target for asked in seen] == ["/admin?q=1", "/public?q=1", "/admin/../public?q=1", "/public?q=1"]


def test_body_prefix_and_additional_headers_are_told(runtime: str) -> None:
    made = provider(
        body=BodyInCheck(5),
        path_prefix="/check",
        request_headers=("x-*",),
        additional_headers=(("x-key", "k"),),
    )
    with (
        over_http(lambda asked: (200, [], b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asked = request("/a", ("X-A", "1"), ("X-A", "2"), ("cookie", "c"))
        asked.method, asked.body_source = "POST", Body(b"hello")
        assert Asking(mesh, custom(made), runtime).serve(asked).status == 200
    assert (seen[0].method, seen[0].target, seen[0].body) == ("POST", "/check/a?q=1", b"hello")
    told = seen[0].headers
    assert (told["x-a"], told["x-key"], told["x-envoy-auth-partial-body"]) == ("1,2", "k", "false")
    assert "cookie" not in told


@pytest.mark.parametrize(
    ("shown", "sent", "status", "told"),
    [
        (BodyInCheck(5), b"hello", 200, (b"hello", "false")),
        (BodyInCheck(5), b"hello!", 413, None),
        (BodyInCheck(5, True), b"hello!", 200, (b"hello", "true")),
        (BodyInCheck(5, True), b"hi", 200, (b"hi", "false")),
        (BodyInCheck(5), b"", 200, (b"", None)),
    ],
)
def test_a_body_is_shown_up_to_its_limit(shown: Any, sent: bytes, status: int, told: Any) -> None:
    with (
        over_http(lambda asked: (200, [], b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asked = request()
        asked.body_source = Body(sent)
        call = Asking(mesh, custom(provider(body=shown, fail_open=True)), "threads").serve(asked)
    assert call.status == status
    if told is None:
        assert seen == []
        assert call.refusal is not None
        assert (call.refusal.text, call.refusal.detail) == ("Payload Too Large", "request_payload_too_large")
    else:
        assert (seen[0].body, seen[0].headers.get("x-envoy-auth-partial-body")) == told


def test_where_nobody_may_look_at_a_body_that_is_to_be_shown_nobody_comes_in() -> None:
    """Of gRPC the interceptors see no bytes: the authorizer must not take a body for empty."""
    with meshlib.Mesh.from_resources(resources(1)) as mesh:
        asking = Asking(mesh, custom(provider(body=BodyInCheck(5), fail_open=True)), "threads")
        call = asking.serve(request(protocol="grpc"))
    assert call.refusal is not None
    assert (call.refusal.status, call.refusal.detail) == (403, "ext_authz_error")


class AtRoute(Below):
    """Rules that look at the path that the router has matched, once that is known."""

    def first(self, request: Any) -> Any:
        return super().first(InboundRequest("GET", request.routed or request.path))


def test_a_request_that_is_to_be_asked_about_only_at_its_route_is_refused_there() -> None:
    with (
        over_http(lambda asked: (200, [], b"")) as (port, seen),
        meshlib.Mesh.from_resources(resources(port)) as mesh,
    ):
        asking = Asking(mesh, custom(provider(), AtRoute("/admin")), "threads")
        past = asking.serve(request("/x"))
        assert past.status == 200
        assert judge_routed(past, "/free") is None
        refusal = judge_routed(past, "/admin/x")
        assert refusal is not None
        assert (refusal.status, refusal.text, past.refusal) == (403, "RBAC: access denied", refusal)
        assert refusal.detail.endswith("-rule[0]-not-asked-before-the-route-was-known]")
        asked = asking.serve(request("/admin"))
        assert judge_routed(asked, "/admin/x") is None
    assert len(seen) == 1


# -- over gRPC --------------------------------------------------------------------------------------------------------


def test_an_authorizer_over_grpc_lets_in_and_changes_the_request(runtime: str) -> None:
    ok = check_response(
        ok_response={
            "headers": [
                {"header": {"key": "x-user", "value": "alice"}},
                {"header": {"key": "x-tag", "value": "b"}, "append": True},
                {"header": {"key": "x-absent", "value": "b"}, "append": True},
            ],
            "headers_to_remove": ["x-secret"],
            "response_headers_to_add": [{"header": {"key": "x-by", "value": "opa"}, "append": False}],
            "query_parameters_to_set": [{"key": "q", "value": "2"}],
        }
    )
    with (
        over_grpc(lambda asked: ok) as (port, seen),
        meshlib.Mesh.from_resources(resources(port, "GRPC")) as mesh,
    ):
        asked = request("/a", ("x-user", "mallory"), ("x-tag", "a"), ("x-tag", "c"), ("x-secret", "s"))
        asked.principal = "spiffe://td/x"
        call = Asking(mesh, custom(provider("grpc")), runtime).serve(asked)
    assert call.status == 200
    attributes = seen[0].attributes
    assert attributes.source.principal == "spiffe://td/x"
    assert attributes.request.http.path == "/a?q=1"
    assert attributes.request.http.headers["x-user"] == "mallory"
    assert asked.header("x-user") == "alice"
    assert asked.header_values("x-tag") == ["a,b", "c"]
    assert asked.header("x-absent") is None
    assert asked.header("x-secret") is None
    assert asked.full_path == "/a?q=2"
    assert asked.response_headers([(b"X-By", b"app")]) == [(b"x-by", b"opa")]


@pytest.mark.parametrize("secure", [True, False])
def test_an_authorizer_over_grpc_is_told_who_we_are_where_we_have_shown_it(secure: bool) -> None:
    world = World(of_a_mesh=True)
    world.rotate()
    with (
        over_grpc(lambda asked: check_response()) as (port, seen),
        meshlib.Mesh.from_resources(resources(port, "GRPC"), identity=world.identity) as mesh,
    ):
        asked = InboundRequest("GET", "/", authority="a", secure=secure)
        assert Asking(mesh, custom(provider("grpc")), "threads").serve(asked).status == 200
        own = mesh._core.identity.current().svid.identity.text
    assert own.startswith("spiffe://")
    assert seen[0].attributes.destination.principal == (own if secure else "")


def test_an_authorizer_over_grpc_denies(runtime: str) -> None:
    no = check_response(status={"code": 7}, denied_response={"status": {"code": 401}, "body": "who?"})
    with (
        over_grpc(lambda asked: no) as (port, _),
        meshlib.Mesh.from_resources(resources(port, "GRPC")) as mesh,
    ):
        call = Asking(mesh, custom(provider("grpc")), runtime).serve(request())
    assert call.refusal is not None
    assert (call.status, call.refusal.text, call.refusal.detail) == (401, "who?", "ext_authz_denied")


def _raises(_: Any) -> Any:
    raise RuntimeError("s3cr3t")


GRPC_FAULTS: dict[str, Callable[[Any], Any]] = {
    "raises": _raises,
    "garbage": lambda asked: b"\xff\xff",
    "huge": lambda asked: check_response(status={"code": 0, "message": "x" * 400_000}),
    "says both": lambda asked: check_response(status={"code": 0}, denied_response={"body": "no"}),
    "says it failed": lambda asked: check_response(status={"code": 13}, error_response={}),
}


@pytest.mark.parametrize("fault", GRPC_FAULTS)
def test_an_authorizer_over_grpc_that_is_no_use_lets_nobody_in(fault: str, runtime: str) -> None:
    with (
        over_grpc(GRPC_FAULTS[fault]) as (port, _),
        meshlib.Mesh.from_resources(resources(port, "GRPC")) as mesh,
    ):
        call = Asking(mesh, custom(provider("grpc")), runtime).serve(request())
        assert call.refusal is not None
        assert (call.status, call.flags, call.refusal.detail) == (403, "UAEX", "ext_authz_error")
        open_ = Asking(mesh, custom(provider("grpc", fail_open=True)), runtime)
        assert open_.serve(request()).status == 200
    facts = open_.known.of("opa").facts()
    assert (facts["failed"], facts["let_in"], facts["failing"]) == (1, 1, True)


# -- faults -----------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: "


def silent(sock: socket.socket) -> None:
    """Until somebody hangs up."""
    with contextlib.suppress(OSError):
        sock.recv(1)


HTTP_FAULTS: dict[str, list[Any]] = {
    "silent": [silent],
    "closes": ["close"],
    "resets": ["reset"],
    "500": [b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"],
    "no HTTP": [b"SSH-2.0-OpenSSH\r\n\r\n", "close"],
    "half a head": [b"HTTP/1.1 200 OK\r\nx-a: ", "close"],
    "cut body": [HEAD + b"10\r\n\r\nok", "close"],
    "body that never ends": [HEAD + b"10\r\n\r\nok", silent],
    "huge": [HEAD + b"300000\r\n\r\n" + b"x" * 300_000],
    "huge in pieces": [HEAD + b"300000\r\n\r\n", b"x" * 150_000, 0.01, b"x" * 150_000],
    "two lengths": [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 1\r\n\r\n", "close"],
    "huge head": [b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * 200_000 + b"\r\n\r\n", "close"],
}


@pytest.mark.parametrize(("fault", "runtime"), list(itertools.product(HTTP_FAULTS, RUNTIMES)))
def test_an_authorizer_that_is_no_use_lets_nobody_in_unless_fail_open_is_written(fault: str, runtime: str) -> None:
    made = provider(timeout=0.05)
    with EvilServer(HTTP_FAULTS[fault]) as server, meshlib.Mesh.from_resources(resources(server.port)) as mesh:
        asking = Asking(mesh, custom(made), runtime)
        call = asking.serve(request())
        assert call.refusal is not None
        assert (call.status, call.flags, call.refusal.detail, call.refusal.content) == (
            403,
            "UAEX",
            "ext_authz_error",
            b"",
        )
        assert asking.known.of("opa").facts()["failing"]
        assert Asking(mesh, custom(replace(made, status_on_error=503)), runtime).serve(request()).status == 503
        assert Asking(mesh, custom(replace(made, fail_open=True)), runtime).serve(request()).status == 200


def test_a_dead_authorizer_lets_nobody_in_and_is_reported_once_until_it_decides_again(runtime: str) -> None:
    told: list[tuple[str, str]] = []
    with over_http(lambda asked: (200, [], b"")) as (port, _):
        pass
    with meshlib.Mesh.from_resources(resources(port)) as mesh:
        asking = Asking(mesh, custom(provider()), runtime)
        asking.known.report = lambda name, why: told.append((name, why))
        for _ in range(3):
            assert asking.serve(request()).status == 403
        assert len(told) == 1
        assert told[0][0] == "opa"
        assert "connect_failed" in told[0][1]
        with over_http(lambda asked: (200, [], b"")) as (port, _):
            mesh.apply(resources(port))
            assert asking.serve(request()).status == 200
    assert told[1:] == [("opa", "")]


def test_an_authorizer_that_lies_about_headers_lets_nobody_in_whatever_fail_open_says() -> None:
    lies = check_response(ok_response={"headers": [{"header": {"key": "x", "value": "1\r\nx-role: admin"}}]})
    with (
        over_grpc(lambda asked: lies) as (port, _),
        meshlib.Mesh.from_resources(resources(port, "GRPC")) as mesh,
    ):
        call = Asking(mesh, custom(provider("grpc", fail_open=True)), "threads").serve(request())
    assert call.refusal is not None
    assert (call.status, call.refusal.detail) == (500, "ext_authz_invalid")


def test_a_cluster_that_a_reload_has_taken_away_is_an_error(runtime: str) -> None:
    with meshlib.Mesh.from_resources([]) as mesh:
        call = Asking(mesh, custom(provider()), runtime).serve(request())
    assert call.refusal is not None
    assert (call.status, call.refusal.detail) == (403, "ext_authz_error")


def test_the_request_s_deadline_bounds_the_question() -> None:
    with EvilServer([silent]) as server, meshlib.Mesh.from_resources(resources(server.port)) as mesh:
        asking = Asking(mesh, custom(provider()), "threads")
        call = asking.serve(request(), mesh._core.clock.monotonic() + 0.1)
    assert call.refusal is not None


def test_a_provider_that_cannot_be_asked_refuses_what_its_rules_match() -> None:
    broken = replace(custom(provider(), Below("/admin")), authorizer=None, route=None, problem="no such provider")
    with meshlib.Mesh.from_resources([]) as mesh:
        asking = Asking(mesh, broken, "threads")
        assert asking.serve(request("/a")).status == 200
        call = asking.serve(request("/admin"))
    assert call.refusal is not None
    assert (call.status, call.refusal.text, call.flags) == (403, "RBAC: access denied", "")
    assert call.refusal.detail == (
        "rbac_access_denied_matched_policy[istio-ext-authz-opa-ns[default]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action]"
    )
