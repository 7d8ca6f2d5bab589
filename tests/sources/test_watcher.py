"""The thread that looks whether files have changed: it falls back, comes back, and goes with whom it serves."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meshlib
from meshlib.clock import SystemClock
from meshlib.sources import watcher
from meshlib.sources.files import FileSource
from meshlib.sources.watcher import Watcher, WatchStatus
from tests.support.resources import service

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}}}\nspec: {{ports: [{{port: 80}}]}}\n"


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def needs_inotify() -> None:
    """Skips, with the reason, where there is none to be had."""
    try:
        from meshlib.sources.inotify import Inotify

        Inotify(list).close()
    except (OSError, ImportError, AttributeError) as error:
        pytest.skip(f"no inotify here: {error}")


class Told:
    """A watcher of one folder, and how often it has told of changes."""

    def __init__(self, folder: Path) -> None:
        self.times = 0
        self.fail: BaseException | None = None
        self.folder = folder
        self.watcher = Watcher([str(folder)], self.signature, self.changed, lambda: False)

    def signature(self) -> object:
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        return sorted((p.name, p.stat().st_ctime_ns) for p in self.folder.iterdir())

    def changed(self) -> bool:
        self.times += 1
        return True


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    found = Told(tmp_path)
    yield found
    found.watcher.stop()


@pytest.mark.parametrize("error", [ValueError("a"), MemoryError(), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_watch_that_dies_of_anything_starts_again_and_says_so(
    error: BaseException, told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told.fail = error
    wait_for(lambda: told.watcher.restarts)
    (tmp_path / "a.yaml").write_text("x")
    wait_for(lambda: told.times)
    status = told.watcher.status()
    assert (status["alive"], status["restarts"]) == (True, 1)
    assert type(error).__name__ in status["error"]
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


def test_an_edit_made_while_the_watch_was_dead_is_not_lost(told: Told, tmp_path: Path) -> None:
    told.fail = ValueError()
    (tmp_path / "a.yaml").write_text("x")
    wait_for(lambda: told.times)


@pytest.mark.parametrize("way", ["inotify", "native"])
@pytest.mark.parametrize("error", [OSError(24, "inotify instances"), RuntimeError("watch limit")], ids=repr)
def test_without_inotify_it_looks_twice_a_second_and_says_so_once(
    error: Exception, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def watch(*paths: object, **settings: object) -> Iterator[set[object]]:
        raise error
        yield set()

    def begin(self: object, places: object) -> None:
        raise OSError(str(error)) from error

    monkeypatch.setattr("meshlib.sources.watcher.NATIVE", way)  # native: by watchfiles, as elsewhere than on Linux
    monkeypatch.setattr(pytest.importorskip("watchfiles"), "watch", watch)
    monkeypatch.setattr("meshlib.sources.inotify.Inotify.__init__", begin)
    told = Told(tmp_path)
    try:
        for n in range(3):
            (tmp_path / f"{n}.yaml").write_text("x")
            wait_for(lambda n=n: told.times > n)
        assert told.watcher.status() == {"alive": True, "kind": "polling", "restarts": 0, "error": ""}
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        assert str(error) in caplog.text
    finally:
        told.watcher.stop()


def test_on_a_python_without_ctypes_files_are_looked_at_twice_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "NATIVE", "inotify")
    monkeypatch.delitem(sys.modules, "meshlib.sources.inotify", raising=False)
    monkeypatch.delattr(sys.modules["meshlib.sources"], "inotify", raising=False)
    monkeypatch.setitem(sys.modules, "ctypes", None)
    told = Told(tmp_path)
    try:
        (tmp_path / "a.yaml").write_text("x")
        wait_for(lambda: told.times)
        assert told.watcher.status() == {"alive": True, "kind": "polling", "restarts": 0, "error": ""}
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        assert "ctypes" in caplog.text
        assert "max_user_watches" not in caplog.text
    finally:
        told.watcher.stop()


def held() -> int:
    """Descriptors of what watches; not those with which a folder is being read just now."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith(
                ("anon_inode:inotify", "anon_inode:[inotify", "pipe:")
            )
    return found


