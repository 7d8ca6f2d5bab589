"""Redirects, direct responses, rewrites and header operations, as Envoy does them."""

from __future__ import annotations

import httpx
import pytest

import meshlib
from tests.support.resources import pod, service, to, virtual_service


def call(rule: dict, url: str = "http://reviews:9080/", answer: httpx.Response | None = None, **headers: str):
    """(the request that the upstream got or None, the response)."""
    seen = []

    def upstream(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer or httpx.Response(200, headers={"x-up": "1"})

    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", rule)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        assert [p for p in mesh.problems if p.code == "no-effect"] == []
        with mesh.client(transport=httpx.MockTransport(upstream)) as client:
            response = client.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return (seen[0] if seen else None), response


ABORT = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}


def path(request: httpx.Request) -> str:
    return request.url.raw_path.decode()


@pytest.mark.parametrize(
    ("match", "rewrite", "sent", "got"),
    [
        ({"uri": {"prefix": "/a"}}, {"uri": "/"}, "/a/b?c=1", "//b?c=1"),
        ({"uri": {"prefix": "/a"}}, {"uri": "/"}, "/a", "/"),
        ({"uri": {"prefix": "/a"}}, {"uri": "/b"}, "/ax", "/bx"),
        (None, {"uri": "/bar"}, "/foo", "/barfoo"),
        ({"uri": {"exact": "/x"}}, {"uri": "/y"}, "/x?q=1", "/y?q=1"),
        ({"uri": {"regex": "/x.*"}}, {"uri": "/y"}, "/xyz", "/y"),
        (
            {"uri": {"regex": "/old/(.*)"}},
            {"uriRegexRewrite": {"match": "^/old/(.*)", "rewrite": "/new/\\1"}},
            "/old/x?q",
            "/new/x?q",
        ),
        ({"headers": {"a": {}}}, {"uri": "/h"}, "/x", "/h/x".replace("/h/x", "/hx")),
    ],
)
def test_rewriting_the_uri(match, rewrite, sent, got):
    rule = {"route": [to("reviews")], "rewrite": rewrite, **({"match": [match]} if match else {})}
    request, _ = call(rule, f"http://reviews:9080{sent}", a="1")
    assert path(request) == got
    assert request.headers["x-envoy-original-path"] == sent


def test_rewriting_the_authority_beats_every_header_operation():
    rule = {
        "route": [{**to("reviews"), "headers": {"request": {"set": {"Host": "c"}}}}],
        "headers": {"request": {"set": {"Host": "b"}}},
    }
    assert call(rule)[0].headers["host"] == "b"
    rule.pop("headers")
    assert call({**rule, "rewrite": {"authority": "a"}})[0].headers["host"] == "a"
    assert call(rule)[0].headers.get_list("host") == ["c"]


@pytest.mark.parametrize(
    ("redirect", "url", "location"),
    [
        ({"uri": "/n"}, "http://reviews:9080/o?z=1", "http://reviews:9080/n?z=1"),
        ({"uri": "/n?own=1"}, "http://reviews:9080/o?z=1", "http://reviews:9080/n?own=1"),
        ({"uri": "n"}, "http://reviews:9080/o", "http://reviews:9080/n"),
        ({"authority": "other"}, "http://reviews:9080/o?z=1", "http://other/o?z=1"),
        # Istio takes a default port out, and Envoy then keeps the request's own
        ({"scheme": "https", "port": 443}, "http://reviews:9080/p", "https://reviews:9080/p"),
        ({"scheme": "https", "port": 443}, "http://reviews:80/p", "https://reviews/p"),
        ({"scheme": "https"}, "http://reviews/p", "https://reviews/p"),
        ({"port": 8443}, "http://reviews:9080/p", "http://reviews:8443/p"),
        ({"authority": "a", "derivePort": "FROM_REQUEST_PORT"}, "http://reviews:9080/p", "http://a:9080/p"),
        ({"authority": "a", "derivePort": "FROM_PROTOCOL_DEFAULT"}, "http://reviews:9080/p", "http://a/p"),
    ],
)
def test_redirects(redirect, url, location):
    request, response = call({"redirect": redirect}, url)
    assert request is None
    assert (response.status_code, response.headers["location"]) == (301, location)


