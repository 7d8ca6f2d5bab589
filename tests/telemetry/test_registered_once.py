"""Meshes, and first calls, of several threads at once on one registry: what a registry has once is registered once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

import meshlib
from meshlib.telemetry import registered_once
from meshlib.telemetry.envoy_metrics import envoy_collector
from meshlib.telemetry.families import families, message_families, policy_families, size_families, tcp_families
from meshlib.telemetry.mesh_metrics import state_collector
from meshlib.telemetry.registered_once import RegisteredOnce

ASKED = {
    "calls": families,
    "messages": message_families,
    "policies": policy_families,
    "connections": tcp_families,
    "sizes": size_families,
    "state": state_collector,
    "Envoy's": envoy_collector,
}


class Lock:
    """The lock of the module, which tells who has come to it."""

    def __init__(self) -> None:
        self.held = threading.RLock()
        self.visitors: set[int] = set()
        self.came = threading.Condition()

    def __enter__(self) -> None:
        with self.came:
            self.visitors.add(threading.get_ident())
            self.came.notify_all()
        self.held.acquire()

    def __exit__(self, *raised: object) -> None:
        self.held.release()


class Slow(CollectorRegistry):
    """Before it takes a collector, another thread asks for the same, and has come as far as it can."""

    def __init__(self, other: Callable[[Slow], Any], lock: Lock) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self.thread: threading.Thread | None = None
        self._other, self._spied = other, lock

    def register(self, collector: Collector) -> None:
        if self.thread is None:
            thread = self.thread = threading.Thread(target=self._ask)
            thread.start()
            with self._spied.came:
                self._spied.came.wait_for(lambda: thread.ident in self._spied.visitors, timeout=10)
        super().register(collector)

    def _ask(self) -> None:
        try:
            self._other(self)
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._spied.came:
                self._spied.visitors.add(threading.get_ident())
                self._spied.came.notify_all()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Lock:
    lock = Lock()
    monkeypatch.setattr(registered_once, "_registering", lock)
    return lock


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_two_threads_that_ask_at_once_get_the_same(ask: Callable[[CollectorRegistry], object], lock: Lock) -> None:
    got: list[object] = []
    registry = Slow(lambda registry: got.append(ask(registry)), lock)
    got.append(ask(registry))
    assert registry.thread is not None
    registry.thread.join(60)
    assert registry.errors == []
    assert len(got) == 2
    assert got[0] is got[1]


def test_two_threads_make_meshes_of_one_registry(lock: Lock) -> None:
    made: list[meshlib.Mesh] = []

    def make(registry: CollectorRegistry) -> None:
        made.append(meshlib.Mesh.from_resources([], registry=registry, envoy_metrics=True))

    registry = Slow(make, lock)
    make(registry)
    assert registry.thread is not None
    registry.thread.join(60)
    assert registry.errors == []
    shown = generate_latest(registry).decode()
    for mesh in made:
        mesh.close()
    assert shown.count("# TYPE meshlib_config_info gauge") == 1
    assert shown.count("meshlib_config_info{") == 2


def test_what_a_registry_refuses_is_asked_for_again() -> None:
    refused = [True]

    def make(_: CollectorRegistry) -> list[bool]:
        if refused.pop():
            refused.append(False)
            raise ValueError("full")
        return refused

    once, registry = RegisteredOnce(make), CollectorRegistry()
    with pytest.raises(ValueError, match="full"):
        once(registry)
    assert once(registry) is refused
    assert once.all() == [refused]


def test_all_are_listed_while_none_is_added(lock: Lock) -> None:
    once, registry = RegisteredOnce(lambda _: 1), CollectorRegistry()
    once(registry)
    lock.visitors.clear()
    assert once.all() == [1]
    assert lock.visitors == {threading.get_ident()}
