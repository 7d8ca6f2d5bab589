"""Generated requests through mesh clients and through those of httpx (and httpx2) themselves, which must not differ in anything
that a caller sees. ``make httpx-versions`` runs it over other versions of httpx than the one that is installed, with more."""

from __future__ import annotations

import logging
import random
import threading
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest

from meshlib.transport.httpx import direct_send
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.client_scenes import REQUESTS, Handler, Quiet, Scene, call, call_async, generated, jar

pytestmark = pytest.mark.slow

CLIENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "follows": {"follow_redirects": True},
    "one redirect": {"follow_redirects": True, "max_redirects": 1, "default_encoding": "latin-1"},
    "no redirect": {"follow_redirects": True, "max_redirects": 0},
    "own headers": {"headers": {"x-client": "c"}, "cookies": {"own": "9"}, "timeout": 7.0},
    "auth": {"auth": ("jo", "secret"), "params": {"p": "1"}},
    "hooks": {"hooked": True, "follow_redirects": True},
    "mounts": {"mounted": True},
    "base_url": {"base_url": "http://shop.example/base/", "follow_redirects": True},
}
OVER_SOCKETS = ("plain", "follows", "own headers", "hooks")
DIRECT = ("plain", "follows", "one redirect", "no redirect", "own headers", "base_url")
SCENES = [
    *(pytest.param(name, False, id=f"{name}, inner") for name in CLIENTS),
    *(pytest.param(name, True, id=f"{name}, over a socket") for name in OVER_SOCKETS),
]
EACH = -(-REQUESTS // len(SCENES) // 2)
"""Of each scene, in threads and in tasks."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(params=["httpx", "httpx2"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed: its clients are not compared")


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


class Both:
    """What was seen of both clients after each call must be the same."""

    def __init__(self, scene: Scene, name: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        self.scene = scene
        self.rng = random.Random(zlib.crc32(f"{name} {kind}".encode()))
        self.based = name == "base_url"
        self.caplog = caplog
        self.ends: list[Any] = []
        self.logged: list[list[str]] = []

    def next(self) -> tuple[str, str, dict[str, Any], str]:
        """The next request."""
        self.ends, self.logged = [], []
        self.caplog.clear()
        return generated(self.rng, self.scene, self.based)

    def ended(self, which: int, end: Any) -> None:
        """The call of one client is over."""
        self.scene.take(which)
        self.ends.append(end)
        self.logged.append([r.getMessage() for r in self.caplog.records if r.name == self.scene.module.__name__])
        self.caplog.clear()

    def compare(self, asked: object) -> None:
        """After both."""
        scene = self.scene
        assert self.ends[0] == self.ends[1], asked
        assert self.logged[0] == self.logged[1], asked
        assert scene.seen[0] == scene.seen[1], asked
        assert scene.hooks[0].called == scene.hooks[1].called, asked
        assert jar(scene.meshed) == jar(scene.plain), asked
        scene.clear()


def assert_some_went(directly: list[int], name: str, module: ModuleType) -> None:
    expected = module is httpx and name in DIRECT and direct_send.possible
    assert (len(directly) > EACH // 8) is expected


@pytest.mark.parametrize(("name", "network"), SCENES)
def test_threads_see_no_difference(
    name: str, network: bool, module: ModuleType, port: int, directly: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, module.__name__)
    scene = Scene(False, port * network, module, **CLIENTS[name])
    both = Both(scene, name, "threads", caplog)
    with scene.mesh, scene.meshed, scene.plain:
        for _ in range(EACH):
            asked = both.next()
            for which, client in enumerate((scene.meshed, scene.plain)):
                both.ended(which, call(client, module, *asked))
            both.compare(asked)
    assert_some_went(directly, name, module)


@pytest.mark.parametrize(("name", "network"), SCENES)
async def test_tasks_see_no_difference(
    name: str, network: bool, module: ModuleType, port: int, directly: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, module.__name__)
    scene = Scene(True, port * network, module, **CLIENTS[name])
    both = Both(scene, name, "tasks", caplog)
    async with scene.mesh, scene.meshed, scene.plain:
        for _ in range(EACH):
            asked = both.next()
            for which, client in enumerate((scene.meshed, scene.plain)):
                both.ended(which, await call_async(client, module, *asked))
            both.compare(asked)
    assert_some_went(directly, name, module)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
async def test_closed_clients_and_those_opened_twice_say_the_same(asynchronous: bool, module: ModuleType) -> None:
    scene = Scene(asynchronous, module=module)
    said = []
    with scene.mesh:
        for client in (scene.meshed, scene.plain):
            texts = []
            for _ in range(2):
                try:
                    if asynchronous:
                        async with client:
                            await client.get("http://shop.example/plain")
                    else:
                        with client:
                            client.get("http://shop.example/plain")
                except RuntimeError as error:
                    texts.append(str(error))
            try:
                if asynchronous:
                    await client.get("http://shop.example/plain")
                else:
                    client.get("http://shop.example/plain")
            except RuntimeError as error:
                texts.append(str(error))
            said.append((texts, client.is_closed))
    assert said[0] == said[1]
    assert len(said[0][0]) == 2


@pytest.mark.parametrize("version", ["0.27.0", "0.27.2", "0.28.0", "0.28.1"])
def test_this_version_of_httpx_was_compared(version: str) -> None:
    if httpx.__version__ != version:
        pytest.skip(f"httpx {httpx.__version__} is installed; make httpx-versions compares {version}")
    assert direct_send.possible is not PLAIN
