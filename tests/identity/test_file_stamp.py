"""One look tells whether a file has changed."""

from __future__ import annotations

import os
from pathlib import Path

from meshlib.identity.file_stamp import stamp


def test_a_file_that_is_replaced_has_another_stamp_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(1, 1))
    before = stamp(str(first))
    assert stamp(str(first)) == before
    os.replace(second, first)
    assert stamp(str(first)) != before


def test_one_that_is_gone_has_one_too(tmp_path: Path) -> None:
    assert stamp(str(tmp_path / "none")) == stamp(str(tmp_path / "other"))
