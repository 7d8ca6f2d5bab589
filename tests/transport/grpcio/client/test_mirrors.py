"""Copies of calls: under a shadow's name, read to their end, and never in the way of the call."""

from __future__ import annotations

import pytest

from tests.support.grpc_echo import echo_servers
from tests.support.grpc_runtimes import (
    ANSWERS,
    HOST,
    KINDS,
    by_kind,
    entry,
    mesh_of,
    soon,
)
from tests.support.resources import to


@pytest.mark.parametrize("kind", KINDS)
async def test_a_mirror_gets_a_copy_under_a_shadow_name(runtime_class, kind):
    copy_host = "copy.test"
    rules = [{"route": [to(HOST, "a")], "mirror": {"host": copy_host}}]
    with echo_servers(None, None) as [server, copy]:
        more = [entry(("127.0.0.1", copy.port, "x"), host=copy_host)]
        with mesh_of(server, rules=rules, more=more) as mesh:
            assert await by_kind(runtime_class(mesh), kind, metadata=(("end-user", "jason"),)) == ANSWERS[kind]
            assert await soon(lambda: copy.seen)
            assert copy.seen[0].method == kind.title()
            assert copy.seen[0].metadata["end-user"] == "jason"
            shadows = [k[-1] for c in mesh._core.live.bound.values() for k in c.targets if isinstance(k[-1], str)]
            assert "echo.test-shadow:9080" in shadows
            assert await soon(lambda: not sum(c["active"] for c in mesh.status()["clusters"]))
            await mesh.aclose()


async def test_a_stream_that_is_too_long_to_keep_is_not_mirrored(runtime_class):
    rules = [{"route": [to(HOST, "a")], "mirror": {"host": "copy.test"}}]
    big = "x" * 400_000
    with echo_servers(None, None) as [server, copy]:
        more = [entry(("127.0.0.1", copy.port, "x"), host="copy.test")]
        with mesh_of(server, rules=rules, more=more) as mesh:
            assert await runtime_class(mesh).collect(*[big] * 6) == big * 6
            assert not await soon(lambda: copy.seen, 0.1)
            assert mesh.status()["mirrors"] == {"dropped": 0, "failed": 0}
            await mesh.aclose()


async def test_a_mirror_that_fails_does_no_harm(runtime_class):
    rules = [{"route": [to(HOST, "a")], "mirror": {"host": "copy.test"}}]
    more = [entry(("127.0.0.1", 1, "x"), host="copy.test")]
    with echo_servers(None) as [server], mesh_of(server, rules=rules, more=more) as mesh:
        for kind in KINDS:
            assert await by_kind(runtime_class(mesh), kind) == ANSWERS[kind]
        await mesh.aclose()
