"""Text made to hurt: the right answer or a clear error, in work and memory that are bounded.

Work is counted, not timed, for others share the machine: calls of functions, Python's and C's. What one call does inside C
is bounded by CPU time, far above what it takes, for only what grows with the square of the text gets there.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import pytest

from meshlib.resources import yaml_builder, yaml_reader
from meshlib.resources.loader import load_text
from meshlib.resources.yaml_reader import read

pytestmark = pytest.mark.slow

T = TypeVar("T")

CALLS_A_BYTE = 20
CALLS_AT_LEAST = 20_000
CPU_SECONDS = 10.0
MEGABYTES = 50


def calls(act: Callable[[], object]) -> int:
    """How many functions ``act`` calls."""
    count = 0

    def watch(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        if event == "call" or event == "c_call":
            count += 1

    watching = sys.getprofile()
    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(watching)
    return count


def bounded(act: Callable[[], T], size: int) -> T:
    """What ``act`` returns. Fails when it does too much for a text of ``size`` characters; each measure in a run of its own."""
    begin = time.thread_time()
    found = act()
    assert time.thread_time() - begin < CPU_SECONDS
    assert calls(act) <= max(CALLS_AT_LEAST, CALLS_A_BYTE * size)
    tracemalloc.start()
    try:
        act()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTES * 1e6
    return found


def bomb(levels: int = 9, width: int = 9) -> str:
    """306 bytes that stand for 9**9 values."""
    lines = [f"a0: &a0 [{','.join('x' * width)}]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


def chain(length: int = 40, depth: int = 90) -> str:
    """Each anchor is deep by itself, and hangs below the one after it."""
    lines = ["a0: &a0 " + "[" * depth + "]" * depth]
    lines += [f"a{i}: &a{i} " + "[" * depth + f"*a{i - 1}" + "]" * depth for i in range(1, length)]
    return "\n".join(lines)


REFUSED = {
    "alias bomb": (bomb(), "alias-bomb"),
    "alias bomb of mappings": (bomb().replace("[", "{k: [").replace("]", "]}"), "alias-bomb"),
    "depth by aliases": (chain(), "too-deep"),
    "5,000 lists": ("[" * 5000, "too-deep"),
    "5,000 lists, closed": ("[" * 5000 + "]" * 5000, "too-deep"),
    "100,000 lists": ("[" * 100_000, "too-deep"),
    "5,000 JSON objects": ('{"a":' * 5000 + "1" + "}" * 5000, "too-deep"),
    "5,000 dashes": ("- " * 5000 + "x", "too-deep"),
    "block mappings": ("".join(" " * i + "a:\n" for i in range(500)), "too-deep"),
    "complex keys": ("? " * 5000, "bad-key"),
    "a million quotes": ('"' * 1_000_001, "bad-yaml"),
    "a huge number": ("a: " + "9" * 1_000_000, "bad-number"),
    "python": ("!!python/object/apply:os.system ['true']", "yaml-tag"),
    "unclosed": ('{"a": [' * 40, "bad-yaml"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_text_is_refused_at_its_place_in_bounded_work_and_memory(name: str) -> None:
    text, code = REFUSED[name]
    _, problems = bounded(lambda: read(text, "f.yaml"), len(text))
    assert code in {p.code for p in problems}
    assert all(p.line >= 1 and p.column >= 1 for p in problems)


READ = {
    "5,000 small maps": "- {a: 1}\n" * 5_000,
    "5,000 small maps, an eighth of a megabyte": "- {a: 1, bcdefgh: 22222}\n" * 5_000,
    "5,000 small maps as JSON": "[" + ",".join(['{"a": 1, "bcdefgh": "2"}'] * 5_000) + "]",
    "5,000 documents": "---\na: 1\n" * 5_000,
    "10,000 keys": "".join(f"k{i}: 1\n" for i in range(10_000)),
    "10,000 anchors": "".join(f"- &a{i} x\n" for i in range(10_000)),
    "one long line": "a: " + "x" * 1_000_000,
    "99 levels": "[" * 99 + "]" * 99,
    "some aliases": "a: &a {x: 1, y: [1, 2, 3]}\nb: [" + ", ".join(["*a"] * 1000) + "]",
}


@pytest.mark.parametrize("name", READ)
def test_much_text_is_read_in_bounded_work_and_memory(name: str) -> None:
    documents, problems = bounded(lambda: read(READ[name], "f.yaml"), len(READ[name]))
    assert problems == []
    assert documents


def test_5_000_small_maps_are_all_there() -> None:
    ((document,), _) = read(READ["5,000 small maps"], "f.yaml")
    assert document.value == [{"a": 1}] * 5_000
    assert document.positions.place((4_999, "a")) == (5_000, 4)


def test_many_broken_documents_take_time_in_proportion() -> None:
    text = "a: [\n---\n" * 2000
    assert len(read(text, "f")[1]) == 2000
    bounded(lambda: read(text, "f"), len(text))


def test_an_alias_bomb_in_each_of_many_documents_shares_one_budget() -> None:
    _, problems = read("\n---\n".join([bomb()] * 500), "f")
    assert [p.code for p in problems] == ["alias-bomb"]


def test_aliases_within_the_budget_work_and_one_more_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_builder, "MAX_ALIASED_NODES", 12)
    text = "a: &a [1, 2, 3]\nb: [*a, *a, *a{}]\n"  # an alias of it counts 4
    assert read(text.format(""), "f")[1] == []
    assert [p.code for p in read(text.format(", *a"), "f")[1]] == ["alias-bomb"]


def test_depth_up_to_the_limit_works_and_one_more_does_not() -> None:
    limit = yaml_builder.MAX_DEPTH
    for form in ("[" * limit + "]" * limit, "{a: " * limit + "}" * limit):
        assert read(form, "f")[1] == []
        assert [p.code for p in read(f"[{form}]", "f")[1]] == ["too-deep"]


def test_too_many_values_stop_the_reading_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_builder, "MAX_NODES", 100)
    documents, problems = read("a: 1\n---\nb: [" + "1," * 200 + "]\n---\nc: 1\n", "f")
    assert [d.value for d in documents] == [{"a": 1}]
    assert [(p.code, p.line) for p in problems] == [("too-large", 3)]


def test_a_file_over_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "MAX_BYTES", 10)
    assert read("a: 1234567", "f")[1] == []
    assert [p.code for p in read("a: 12345678", "f")[1]] == ["too-large"]
    assert [p.code for p in read(b"a: 12345678", "f")[1]] == ["too-large"]


@pytest.mark.parametrize("name", ["5,000 small maps", "5,000 documents"])
def test_text_that_holds_no_resources_is_reported_within_bounds_too(name: str) -> None:
    bounded(lambda: load_text(READ[name], "f.yaml"), len(READ[name]))


def test_a_resource_with_a_bomb_is_refused_and_its_neighbour_loads() -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    result = load_text(f"{pod}---\nkind: Pod\nspec: {'[' * 5000}\n---\n{pod.replace('p}', 'q}')}", "f")
    assert [r.name for r in result.resources] == ["p", "q"]
    assert [p.code for p in result.problems] == ["too-deep"]


def test_aliases_that_stand_for_much_are_validated_within_bounds() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
        "spec:\n  hosts: [a]\n  http:\n  - route:\n    - &r {destination: {host: a}, weight: 1}\n" + "    - *r\n" * 5000
    )
    assert load_text(text).problems == []
    bounded(lambda: load_text(text), len(text))


def test_200_resources_of_5_000_lines_load_in_300_000_calls() -> None:
    """50 to 90 ms on the machine this was written on, models' import apart."""
    one = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: v{0}\n  namespace: default\nspec:\n"
        "  hosts:\n  - v{0}\n  http:\n  - match:\n    - headers:\n        end-user:\n          exact: jason\n    route:\n"
        "    - destination:\n        host: v{0}\n        subset: v2\n  - route:\n    - destination:\n        host: v{0}\n"
        "        subset: v1\n      weight: 90\n    - destination:\n        host: v{0}\n        subset: v3\n      weight: 10\n"
    )
    text = "---\n".join(one.format(number) for number in range(200))
    assert text.count("\n") > 5000
    result = load_text(text)
    assert (len(result.resources), result.problems) == (200, [])
    assert calls(lambda: load_text(text)) < 300_000
