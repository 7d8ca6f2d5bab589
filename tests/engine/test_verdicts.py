"""A request that cannot be sent again says so: in what the caller gets, in explain's text, and in errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

import meshlib
from meshlib.engine.verdicts import TOO_LONG
from meshlib.transport.protocol.request_body import REPLAY_LIMIT
from tests.support.resources import pod, service, to, virtual_service

RETRIED = {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx,connect-failure,reset"}}
LINE = f"not retried: {TOO_LONG}"
RUNTIMES = ("sync", "async")


class Upstream:
    """Responds with 503 to what it is sent, or fails after it has read all of it."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.bodies: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(len(request.content))
        if self.fails:
            raise httpx.RemoteProtocolError("gone")
        return httpx.Response(503)


def pieces(size: int) -> Iterator[bytes]:
    for start in range(0, size, 1 << 16):
        yield b"x" * min(1 << 16, size - start)


async def async_pieces(size: int) -> AsyncIterator[bytes]:
    for piece in pieces(size):
        yield piece


def post(mesh: meshlib.Mesh, upstream: Upstream, runtime: str, size: int, *, streamed: bool = True) -> httpx.Response:
    url = "http://reviews:9080/"

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=mesh.async_http_transport(inner=httpx.MockTransport(upstream))
        ) as client:
            return await client.post(url, content=async_pieces(size) if streamed else b"x" * size)

    if runtime == "async":
        return asyncio.run(call())
    with httpx.Client(transport=mesh.http_transport(inner=httpx.MockTransport(upstream))) as client:
        return client.post(url, content=pieces(size) if streamed else b"x" * size)


@pytest.fixture
def mesh():
    rules = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", RETRIED)]
    with meshlib.Mesh.from_resources(rules) as made:
        yield made


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_streamed_body_of_more_than_a_mebibyte_is_not_retried_and_the_exchange_says_so(mesh, runtime):
    upstream = Upstream()
    exchange = post(mesh, upstream, runtime, REPLAY_LIMIT + 1).extensions["mesh"]
    assert upstream.bodies == [REPLAY_LIMIT + 1]
    assert exchange.not_sent_again == LINE
    assert exchange.to_dict()["not_sent_again"] == LINE
    assert f"  {LINE}\n" in f"{exchange}\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("size", "streamed"), [(REPLAY_LIMIT, True), (REPLAY_LIMIT + 1, False)])
def test_bodies_that_are_kept_or_at_hand_are_retried_and_nothing_is_said(mesh, runtime, size, streamed):
    upstream = Upstream()
    exchange = post(mesh, upstream, runtime, size, streamed=streamed).extensions["mesh"]
    assert upstream.bodies == [size] * 3
    assert exchange.not_sent_again == ""
    assert "not_sent_again" not in exchange.to_dict()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_error_of_such_a_call_says_so(mesh, runtime):
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        post(mesh, Upstream(fails=True), runtime, REPLAY_LIMIT + 1)
    assert LINE in str(caught.value)


def test_a_call_that_no_route_would_retry_says_nothing():
    rules = [
        service("reviews"),
        pod("reviews", "v1", 1),
        virtual_service("reviews", {**RETRIED, "retries": {"attempts": 0}}),
    ]
    with meshlib.Mesh.from_resources(rules) as mesh:
        assert post(mesh, Upstream(), "sync", REPLAY_LIMIT + 1).extensions["mesh"].not_sent_again == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_body_that_is_too_long_to_be_mirrored_is_told_too(runtime):
    mirrored = {"route": [to("reviews")], "mirror": {"host": "reviews"}, "retries": {"attempts": 0}}
    rules = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", mirrored)]
    with meshlib.Mesh.from_resources(rules) as mesh:
        assert post(mesh, Upstream(), runtime, REPLAY_LIMIT + 1).extensions["mesh"].not_sent_again == (
            f"not mirrored: {TOO_LONG}"
        )


def test_the_limit_is_the_one_that_the_sentence_names():
    assert REPLAY_LIMIT == 1 << 20
    assert "1 MiB" in TOO_LONG
