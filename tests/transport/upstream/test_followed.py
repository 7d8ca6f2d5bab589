"""Files that are made anew when they have changed. (Whole calls: tests/mesh/test_rotation.py.)"""

from __future__ import annotations

import os

import pytest

from meshlib.transport.upstream.followed import Followed, UnusableFiles, stamp


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "cert"
    made.write_text("1")
    return made


def followed(file) -> tuple[Followed[int], list[int]]:
    loads: list[int] = []

    def load() -> int:
        loads.append(1)
        return int(file.read_text())

    return Followed("the number", [str(file), ""], load), loads


def test_it_is_loaded_once_until_a_file_changes(file):
    number, loads = followed(file)
    assert [number.current(), number.current(), len(loads)] == [1, 1, 1]
    file.write_text("22")
    assert [number.current(), number.current(), len(loads)] == [22, 22, 2]


def test_a_copy_of_the_same_size_and_time_is_seen(file):
    number, _ = followed(file)
    assert number.current() == 1
    before = os.stat(file)
    file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert number.current() == 2


def test_a_bad_version_leaves_the_last_good_one_and_is_said_once(file, caplog):
    number, loads = followed(file)
    assert number.current() == 1
    file.write_text("half wri")
    assert [number.current(), number.current()] == [1, 1]
    assert len(loads) == 2, "what is bad in itself is not read again"
    assert len(caplog.records) == 1
    assert number.status() == {"files": [str(file)], "problem": number.problem}
    assert "the number cannot be used" in number.problem
    file.write_text("3")
    assert [number.current(), number.problem] == [3, ""]


def test_what_may_be_over_at_the_next_look_is_tried_again(file):
    number, loads = followed(file)
    assert number.current() == 1
    file.unlink()
    assert [number.current(), number.current(), len(loads)] == [1, 1, 3]


def test_without_a_good_version_there_is_none(file):
    file.write_text("never good")
    number, _ = followed(file)
    with pytest.raises(UnusableFiles, match="the number cannot be used"):
        number.current()
    file.write_text("4")
    assert number.current() == 4


def test_a_file_that_is_not_there_has_a_stamp_too(file):
    there = stamp(str(file))
    file.unlink()
    assert stamp(str(file)) != there
    assert stamp(str(file)) == stamp(str(file))
