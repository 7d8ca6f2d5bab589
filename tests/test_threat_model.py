"""The threat model names the tests that hold its promises."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
PROMISES = PAGE.partition("## What is promised")[2].partition("## What is not promised")[0]


def rows() -> list[tuple[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in PROMISES.splitlines() if line.startswith("| ")]
    return [(promise, held_by) for promise, held_by in lines if promise != "promise"]


def test_every_promise_names_tests_that_are_there():
    assert len(rows()) >= 15
    for promise, held_by in rows():
        files = re.findall(r"`(tests/[\w/]+\.py)`", held_by)
        assert files, promise
        for file in files:
            assert re.search(r"^\s*(async )?def test_", (ROOT / file).read_text(), re.MULTILINE), f"{file}: {promise}"


def test_the_bounds_it_tells_are_those_of_the_code():
    from meshlib.resources import yaml_builder, yaml_reader
    from meshlib.transport.protocol import http1, http2, http2_frames, request_body

    assert (http1.MAX_HEAD_BYTES, http1.MAX_HEADERS, http2_frames.MAX_BLOCK) == (60 * 1024, 100, 64 * 1024)
    assert (http2.STREAM_WINDOW, request_body.REPLAY_LIMIT) == (1024**2, 1024**2)
    assert (yaml_reader.MAX_BYTES, yaml_builder.MAX_DEPTH) == (32 * 1024**2, 100)
    assert (yaml_builder.MAX_NODES, yaml_builder.MAX_ALIASED_NODES) == (1_000_000, 100_000)


def test_readme_and_security_lead_to_it():
    assert "(docs/threat-model.md)" in (ROOT / "README.md").read_text()
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
    assert "(docs/threat-model.md)" in (ROOT / "SECURITY.md").read_text()