def test_the_redirect_code_is_the_resources():
    assert call({"redirect": {"uri": "/x", "redirectCode": 308}})[1].status_code == 308


def test_a_redirect_of_a_prefix_swaps_just_that():
    rule = {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"prefixRewrite": "/new"}}
    assert call(rule, "http://reviews:9080/old/x")[1].headers["location"] == "http://reviews:9080/new/x"


def test_a_direct_response_is_answered_here_with_the_rules_response_headers():
    rule = {
        "directResponse": {"status": 418, "body": {"string": "short and stout"}},
        "headers": {"response": {"set": {"x-a": "1"}}},
    }
    request, response = call(rule)
    assert request is None
    assert (response.status_code, response.text, response.headers["x-a"]) == (418, "short and stout", "1")


HELLO = {"directResponse": {"status": 200, "body": {"string": "hello"}}}
FRAMED = {"set": {"Content-Length": "2", "transfer-encoding": "chunked"}, "add": {"content-length": "7"}}


@pytest.mark.parametrize(
    ("rule", "operations", "body", "length", "types"),
    [
        (HELLO, FRAMED, "hello", "5", ["text/plain"]),
        (HELLO, {"remove": ["content-length", "content-type"]}, "hello", "5", ["text/plain"]),
        (HELLO, {"add": {"Content-Type": "a/b"}}, "hello", "5", ["a/b"]),
        (HELLO, {"set": {"content-type": "a/b"}}, "hello", "5", ["a/b"]),
        ({"directResponse": {"status": 200}}, {**FRAMED, "add": {"content-type": "a/b"}}, "", "0", []),
        ({"redirect": {"uri": "/x"}}, {**FRAMED, "add": {"content-type": "a/b"}}, "", "0", []),
        ({"route": [to("reviews")], "fault": ABORT}, FRAMED, "fault filter abort", "18", ["text/plain"]),
        ({"route": [to("nobody")]}, FRAMED, "", "0", []),
    ],
)
def test_of_its_body_a_response_that_is_made_here_says_what_is_so(rule, operations, body, length, types):
    """Whatever the rule's operations say: as Envoy, which sets the length behind them, and the type where they name none."""
    _, response = call({**rule, "headers": {"response": operations}})
    assert (response.text, response.headers.get_list("content-length")) == (body, [length])
    assert (response.headers.get_list("content-type"), "transfer-encoding" in response.headers) == (types, False)


def test_a_direct_response_of_bytes():
    assert call({"directResponse": {"status": 200, "body": {"bytes": "aGk="}}})[1].content == b"hi"


def ops(request: dict | None = None, response: dict | None = None) -> dict:
    return {k: v for k, v in (("request", request), ("response", response)) if v}


def test_within_a_level_remove_comes_before_set_and_add():
    rule = {
        "route": [to("reviews")],
        "headers": ops({"remove": ["x"], "set": {"y": "2"}, "add": {"x": "new", "z": "3"}}),
    }
    request, _ = call(rule, x="old", y="1", z="1")
    assert request.headers.get_list("x") == ["new"]
    assert request.headers.get_list("y") == ["2"]
    assert request.headers.get_list("z") == ["1", "3"]


def test_a_sole_destinations_set_overrides_the_rules_and_both_adds_count():
    target = {**to("reviews"), "headers": ops({"set": {"a": "target"}, "add": {"b": "target"}})}
    rule = {"route": [target], "headers": ops({"set": {"a": "rule"}, "add": {"b": "rule"}})}
    request, _ = call(rule)
    assert request.headers.get_list("a") == ["target"]
    assert request.headers.get_list("b") == ["rule", "target"]


