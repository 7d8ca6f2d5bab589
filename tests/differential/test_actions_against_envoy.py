"""Rewrites, redirects and header operations: the upstream and the caller see through meshlib what they see through Envoy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import meshlib
from tests.differential.envoy_process import cluster, envoy, require_envoy
from tests.support.mesh_config import mesh_config
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.differential

# name: (request target, Istio's rule without its destinations, Envoy's route without its match, match of both)
PREFIX = ({"uri": {"prefix": "/a"}}, {"prefix": "/a"})
ANY = (None, {"prefix": "/"})
ACTIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any]] = {
    "prefix rewritten": ("/a/b?c=1", {"rewrite": {"uri": "/z"}}, {"route": {"prefix_rewrite": "/z"}}, PREFIX),
    "prefix rewritten to /": ("/a/b", {"rewrite": {"uri": "/"}}, {"route": {"prefix_rewrite": "/"}}, PREFIX),
    "prefix of a longer word": ("/ab", {"rewrite": {"uri": "/z"}}, {"route": {"prefix_rewrite": "/z"}}, PREFIX),
    "regex rewritten": (
        "/a/1/2?q",
        {"rewrite": {"uriRegexRewrite": {"match": "/([0-9])", "rewrite": "/<\\1>"}}},
        {"route": {"regex_rewrite": {"pattern": {"regex": "/([0-9])"}, "substitution": "/<\\1>"}}},
        PREFIX,
    ),
    "authority rewritten": (
        "/x",
        {"rewrite": {"authority": "other.test"}},
        {"route": {"host_rewrite_literal": "other.test"}},
        ANY,
    ),
    "headers set, added, removed": (
        "/x",
        {"headers": {"request": {"set": {"x-set": "new"}, "add": {"x-add": "2"}, "remove": ["x-gone"]}}},
        {
            "request_headers_to_add": [
                {"header": {"key": "x-set", "value": "new"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                {"header": {"key": "x-add", "value": "2"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
            ],
            "request_headers_to_remove": ["x-gone"],
        },
        ANY,
    ),
    "a header computed from another": (
        "/x?y=1",
        {"headers": {"request": {"set": {"x-copy": "%REQ(x-gone)%|%REQ(:path)%|%REQ(x-none)%|100%%"}}}},
        {
            "request_headers_to_add": [
                {
                    "header": {"key": "x-copy", "value": "%REQ(x-gone)%|%REQ(:path)%|%REQ(x-none)%|100%%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ]
        },
        ANY,
    ),
    "response headers": (
        "/x",
        {"headers": {"response": {"set": {"x-back": "1"}, "remove": ["server-said"]}}},
        {
            "response_headers_to_add": [
                {"header": {"key": "x-back", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "response_headers_to_remove": ["server-said"],
        },
        ANY,
    ),
    "redirect of the path": ("/a?q=1", {"redirect": {"uri": "/n"}}, {"redirect": {"path_redirect": "/n"}}, ANY),
    "redirect of the path with a query": (
        "/a?q=1",
        {"redirect": {"uri": "/n?own"}},
        {"redirect": {"path_redirect": "/n?own"}},
        ANY,
    ),
    "redirect of the host": ("/a?q=1", {"redirect": {"authority": "h"}}, {"redirect": {"host_redirect": "h"}}, ANY),
    "redirect of scheme and port": (
        "/a",
        # not 443: Istio drops a scheme's default port before Envoy sees it
        {"redirect": {"scheme": "https", "port": 8443}},
        {"redirect": {"scheme_redirect": "https", "port_redirect": 8443}},
        ANY,
    ),
    "redirect of the scheme": (
        "/a",
        {"redirect": {"scheme": "https"}},
        {"redirect": {"scheme_redirect": "https"}},
        ANY,
    ),
    "redirect of the port": ("/a", {"redirect": {"port": 81}}, {"redirect": {"port_redirect": 81}}, ANY),
    "redirect with 308": (
        "/a",
        {"redirect": {"uri": "/n", "redirectCode": 308}},
        {"redirect": {"path_redirect": "/n", "response_code": "PERMANENT_REDIRECT"}},
        ANY,
    ),
    "redirect of a prefix": (
        "/a/b?c",
        {"redirect": {"prefixRewrite": "/n"}},
        {"redirect": {"prefix_rewrite": "/n"}},
        PREFIX,
    ),
    "direct response": (
        "/a",
        {"directResponse": {"status": 418, "body": {"string": "tea"}}},
        {"direct_response": {"status": 418, "body": {"inline_string": "tea"}}},
        ANY,
    ),
}
SENT = {"host": "reviews:9080", "x-set": "old", "x-add": "1", "x-gone": "gone"}
OURS = ("x-", "host")


def upstream_saw(server: EchoServer) -> Any:
    if not server.seen:
        return None
    seen = server.seen.pop()
    own = ("x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-request-id", "x-forwarded-proto")
    headers = {k: v for k, v in seen["headers"].items() if k.startswith(OURS) and k not in own}
    return seen["method"], seen["path"], headers


def caller_saw(response: httpx.Response) -> Any:
    headers = {
        k: v
        for k, v in response.headers.items()
        if k in ("location", "x-back", "server-said", "content-type", "content-length")
    }
    if "location" not in headers and response.status_code == 200:
        headers.pop("content-length", None)  # the echo is longer by the headers that a proxy adds
    return response.status_code, headers


def test_seventeen_actions():
    require_envoy()

    def behave(handler: Any) -> bool:
        handler.answer(200, b"{}", server_said="hello")
        return True

    ours, theirs = {}, {}
    with EchoServer(behave=behave) as server:
        routes = []
        for number, (_, _, action, match) in enumerate(ACTIONS.values()):
            route = {**action}
            if "redirect" not in route and "direct_response" not in route:
                route["route"] = {**route.get("route", {}), "cluster": "c", "timeout": "0s"}
            pick = {"headers": [{"name": "case", "string_match": {"exact": str(number)}}]}
            routes.append({"match": {**match[1], **pick}, **route})
        with envoy(routes, [cluster("c", [server.port])]) as client:
            for number, (name, (target, *_)) in enumerate(ACTIONS.items()):
                response = client.get(target, headers={**SENT, "case": str(number)})
                theirs[name] = (upstream_saw(server), caller_saw(response))
        for number, (name, (target, rule, _, match)) in enumerate(ACTIONS.items()):
            made = {**rule}
            if match[0] is not None:
                made["match"] = [match[0]]
            if "redirect" not in made and "directResponse" not in made:
                made["route"] = [to("reviews")]
            resources = [service("reviews"), pod("reviews", "v1", server.port), virtual_service("reviews", made)]
            with meshlib.Mesh.from_resources(resources) as mesh, mesh.client() as client:
                response = client.get(f"http://reviews:9080{target}", headers={**SENT, "case": str(number)})
            ours[name] = (upstream_saw(server), caller_saw(response))
    for name in ACTIONS:
        assert ours[name] == theirs[name], name


@pytest.mark.parametrize(
    "came",
    [
        *((), ("a",), ("reviews:9080",), ("a,reviews:9080",), ("a, reviews:9080",), ("reviews:9080,a",), ("a", "b")),
        *(("REVIEWS:9080",), ("",)),
    ],
    ids=repr,
)
def test_where_a_rule_rewrites_the_host_the_one_that_was_asked_for_is_the_last_of_x_forwarded_host(
    came: tuple[str, ...],
):
    require_envoy()
    sent = [("host", "reviews:9080"), *(("x-forwarded-host", value) for value in came)]
    action = {"cluster": "c", "host_rewrite_literal": "other.test", "append_x_forwarded_host": True}
    settings = mesh_config(defaultConfig={"proxyHeaders": {"xForwardedHost": {"enabled": True}}})
    rule = {"rewrite": {"authority": "other.test"}, "route": [to("reviews")]}
    with EchoServer() as server:
        with envoy([{"match": {"prefix": "/"}, "route": action}], [cluster("c", [server.port])]) as client:
            client.get("/", headers=sent)
        theirs = upstream_saw(server)
        resources = [settings, service("reviews"), pod("reviews", "v1", server.port), virtual_service("reviews", rule)]
        with meshlib.Mesh.from_resources(resources) as mesh, mesh.client() as client:
            client.get("http://reviews:9080/", headers=sent)
        assert upstream_saw(server) == theirs
