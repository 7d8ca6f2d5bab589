"""Our own web server, for machines without nginx."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.bench.processes import Process, python
from meshlib.bench.web_backend import ALL_ADDRESSES


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    process = Process("backend", python("meshlib.bench.web_backend"), tmp_path / "log", talks=True)
    try:
        yield process.reply(30)["port"]
    finally:
        process.end()


def test_a_body_has_the_size_that_is_asked_for_at_every_address(port: int) -> None:
    for address in ALL_ADDRESSES:
        for size in (0, 1024):
            with urllib.request.urlopen(f"http://{address}:{port}/size/{size}", timeout=30) as response:
                assert len(response.read()) == size


def test_heads_are_alike_or_each_another(port: int) -> None:
    def header(path: str) -> str | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            found: str | None = response.headers["X-Id"]
            return found

    assert header("/same") is None
    assert header("/unique") != header("/unique")
    assert header("/size/1") != header("/size/1")