def test_with_several_destinations_the_rule_comes_after_and_wins():
    target = {**to("reviews", weight=1), "headers": ops({"set": {"a": "target"}, "add": {"b": "target"}})}
    rule = {"route": [target, {**target}], "headers": ops({"set": {"a": "rule"}, "remove": ["b"]})}
    request, _ = call(rule)
    assert request.headers.get_list("a") == ["rule"]
    assert "b" not in request.headers


def test_response_headers_are_changed_on_answers_of_the_upstream():
    rule = {"route": [to("reviews")], "headers": ops(response={"remove": ["x-up"], "set": {"x-new": "%REQ(x-in)%"}})}
    _, response = call(rule, x_in="hello")
    assert "x-up" not in response.headers
    assert response.headers["x-new"] == "hello"


def test_response_headers_are_changed_on_injected_faults_too():
    rule = {
        "route": [to("reviews")],
        "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}},
        "headers": ops(response={"set": {"x-a": "1"}}),
    }
    assert call(rule)[1].headers["x-a"] == "1"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("plain", "plain"),
        ("100%%", "100%"),
        ("%REQ(X-In)%", "in"),
        ("%REQ(x-none)%", None),
        ("<%REQ(x-none)%>", "<>"),
        ("%REQ(x-none?x-in)%", "in"),
        ("%PROTOCOL%", "HTTP/1.1"),
        ("%REQ(:path)%", "/p?q=1"),
        ("%REQ(:authority)%", "reviews:9080"),
    ],
)
def test_values_may_hold_command_operators(value, sent):
    rule = {"route": [to("reviews")], "headers": ops({"set": {"x-out": value}})}
    assert call(rule, "http://reviews:9080/p?q=1", x_in="in")[0].headers.get("x-out") == sent


def test_an_operator_that_only_a_proxy_has_is_left_out_with_a_warning():
    rule = {"route": [to("reviews")], "headers": ops({"set": {"x-ip": "%DOWNSTREAM_REMOTE_ADDRESS%", "x-ok": "1"}})}
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", rule)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        (problem,) = mesh.problems
        assert (problem.code, problem.severity.value) == ("unknown-operator", "warning")
    request, _ = call(rule)
    assert "x-ip" not in request.headers
    assert request.headers["x-ok"] == "1"


def test_explain_tells_of_them_all():
    rule = {
        "route": [to("reviews")],
        "rewrite": {"uri": "/b"},
        "headers": ops({"set": {"x-a": "1"}}, {"remove": ["x-b"]}),
    }
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", rule)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        text = str(mesh.explain(url="http://reviews:9080/"))
    assert "rewrite: uri /b" in text
    assert "request headers: set x-a" in text
    assert "response headers: remove x-b" in text


def test_header_operations_of_old_files_count():
    rule = {
        "route": [{**to("reviews"), "appendRequestHeaders": {"x-d": "1"}, "removeRequestHeaders": ["x-b"]}],
        "appendHeaders": {"x-c": "1"},
        "appendResponseHeaders": {"x-back": "1"},
        "removeResponseHeaders": ["x-up"],
    }
    request, response = call(rule, x_b="gone")
    assert (request.headers["x-c"], request.headers["x-d"], "x-b" in request.headers) == ("1", "1", False)
    assert (response.headers["x-back"], "x-up" in response.headers) == ("1", False)


def test_a_prefix_rewrite_of_a_redirect_replaces_what_matched():
    rule = {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"prefixRewrite": "/new"}}
    _, response = call(rule, "http://reviews:9080/old/x?q=1")
    assert response.headers["location"] == "http://reviews:9080/new/x?q=1"


def test_a_direct_response_may_be_bytes():
    _, response = call({"directResponse": {"status": 200, "body": {"bytes": "AAEC"}}})
    assert response.content == b"\x00\x01\x02"
