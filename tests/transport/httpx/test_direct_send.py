"""Sending without detours: what goes that way, and what is left to httpx. That there is no difference:
``test_client_differential.py``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from meshlib.transport.httpx import direct_send
from tests.support.client_scenes import Scene, respond
from tests.support.shortcuts import NEEDS_SHORTCUTS


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls that were sent without detours."""
    found: list[int] = []
    real = direct_send._taken

    def counted(client: Any, request: Any, response: Any) -> None:
        found.append(response.status_code)
        real(client, request, response)

    monkeypatch.setattr(direct_send, "_taken", counted)
    return found


URL = "http://shop.example/plain"


@NEEDS_SHORTCUTS
def test_nothing_is_sent_directly_that_somebody_watches_or_changes(directly, monkeypatch):
    scene = Scene(False)
    with scene.mesh, scene.meshed as client:
        client.get(URL)
        assert directly == [200]
        hooked: list[Any] = []
        client.event_hooks = {"request": [hooked.append], "response": [hooked.append]}
        client.get(URL)
        assert len(hooked) == 2
        client.event_hooks = {}
        client.auth = ("jo", "secret")
        client.get(URL)
        client.auth = None
        client.get("http://jo:pw@shop.example/plain")
        with client.stream("GET", URL) as response:
            assert not response.is_closed
        with monkeypatch.context() as patch:
            traced: list[Any] = []
            real = httpx.Client.send
            patch.setattr(httpx.Client, "send", lambda self, r, **more: (traced.append(r), real(self, r, **more))[1])
            client.get(URL)
            assert len(traced) == 1
        with monkeypatch.context() as patch:
            patch.setattr(httpx.Client, "_send_single_request", lambda self, r: httpx.Response(299, request=r))
            assert client.get(URL).status_code == 299
        mocked = httpx.MockTransport(lambda _: httpx.Response(298))
        client._transport, before = mocked, client._transport
        assert client.get(URL).status_code == 298
        client._transport = before
        assert directly == [200]
        client.get(URL)
        assert directly == [200, 200]


def test_a_subclass_decides_for_itself(directly):
    with Scene(False).mesh as mesh:
        kind = type(mesh.client())

        class Mine(kind):
            def _send_single_request(self, request: httpx.Request) -> httpx.Response:
                return httpx.Response(297, request=request)

        client = Mine(transport=mesh.http_transport(httpx.MockTransport(respond)))
        assert (client.get(URL).status_code, directly) == (297, [])


def test_a_client_opens_with_its_first_request_and_sends_none_once_closed():
    scene = Scene(False)
    with scene.mesh:
        client = scene.meshed
        client.get(URL)
        client.get(URL)
        with pytest.raises(RuntimeError, match="more than once"):
            client.__enter__()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.get(URL)


async def test_a_client_of_the_other_kind_cannot_send_its_bodies():
    scene = Scene(True)

    def body() -> Iterator[bytes]:
        yield b"x"

    async with scene.mesh, scene.meshed as client:
        await client.get(URL)
        with pytest.raises(RuntimeError, match="sync request with an AsyncClient"):
            await client.post(URL, content=body())


async def test_a_call_that_is_cancelled_leaves_the_client_as_it_was(directly):
    waiting = asyncio.Event()

    async def never(_request: httpx.Request) -> httpx.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    with Scene(True).mesh as mesh:
        async with mesh.async_client(transport=httpx.MockTransport(never)) as client:
            for _ in range(2):
                waiting.clear()
                task = asyncio.ensure_future(client.get(URL))
                await waiting.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert directly == []


@pytest.mark.parametrize(
    ("version", "known"),
    [("0.26.0", False), ("0.27.0", True), ("0.27.2", True), ("0.28.1", True), ("0.29.0", False), ("1.0.dev3", False)],
)
def test_an_httpx_that_nobody_has_compared_goes_its_own_way(version, known):
    assert (direct_send.KNOWN.fullmatch(version) is not None) is known


@pytest.mark.parametrize(
    "name",
    [f"{kind}.{method}" for kind in ("Client", "AsyncClient") for method in ("send", "_send_single_request")]
    + ["Client._transport_for_url"],
)
def test_what_was_patched_before_meshlib_was_there_is_not_taken_for_httpxs_own(name):
    """As Sentry's integration does."""
    program = f"""
import functools, httpx
kind, method = httpx.{name.partition(".")[0]}, "{name.partition(".")[2]}"
own = getattr(kind, method)
@functools.wraps(own)
def patched(*args, **kwargs):
    return own(*args, **kwargs)
setattr(kind, method, patched)
from meshlib.transport.httpx import direct_send
assert not direct_send.possible
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
