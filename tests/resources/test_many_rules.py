"""What a rule costs to load: measured in memory and in calls of the parser's events, never in time."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from meshlib.clock import SystemClock
from meshlib.compiler.compile import Compiler
from meshlib.resources.loader import load, load_text
from meshlib.sources.files import FileSource
from meshlib.workload import Workload

pytestmark = pytest.mark.slow

RULE = "  - match: [{{uri: {{prefix: /p{0}/}}}}]\n    directResponse: {{status: 200, body: {{string: 'r{0}'}}}}\n"
HEAD = (
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [h.test]\n  http:\n"
)


def rules(number: int) -> str:
    return HEAD + "".join(RULE.format(n) for n in range(number))


def peak(path: Path) -> int:
    """Bytes at most while the file is read and compiled, and held afterwards as a mesh holds them."""
    source, compiler = FileSource([path], SystemClock()), Compiler(Workload())
    gc.collect()
    tracemalloc.start()
    try:
        resources, problems = source.load()
        snapshot = compiler.compile(resources)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problems == []
    assert len(snapshot.virtual_host("h.test", "http").rules) > 0
    return most


def test_a_rule_takes_two_and_a_half_kilobytes_at_most_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # a file is read into as many bytes as one may have, which are given back at once: all 32 MiB would be the peak
    monkeypatch.setattr("meshlib.resources.reading.MAX_BYTES", 1 << 20)
    few, many = tmp_path / "few.yaml", tmp_path / "many.yaml"
    few.write_text(rules(50))
    peak(few)  # imports, and what is made once
    few.write_text(rules(1000))
    many.write_text(rules(2000))
    one, two = peak(few), peak(many)
    assert 1000 < (two - one) / 1000 < 2500
    assert two < 2.2 * one


def test_nothing_is_looked_for_again_while_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where everything stands is found out when something is to be said about it, not before."""
    asked: list[str] = []
    monkeypatch.setattr("meshlib.resources.yaml_reader.Builder.run", lambda *args: asked.append("run"))
    (tmp_path / "a.yaml").write_text(rules(50))
    assert load(tmp_path).problems == []
    assert asked == []


def test_a_mistake_among_many_rules_is_found_at_its_line() -> None:
    lines = rules(600).split("\n")
    at = next(n for n, line in enumerate(lines) if "/p555/" in line)
    lines[at] = lines[at].replace("prefix", "prefx")
    (found,) = load_text("\n".join(lines), "f.yaml").problems
    assert (found.code, found.line, found.path) == ("unknown-field", at + 1, "spec.http[555].match[0].uri.prefx")


def test_a_mistake_that_only_the_whole_can_tell_is_found_among_many_rules() -> None:
    text = rules(600).replace("  hosts: [h.test]\n", "").replace("/p599/}", "/p599/}")
    text += "  - match: [{uri: {prefix: /x}}]\n    delegate: {name: other}\n"
    (found,) = load_text(text, "f.yaml").problems
    assert found.code == "delegate-of-a-delegate"
