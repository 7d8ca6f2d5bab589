"""A WSGI application behind the mesh: who may come in, and what of a request is changed or refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

import meshlib
from meshlib.engine.effects import Peek
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.wsgi import Answered, Sock, Watched, environ, watched

TEXT = [("Content-Type", "text/plain")]
DENIED = Refusal(403, "RBAC: access denied", detail="rbac_access_denied_matched_policy[none]")


@pytest.fixture
def served() -> Iterator[Watched]:
    with watched() as made:
        yield made


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"hello"]


def serve(app: Any, target: str = "/", method: str = "GET", **more: Any) -> Answered:
    return Answered().serve(app, environ(target, method, **more))


def test_whoever_is_refused_gets_the_refusal_with_its_headers_and_the_application_nothing(served: Watched) -> None:
    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise AssertionError("a denied request has reached the application")

    refusal = Refusal(
        401, b"\xffJwt is missing", headers=((b"www-authenticate", b'Bearer realm="x"'),), detail="secret"
    )
    answered = serve(served.around(app, lambda _request: refusal))
    assert answered.status == "401 Unauthorized"
    assert answered.headers == [
        ("www-authenticate", 'Bearer realm="x"'),
        ("content-type", "text/plain"),
        ("content-length", "15"),
    ]
    assert answered.body == [b"\xffJwt is missing"]
    head = serve(served.around(app, lambda _request: refusal), method="HEAD")
    assert (head.headers, head.body) == (answered.headers, [])
    assert served.results == [(401, ""), (401, "")]
    assert [call.response_bytes for call in served.calls] == [15, 0]


def test_a_mesh_that_is_closed_lets_nothing_in() -> None:
    made = Watched()
    app = made.around(hello)
    made.mesh.close()
    assert serve(app).status == "503 Service Unavailable"


def test_a_check_that_raises_lets_nothing_in(served: Watched) -> None:
    def check(_request: InboundRequest) -> Refusal | None:
        raise KeyError("a secret of the check")

    answered = serve(served.around(hello, check))
    assert answered.status == "500 Internal Server Error"
    assert b"secret" not in b"".join(answered.body)


def test_faults_of_envoy_filters_act_on_http() -> None:
    patch = fault_patch(abort={"http_status": 418, "percentage": {"numerator": 100}})
    delay = fault_patch(delay={"fixed_delay": "2s", "percentage": {"numerator": 100}})
    with watched(envoy_filter("a", delay), envoy_filter("b", patch)) as served:
        answered = serve(served.around(hello))
        assert (answered.status, answered.body) == ("418 I'm a Teapot", [b"fault filter abort"])
        assert served.clock.slept == [2.0]
        assert served.results == [(418, "DI,FI")]


def test_checks_change_what_the_application_sees_and_what_the_caller_gets(served: Watched) -> None:
    seen: dict[str, Any] = {}

    def check(request: InboundRequest) -> None:
        request.change().put("x-user", b"ann")
        request.change().remove.add("authorization")
        request.for_caller.append((b"x-limit", b"1"))

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", TEXT)
        return []

    answered = serve(served.around(app, check), HTTP_AUTHORIZATION="Bearer x", HTTP_X_USER="eve")
    assert seen["HTTP_X_USER"] == "ann"
    assert "HTTP_AUTHORIZATION" not in seen
    assert answered.headers == [*TEXT, ("x-limit", "1")]
    assert TEXT == [("Content-Type", "text/plain")]  # the application's own list is not ours to change
    # a proxy that sends the request on has what came
    request = served.calls[0].request
    assert request.header("authorization") == "Bearer x"


@pytest.mark.parametrize(
    ("target", "host", "protocol", "detail"),
    [
        ("/a#b", "shop", "HTTP/1.1", "path_has_fragment"),
        ("http://other/a", "shop", "HTTP/1.1", "target_and_host_differ"),
        ("/a", "shop,other", "HTTP/1.1", "invalid_host_header"),
        ("/a", "eve@shop", "HTTP/1.1", "invalid_host_header"),
        ("/a", None, "HTTP/1.1", "missing_host_header"),
        ("shop:80", "shop", "HTTP/1.1", "target_is_not_a_path"),
        ("/a b", "shop", "HTTP/1.1", "target_has_invalid_characters"),
        ("/a#b", None, "HTTP/1.0", "path_has_fragment"),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_400_and_no_check_is_asked(
    served: Watched, target: str, host: str | None, protocol: str, detail: str
) -> None:
    def check(_request: InboundRequest) -> None:
        raise AssertionError("asked")

    answered = serve(served.around(hello, check), target, HTTP_HOST=host, SERVER_PROTOCOL=protocol)
    assert (answered.status, answered.body) == ("400 Bad Request", [b"Bad Request"])
    assert served.results == [(400, "DPE")]
    assert served.calls[0].refusal is not None
    assert served.calls[0].refusal.detail == detail


def test_a_body_of_two_lengths_is_400(served: Watched) -> None:
    answered = serve(served.around(hello), method="POST", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="3")
    assert answered.status == "400 Bad Request"
    assert serve(served.around(hello), method="POST", HTTP_TRANSFER_ENCODING="chunked").status == "200 OK"


def test_a_check_may_look_at_the_body_and_the_application_reads_all_of_it(served: Watched) -> None:
    seen: list[tuple[bytes, bool]] = []

    def check(request: InboundRequest) -> Iterator[Any]:
        assert request.body_source is not None
        peek = Peek(request.body_source, 2)
        yield peek
        seen.append((peek.head, peek.ended))
        return None

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read(3)]

    body = {"wsgi.input": io.BytesIO(b"abcNEXT")}
    assert serve(served.around(app, check), method="POST", CONTENT_LENGTH="3", **body).body == [b"abc"]
    assert seen == [(b"ab", False)]


def test_the_port_is_the_one_that_is_said_and_must_be_one(served: Watched) -> None:
    serve(served.around(hello, port=9090))
    serve(served.around(hello))
    assert [call.request.port for call in served.calls] == [9090, 8000]
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="1 to 65535"):
            MeshWSGIMiddleware(hello, served.mesh, port=port)


def test_it_is_meshlibs_own_name() -> None:
    assert meshlib.MeshWSGIMiddleware is MeshWSGIMiddleware


def test_a_peer_without_a_valid_identity_has_no_name_in_the_metrics(served: Watched) -> None:
    serve(served.around(hello), **{"gunicorn.socket": Sock(b"\x30garbage")})
    request = served.calls[0].request
    assert (request.principal, request.mutual, request.secure) == ("", True, True)


def test_what_is_not_a_mesh_is_refused_when_the_application_is_made_not_when_it_is_called():
    with pytest.raises(
        TypeError, match=r"MeshWSGIMiddleware\(app, mesh\) needs a meshlib.Mesh as its second argument, not str"
    ):
        meshlib.MeshWSGIMiddleware(lambda *args: None, "mesh/")
