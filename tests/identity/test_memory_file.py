"""A file that is on no disk, and is gone when it has been read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshlib.identity.memory_file import memory_file


def test_it_has_its_contents_for_as_long_as_the_block_lasts() -> None:
    with memory_file(b"key", b"chain" * 100_000) as path:
        assert Path(path).read_bytes() == b"key\n" + b"chain" * 100_000
        assert os.readlink(path).startswith("/memfd:")
        assert not os.get_inheritable(int(path.rpartition("/")[2]))
    assert not os.path.exists(path)


def test_it_is_closed_when_the_block_fails() -> None:
    paths = []

    def fails() -> None:
        with memory_file(b"x") as path:
            paths.append(path)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert not os.path.exists(paths[0])
