"""Which rule a gRPC call takes, and what the rule does to it."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest

from tests.support.grpc_echo import SERVICE, echo_servers
from tests.support.grpc_runtimes import ANSWERS, HOST, KINDS, TARGET, by_kind, mesh_of, refused
from tests.support.resources import to


@pytest.mark.parametrize(
    ("match", "metadata", "taken"),
    [
        ({"uri": {"exact": f"/{SERVICE}/Unary"}}, (), True),
        ({"uri": {"exact": f"/{SERVICE}/Chat"}}, (), False),
        ({"uri": {"prefix": f"/{SERVICE}/"}}, (), True),
        ({"uri": {"regex": ".*/Un.*"}}, (), True),
        ({"method": {"exact": "POST"}}, (), True),
        ({"method": {"exact": "GET"}}, (), False),
        ({"scheme": {"exact": "http"}}, (), True),
        ({"authority": {"exact": TARGET}}, (), True),
        ({"authority": {"exact": "other"}}, (), False),
        ({"headers": {"canary": {"exact": "yes"}}}, (("canary", "yes"),), True),
        ({"headers": {"canary": {"exact": "yes"}}}, (("canary", "Yes"),), False),
        ({"headers": {"canary": {"exact": "yes"}}}, (), False),
        ({"headers": {"canary": {"prefix": "y"}}}, (("canary", "yes"),), True),
        ({"headers": {"canary": {"regex": "y.s"}}}, (("canary", "yes"),), True),
        ({"headers": {"canary": {}}}, (("canary", ""),), True),
        ({"headers": {"canary": {"exact": "b"}}}, (("canary", "a"), ("canary", "b")), True),
        ({"headers": {"canary": {"exact": "a,b"}}}, (("canary", "a"), ("canary", "b")), False),
        ({"headers": {"key-bin": {"exact": "AQL/"}}}, (("key-bin", b"\x01\x02\xff"),), True),
        ({"headers": {"key-bin": {"exact": "AQ"}}}, (("key-bin", b"\x01"),), True),
        ({"headers": {"content-type": {"exact": "application/grpc"}}}, (), True),
        ({"headers": {"te": {"exact": "trailers"}}}, (("other", "x"),), True),
        ({"headers": {"grpc-timeout": {}}}, (), False),
        ({"withoutHeaders": {"canary": {"exact": "yes"}}}, (), True),
        ({"withoutHeaders": {"canary": {"exact": "yes"}}}, (("canary", "yes"),), False),
    ],
)
def test_rules_match_methods_metadata_and_authority(match, metadata, taken):
    from tests.support.grpc_echo import Message, stubs

    rules = [{"match": [match], "route": [to(HOST, "b")]}, {"route": [to(HOST, "a")]}]
    with echo_servers(None, None) as servers, mesh_of(*servers, rules=rules) as mesh:
        answer = stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary(Message(), metadata=metadata)
        assert answer.server == ("b" if taken else "a")


def test_a_timeout_is_a_header_that_rules_can_ask_for():
    from tests.support.grpc_echo import Message, stubs

    rules = [
        {"match": [{"headers": {"grpc-timeout": {}}}], "route": [to(HOST, "b")]},
        {"route": [to(HOST, "a")]},
    ]
    with echo_servers(None, None) as servers, mesh_of(*servers, rules=rules) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        assert stub.Unary(Message(), timeout=60).server == "b"
        assert stub.Unary(Message(), timeout=60, metadata=[("x", "y")]).server == "b"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_canary_by_metadata_in_every_kind(runtime_class, kind):
    rules = [
        {"match": [{"headers": {"x-canary": {"exact": "yes"}}}], "route": [to(HOST, "b")]},
        {"route": [to(HOST, "a")]},
    ]
    with echo_servers(None, None) as servers, mesh_of(*servers, rules=rules) as mesh:
        runtime = runtime_class(mesh)
        assert await runtime.server(kind) == "a"
        assert await runtime.server(kind, metadata=(("x-canary", "yes"),)) == "b"


async def test_weights_are_kept(runtime_class):
    rules = [{"route": [to(HOST, "a", 75), to(HOST, "b", 25)]}]
    with echo_servers(None, None) as servers, mesh_of(*servers, rules=rules, seed=7) as mesh:
        runtime = runtime_class(mesh)
        taken = Counter([await runtime.server() for _ in range(200)])
        assert 30 <= taken["b"] <= 70


async def test_round_robin_takes_turns(runtime_class):
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    with echo_servers(None, None, None) as servers, mesh_of(*servers, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        assert Counter([await runtime.server() for _ in range(30)]) == {"a": 10, "b": 10, "c": 10}


async def test_a_hash_of_metadata_leads_to_one_endpoint(runtime_class):
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "user"}}}
    with echo_servers(None, None, None) as servers, mesh_of(*servers, policy=policy) as mesh:
        runtime = runtime_class(mesh)
        for user in ("anna", "bert", "carl"):
            assert len({await runtime.server(metadata=(("user", user),)) for _ in range(5)}) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_request_operations_change_metadata(runtime_class, kind):
    rules = [
        {
            "headers": {
                "request": {
                    "set": {"set": "new", "path-was": "%REQ(:path)%"},
                    "add": {"added": "2", "k-bin": "AQID"},
                    "remove": ["gone"],
                }
            },
            "route": [to(HOST)],
        }
    ]
    with echo_servers(None) as [server], mesh_of(server, rules=rules) as mesh:
        sent = (("set", "old"), ("gone", "x"), ("added", "1"), ("kept-bin", b"\x00\x01"))
        assert await by_kind(runtime_class(mesh), kind, metadata=sent) == ANSWERS[kind]
        seen = server.seen[0].metadata
        assert "gone" not in seen
        assert seen["set"] == "new"
        assert seen["kept-bin"] == b"\x00\x01"
        assert seen["k-bin"] == b"\x01\x02\x03"
        assert seen["path-was"] == f"/{SERVICE}/{kind.title()}"
        assert seen["x-envoy-attempt-count"] == "1"


async def test_response_operations_change_the_initial_metadata(runtime_class):
    rules = [{"headers": {"response": {"set": {"stage": "canary"}, "remove": ["head-sent"]}}, "route": [to(HOST)]}]
    with echo_servers([("head", "ok")]) as [server], mesh_of(server, rules=rules) as mesh:
        runtime = runtime_class(mesh)
        _, initial, trailing, _ = await runtime.with_call()
        assert initial == {"stage": "canary"}
        assert trailing == {"answered-by": "a"}


async def test_response_operations_on_a_stream(runtime_class):
    rules = [{"headers": {"response": {"set": {"stage": "canary"}}}, "route": [to(HOST)]}]
    with echo_servers([("head", "ok")]) as [server], mesh_of(server, rules=rules) as mesh:
        from tests.support.grpc_echo import Message

        call = runtime_class(mesh).stub.Expand(Message(count=1))
        initial = call.initial_metadata()
        initial = await initial if hasattr(initial, "__await__") else initial
        assert dict(iter(initial)) == {"head-sent": "yes", "stage": "canary"}
        call.cancel()


async def test_response_operations_act_on_the_trailers_of_an_answer_that_is_nothing_else(runtime_class):
    rules = [
        {
            "headers": {"response": {"set": {"stage": "canary"}, "remove": ["answered-by"]}},
            "route": [to(HOST)],
            "retries": {"attempts": 0},
        }
    ]
    with echo_servers(["NOT_FOUND"]) as [server], mesh_of(server, rules=rules) as mesh:
        for kind in KINDS:
            error = await refused(by_kind(runtime_class(mesh), kind))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert error.details() == "scripted NOT_FOUND"
            assert dict(iter(error.trailing_metadata())) == {"stage": "canary"}


async def test_a_rewritten_path_is_another_method(runtime_class):
    rules = [
        {
            "match": [{"uri": {"prefix": "/shop.v1.Echo/"}}],
            "rewrite": {"uri": f"/{SERVICE}/"},
            "route": [to(HOST)],
        }
    ]
    with echo_servers(None) as [server], mesh_of(server, rules=rules) as mesh:
        from tests.support.grpc_echo import Message

        with mesh.grpc_channel(TARGET) as channel:
            call = channel.unary_unary("/shop.v1.Echo/Unary", Message.SerializeToString, Message.FromString)
            assert call(Message(text="x")).text == "x"
        assert server.seen[0].method == "Unary"
        assert server.seen[0].metadata["x-envoy-original-path"] == "/shop.v1.Echo/Unary"


async def test_a_rewritten_authority_is_that_of_the_connection(runtime_class):
    rules = [{"rewrite": {"authority": "inner.test"}, "route": [to(HOST)]}]
    with echo_servers(None) as [server], mesh_of(server, rules=rules) as mesh:
        await runtime_class(mesh).unary()
        assert server.seen[0].metadata["x-envoy-original-host"] == TARGET
        keys = [key for c in mesh._core.live.bound.values() for key in c.targets]
        assert [key[-1] for key in keys] == ["inner.test"]


async def test_a_redirect_is_refused_clearly(runtime_class):
    rules = [{"redirect": {"authority": "elsewhere.test"}}]
    with mesh_of(1, rules=rules) as mesh:
        for kind in KINDS:
            error = await refused(by_kind(runtime_class(mesh), kind))
            assert error.code() is grpc.StatusCode.UNKNOWN
            assert "a gRPC call cannot follow" in error.details()
            assert "elsewhere.test" in error.details()
            assert dict(iter(error.trailing_metadata()))["location"].startswith("http://elsewhere.test")


@pytest.mark.parametrize(("status", "code"), [(503, "UNAVAILABLE"), (404, "UNIMPLEMENTED"), (200, "UNKNOWN")])
async def test_a_direct_response_is_a_status(runtime_class, status, code):
    rules = [{"directResponse": {"status": status, "body": {"string": "closed today"}}}]
    with mesh_of(1, rules=rules) as mesh:
        error = await refused(runtime_class(mesh).unary())
        assert error.code() is grpc.StatusCode[code]
        assert error.details().startswith("closed today")


def test_explain_takes_the_url_of_a_grpc_call():
    rules = [
        {"match": [{"headers": {"x-canary": {"exact": "yes"}}}], "route": [to(HOST, "b")], "name": "canary"},
        {
            "match": [{"uri": {"prefix": f"/{SERVICE}/"}}],
            "route": [to(HOST, "a")],
            "fault": {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 5}}},
        },
    ]
    with echo_servers(None, None) as servers, mesh_of(*servers, rules=rules) as mesh:
        found = mesh.explain(url=f"grpc://{TARGET}/{SERVICE}/Unary", headers={"X-Canary": "yes"})
        assert (found.rule, found.subset, found.rule_name) == (0, "b", "canary")
        found = mesh.explain(method="POST", url=f"grpc://{TARGET}/{SERVICE}/Unary")
        assert found.rule == 1
        assert "abort UNAVAILABLE (503) for 5 %" in str(found)
        assert "header x-canary is absent" in str(found)
        assert mesh.explain(url=f"grpc://{TARGET}/other.Service/Get").flags == "NR"


@pytest.mark.parametrize("url", ["grpc://", "grpc://echo.test:9080", "grpc://echo.test:9080/"])
def test_explain_of_half_a_url_says_what_is_missing(url):
    from meshlib.errors import MeshError

    with mesh_of(1) as mesh, pytest.raises(MeshError, match="package.Service/Method"):
        mesh.explain(url=url)
