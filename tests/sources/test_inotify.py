"""inotify tells of whatever may change what a mesh reads. (Nobody waits longer than for what is to come.)"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")

from meshlib.sources import inotify  # noqa: E402
from meshlib.sources.inotify import Inotify  # noqa: E402

LONG = 60.0


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Inotify]:
    (tmp_path / "all" / "below").mkdir(parents=True)
    (tmp_path / "all" / "a.yaml").write_text("1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.yaml").write_text("1")
    (tmp_path / "all" / "link.yaml").symlink_to(tmp_path / "elsewhere" / "real.yaml")
    made = Inotify(lambda: [(str(tmp_path / "all"), True)])
    yield made
    made.close()


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda here: (here / "a.yaml").write_text("2"),
    "made": lambda here: (here / "b.yaml").write_text("2"),
    "removed": lambda here: (here / "a.yaml").unlink(),
    "put in its place": lambda here: os.replace(here.parent / "elsewhere" / "real.yaml", here / "a.yaml"),
    "below": lambda here: (here / "below" / "c.yaml").write_text("2"),
    "where a link leads": lambda here: (here.parent / "elsewhere" / "real.yaml").write_text("2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_told_once(change: Callable[[Path], object], watched: Inotify, tmp_path: Path) -> None:
    change(tmp_path / "all")
    assert watched.wait(LONG)
    assert not watched.wait(0.0)


def test_what_is_made_in_a_new_folder_is_told(watched: Inotify, tmp_path: Path) -> None:
    (tmp_path / "all" / "new").mkdir()
    assert watched.wait(LONG)
    assert not watched.wait(0.0)  # which looks for folders
    (tmp_path / "all" / "new" / "d.yaml").write_text("1")
    assert watched.wait(LONG)


def test_who_is_woken_waits_no_more(watched: Inotify) -> None:
    threading.Timer(0.0, watched.wake).start()
    assert not watched.wait(LONG)
    assert not watched.wait(LONG)
    watched.close()
    watched.wake()  # nothing, and nobody else's descriptor


def test_without_watches_left_it_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlib.sources.inotify._checked", refused)
    with pytest.raises(OSError, match="No space"):
        Inotify(lambda: [(str(tmp_path), False)])


def refused(result: int) -> int:
    """Of the first watch: descriptors are greater."""
    if result == 1:
        raise OSError(28, "No space left on device")
    return result


def test_a_folder_that_is_not_there_is_looked_for_again(tmp_path: Path) -> None:
    there = tmp_path / "later"
    watched = Inotify(lambda: [(str(there), True)])
    try:
        assert not watched.wait(0.0)
        there.mkdir()
        assert not watched.wait(0.0)
        (there / "a.yaml").write_text("1")
        assert watched.wait(LONG)
    finally:
        watched.close()


@pytest.mark.parametrize("missing", ["os.pipe2", "select.poll"])
def test_a_watch_that_cannot_begin_leaves_no_descriptor(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed = [], []
    close, checked = os.close, inotify._checked

    def begun(result: int) -> int:
        opened.append(checked(result))
        return result

    def noted(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(inotify, "_checked", begun)
    monkeypatch.setattr(missing, fail)
    monkeypatch.setattr("os.close", noted)
    with pytest.raises(OSError, match="Too many"):
        Inotify(list)
    assert len(opened) == 1
    assert opened[0] in closed


def watches(of: Inotify) -> int:
    """How many the kernel keeps."""
    told = Path(f"/proc/self/fdinfo/{of._fd}").read_text()
    return sum(line.startswith("inotify wd:") for line in told.splitlines())


def test_a_folder_that_is_moved_away_is_watched_no_more_and_the_one_in_its_place_is(
    watched: Inotify, tmp_path: Path
) -> None:
    here, before = tmp_path / "all", watches(watched)
    for n in range(50):
        here.rename(tmp_path / f"away{n}")
        (here / "below").mkdir(parents=True)
        (here / "link.yaml").symlink_to(tmp_path / "elsewhere" / "real.yaml")
        assert watched.wait(LONG)
        assert not watched.wait(0.0)  # which looks for folders
        assert watches(watched) == before
    (tmp_path / "away49" / "a.yaml").write_text("2")
    (tmp_path / "away0" / "below" / "c.yaml").write_text("2")
    assert not watched.wait(0.0)
    (here / "below" / "c.yaml").write_text("2")
    assert watched.wait(LONG)


def test_where_a_link_led_is_watched_no_more(watched: Inotify, tmp_path: Path) -> None:
    before = watches(watched)
    (tmp_path / "new" / "folder").mkdir(parents=True)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "new" / "folder")
    os.replace(tmp_path / "link.yaml", tmp_path / "all" / "link.yaml")
    (tmp_path / "all" / "more").mkdir()
    assert watched.wait(LONG)
    assert not watched.wait(0.0)
    assert watches(watched) == before + 1, "the new one, and not the old one"
    (tmp_path / "elsewhere" / "real.yaml").write_text("2")
    assert not watched.wait(0.0)


def test_a_folder_that_is_moved_within_is_watched_where_it_is(watched: Inotify, tmp_path: Path) -> None:
    before = watches(watched)
    (tmp_path / "all" / "below").rename(tmp_path / "all" / "renamed")
    assert watched.wait(LONG)
    assert not watched.wait(0.0)
    assert watches(watched) == before
    (tmp_path / "all" / "renamed" / "c.yaml").write_text("2")
    assert watched.wait(LONG)
