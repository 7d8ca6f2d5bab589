"""A reload in the background lets others run: it works in slices of CPU time, whatever it reads and compiles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import meshlib
from meshlib.clock import SystemClock
from meshlib.compiler.compile import Compiler
from meshlib.pace import SLICE_SECONDS, NotWanted, Slices, much_is_made, slices, take_turns
from meshlib.sources.files import FileSource
from meshlib.workload import Workload
from tests.support.frozen import thawed  # noqa: F401 (a fixture)
from tests.support.resources import pod, service, to, virtual_service

LIMIT = 0.002
"""CPU seconds of a slice that 99.9 % keep to."""


def rules(number: int, of: str, version: str) -> list[dict[str, Any]]:
    return [
        {
            "match": [{"uri": {"prefix": f"/{of}/{n}/"}, "headers": {"x-version": {"exact": version}}}],
            "route": [to(of)],
            "timeout": "3s",
        }
        for n in range(number)
    ]


def two_hundred_services(version: str, number: int = 5000) -> list[dict[str, Any]]:
    """``number`` rules, in equal shares."""
    found: list[dict[str, Any]] = []
    for n in range(200):
        name = f"s{n}"
        found += [service(name), pod(name, "v1", n + 1), virtual_service(name, *rules(number // 200, name, version))]
    return found


def one_service(version: str, number: int = 5000) -> list[dict[str, Any]]:
    return [service("s"), pod("s", "v1", 1), virtual_service("s", *rules(number, "s", version))]


def as_json(path: Path, resources: list[dict[str, Any]]) -> None:
    path.with_suffix(".json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": resources}))


def as_yaml(path: Path, resources: list[dict[str, Any]]) -> None:
    yaml = pytest.importorskip("yaml")
    path.with_suffix(".yaml").write_text(yaml.dump_all(resources, Dumper=yaml.cyaml.CSafeDumper))


def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlib.pace.rest", lambda seconds: None)


@pytest.mark.slow
@pytest.mark.parametrize(("write", "number"), [(as_yaml, 2000), (as_json, 5000)])  # YAML takes five times as long
@pytest.mark.parametrize("make", [two_hundred_services, one_service])
def test_a_reload_of_thousands_of_rules_works_in_slices_of_two_milliseconds(
    write: Callable[..., None],
    number: int,
    make: Callable[[str, int], list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_rest(monkeypatch)
    write(tmp_path / "all", make("one", number))
    source, compiler = FileSource([tmp_path], SystemClock()), Compiler(Workload())
    served, problems = source.load()
    assert problems == []
    compiler.compile(served)
    tried = []
    for version in ("two", "three", "four", "five", "six", "seven"):
        took: list[float] = []
        write(tmp_path / "all", make(version, number))
        with slices(Slices(on_slice=took.append)), much_is_made():
            verdict, _ = source.reload(served)
            served = verdict.serve
            compiler.compile(served)
        assert len(took) > 100
        longer = sorted(seconds for seconds in took if seconds > LIMIT)
        if len(longer) <= max(3, len(took) // 300):  # one in a thousand on an idle machine
            return
        # a virtual machine that is taken away for a moment counts as the thread's time: what is long each time is ours
        tried.append(f"{len(longer)} of {len(took)} slices: {longer[-5:]}")
    raise AssertionError(tried)


def test_work_that_nobody_wants_any_more_ends() -> None:
    stop = threading.Event()
    turns = []

    def work() -> None:
        while True:
            take_turns()
            turns.append(1)
            if len(turns) == 10:
                stop.set()

    with slices(Slices(stop=stop.is_set)), pytest.raises(NotWanted):
        work()


def test_outside_of_slices_nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    monkeypatch.setattr("meshlib.pace.rest", rested.append)
    monkeypatch.setattr("meshlib.pace.thread_seconds", iter(range(1000)).__next__)
    take_turns()
    assert rested == []
    with slices(Slices()):
        take_turns()
        take_turns()
    assert len(rested) == 2


def test_who_waits_for_the_end_of_a_reload_has_it_go_on_without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    monkeypatch.setattr("meshlib.pace.rest", rested.append)
    monkeypatch.setattr("meshlib.pace.thread_seconds", iter(range(1000)).__next__)
    with slices(Slices(hurry=lambda: True)):
        take_turns()
    assert rested == []


def test_a_slice_is_shorter_than_what_is_promised() -> None:
    assert SLICE_SECONDS < LIMIT


async def test_a_loop_goes_on_while_a_mesh_reloads(tmp_path: Path) -> None:
    """By work, not by time: the loop has its turns while the reload is under way."""
    with contextlib.suppress(ImportError):  # by the watcher's thread, it would take long beside a loop that never waits
        importlib.import_module("watchfiles")
    as_yaml(tmp_path / "all", two_hundred_services("one")[:150])
    mesh = meshlib.Mesh.from_path(tmp_path)
    try:
        reloads = mesh.status()["source"]["reloads"]
        as_yaml(tmp_path / "all", two_hundred_services("two")[:150])
        turns = 0
        while mesh.status()["source"]["reloads"] == reloads:
            await asyncio.sleep(0.0005)  # a loop that never waits leaves other threads next to nothing
            turns += 1
            assert turns < 10_000_000
        assert turns > 20  # of hundreds, most of which other processes may take
    finally:
        mesh.close()


def test_a_mesh_can_be_closed_and_applied_to_while_it_reloads(tmp_path: Path) -> None:
    as_yaml(tmp_path / "all", two_hundred_services("one")[:90])
    mesh = meshlib.Mesh.from_path(tmp_path)
    for version in ("two", "three"):
        as_yaml(tmp_path / "all", two_hundred_services(version)[:90])
        mesh.apply([service("other")])
    mesh.close()
    assert mesh.status()["closed"]


@pytest.mark.usefixtures("thawed")
def test_what_the_garbage_collector_is_set_to_comes_back_and_it_has_nothing_to_do_at_once() -> None:
    before = gc.get_threshold()
    kept = []
    collected: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(info["generation"])

    gc.callbacks.append(note)
    try:
        with much_is_made():
            with much_is_made():
                kept = [[n] for n in range(200_000)]
            assert gc.get_threshold() != before
        young = gc.get_count()
        kept.append([kept])
    finally:
        gc.callbacks.remove(note)
    assert gc.get_threshold() == before
    assert 2 not in collected
    assert young[0] < before[0]
    assert young[1:] == (0, 0)


@pytest.mark.usefixtures("thawed")
def test_objects_that_somebody_has_frozen_stay_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with much_is_made():
            pass
        assert gc.get_freeze_count() > frozen // 2  # some may have been freed meanwhile
    finally:
        gc.unfreeze()


def test_beside_calls_the_collector_stops_them_for_few_objects_at_a_time() -> None:
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 0:
            seen.append(len(kept))

    kept: list[list[int]] = []
    with much_is_made(beside_calls=True):
        gc.callbacks.append(note)
        try:
            for n in range(100_000):
                kept.append([n])
        finally:
            gc.callbacks.remove(note)
    between = [later - before for before, later in itertools.pairwise(seen)]
    assert between
    assert max(between) <= 25_000