def generation(mesh: meshlib.Mesh, expected: int, more: int) -> int:
    """The exit code of a child, and of its children: 0 when none has more descriptors than its parent."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            wait_for(lambda: watch_of(mesh)["kind"] == "inotify")
            if held() <= expected:
                code = generation(mesh, expected, more - 1) if more else 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch_of(mesh: meshlib.Mesh) -> WatchStatus:
    found: WatchStatus = mesh.status()["source"]["watcher"]
    return found


def test_a_forked_child_watches_with_no_more_descriptors_than_its_parent(tmp_path: Path) -> None:
    needs_inotify()
    (tmp_path / "a.yaml").write_text(SERVICE.format("a"))
    with meshlib.Mesh.from_path(tmp_path) as mesh:
        wait_for(lambda: watch_of(mesh)["kind"] == "inotify")
        assert generation(mesh, held(), 1) == 0
        assert watch_of(mesh)["alive"]


def test_a_thread_that_is_gone_altogether_is_started_by_whoever_looks(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.watcher.stopping.set()
    told.watcher._thread.join(60)
    told.watcher.stopping.clear()
    assert not told.watcher.alive
    told.watcher.revive()
    assert told.watcher.alive
    assert told.watcher.restarts == 1


def test_the_status_of_a_mesh_tells_of_its_watch(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE.format("a"))
    with meshlib.Mesh.from_path(tmp_path) as mesh:
        found = mesh.status()["source"]["watcher"]
        assert (found["alive"], found["restarts"], found["error"]) == (True, 0, "")
        assert found["kind"] in ("inotify", "native", "polling")
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        assert mesh.status()["source"]["watcher"] is None
    with meshlib.Mesh.from_resources([service("a")]) as mesh:
        assert mesh.status()["source"]["watcher"] is None


@pytest.mark.parametrize("way", ["inotify", "watchfiles", "polling"])
def test_a_mesh_that_is_dropped_leaves_no_thread_and_no_descriptor(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "inotify":
        monkeypatch.setattr("meshlib.sources.watcher.NATIVE", "native")
    if way == "polling":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    (tmp_path / "a.yaml").write_text(SERVICE.format("a"))
    meshlib.Mesh.from_path(tmp_path).close()
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    dropped = []
    for _ in range(5):
        mesh = meshlib.Mesh.from_path(tmp_path)
        mesh._core.background.submit(lambda: None, lambda: None)  # as a mirror would
        dropped.append(weakref.ref(mesh))
    del mesh
    # their threads look at them now and then
    wait_for(lambda: gc.collect() >= 0 and [ref() for ref in dropped] == [None] * 5)
    wait_for(lambda: set(threading.enumerate()) <= threads)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_a_mesh_whose_client_is_kept_goes_on_following_its_files(tmp_path: Path) -> None:
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [h.test]\n"
        "  http:\n  - directResponse: {{status: 200, body: {{string: {0}}}}}\n"
    )
    (tmp_path / "a.yaml").write_text(rule.format("one"))
    client = meshlib.Mesh.from_path(tmp_path).client()
    gc.collect()
    assert client.get("http://h.test/").text == "one"
    (tmp_path / "a.yaml").write_text(rule.format("two"))
    wait_for(lambda: client.get("http://h.test/").text == "two")
    client.close()


def test_who_waits_for_inotify_looks_seldom_and_sooner_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does nothing is to sleep; what came half is looked at again soon."""
    needs_inotify()
    from meshlib.sources.inotify import Inotify

    mine, others = tmp_path / "mine", tmp_path / "others"
    mine.mkdir()
    others.mkdir()
    asked: list[float] = []
    changes = iter([False] * watcher.LIVELY_LOOKS + [False, True, False])
    over, ended = threading.Event(), threading.Event()
    usual = Inotify.wait

    def wait(self: Inotify, seconds: float) -> bool:
        if self._places() != [(str(mine), True)]:
            return usual(self, seconds)  # others of the process, as tests leave behind
        asked.append(seconds)
        try:
            return next(changes)
        except StopIteration:
            over.set()
            ended.wait(60)
            return False

    monkeypatch.setattr(Inotify, "wait", wait)
    other, told = Told(others), Told(mine)
    assert over.wait(60)
    told.watcher.stopping.set()
    ended.set()
    told.watcher.stop()
    other.watcher.stop()
    seldom, soon = watcher.SELDOM_SECONDS, watcher.LIVELY_SECONDS
    assert asked == [*[soon] * watcher.LIVELY_LOOKS, seldom, seldom, soon, soon]
    assert seldom > 1.0


def test_a_watch_that_is_stopped_is_woken(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_inotify()
    monkeypatch.setattr(watcher, "SELDOM_SECONDS", 3600.0)
    monkeypatch.setattr(watcher, "LIVELY_SECONDS", 3600.0)
    told.watcher.stop()
    again = Told(told.folder)
    wait_for(lambda: again.watcher.kind == watcher.NATIVE)
    again.watcher.stopping.set()
    again.watcher._notified.wake()  # type: ignore[union-attr]
    again.watcher._thread.join(60)
    assert not again.watcher.alive


class Edited:
    """Whom a source tells of changes."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def changed(self) -> None:
        self.told.set()


def test_an_edit_between_the_first_reading_and_the_watch_is_not_lost(tmp_path: Path) -> None:
    """What is made of the resources takes its time; nobody would hear of it until the next edit."""
    (tmp_path / "a.yaml").write_text(SERVICE.format("one"))
    source, edited = FileSource([tmp_path], SystemClock()), Edited()
    source.load()
    (tmp_path / "a.yaml").write_text(SERVICE.format("another"))
    source.watch(edited.changed)
    try:
        assert edited.told.wait(60)
    finally:
        source.stop()


def test_nor_is_one_between_the_last_look_of_a_parent_and_its_childs_watch(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE.format("one"))
    source, edited = FileSource([tmp_path], SystemClock()), Edited()
    source.load()
    source.watch(Edited().changed)
    source._watcher.stop()  # type: ignore[union-attr]
    (tmp_path / "a.yaml").write_text(SERVICE.format("another"))
    source.after_fork(edited.changed)
    try:
        assert edited.told.wait(60)
    finally:
        source.stop()


def test_files_that_have_not_changed_since_they_were_read_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE.format("one"))
    source, edited = FileSource([tmp_path], SystemClock()), Edited()
    source.load()
    source.watch(edited.changed)
    assert source._watcher is not None
    wait_for(lambda: source._watcher._looks > 1)  # type: ignore[union-attr]
    source.stop()
    assert not edited.told.is_set()
