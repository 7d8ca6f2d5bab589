"""What is read line by line is what the readers that know all of YAML make of it; the rest is left to them."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshlib.resources.plain_events import read_plain
from meshlib.resources.plain_tree import MAX_DEPTH, NotPlain
from meshlib.resources.yaml_builder import MAX_NODES
from meshlib.resources.yaml_lines import read_lines
from meshlib.resources.yaml_reader import _events, read

PLAIN = [
    "a: 1\n",
    "---\na: 1\n",
    "# nothing\n\na: b # c\n   # d\nc:\n",
    "a:\n  b:\n    c: d\n  e: f\ng: h\n",
    "a:\n- b\n- c: d\n  e: f\n- - g\n  - h\ni: j\n",
    "a:\n  - b\n  -   c: d\n      e:\n      - f\n",
    "- a\n- b: c\n",
    "a: [b, 'c, d', {e: \"f\", g: [1, 2.5, true, ~]}, [], {}]\nh: i\n",
    "  - match: [{uri: {prefix: /p0/}}]\n    directResponse: {status: 200, body: {string: 'r0'}} # r\n",
    "host: reviews.prod.svc.cluster.local\nuri: http://a:80/b?c=d,e\nquoted: 'a: # b'\nempty: ''\n",
    "args:\n- --flag=x\n- -1\n- a - b\n",
    "kind: List\nitems:\n- a: b\n  c: d\n-   e: f\n",
    "kind: List\nitems:\n  - - b\n  - c: d\n",
    "kind: List\nitems:\n- a\n",
    "kind: List\nitems:\n",
    "kind: List\nitems:\n- {a: b}\n-   []\n",
    "metadata:\n  labels:\n    app.kubernetes.io/name: reviews\n",
]
LEFT = [
    *("", "\n", "---\n", "# c\n", "a\n", "...\n", "a: 1\n...\n", "%YAML 1.2\n", "--- a\n", "? a\n: b\n", "-\n", "- \n"),
    *("a: &b c\n", "a: *b\n", "a: !!str 1\n", "a: |\n  b\n", "a: >\n  b\n", "<<: {}\n", "null: 1\n", '"a": 1\n'),
    *(
        "a: b: c\n",
        "a: 'b\n",
        'a: "\\n"\n',
        "a: b\n  c\n",
        "- a\n  b\n",
        "a:\tb\n",
        "\ta: b\n",
        "a: 'b'c\n",
        "a: b #c: d#\ne\n",
    ),
    *(
        "a: 1\na: 2\n",
        "a: [1, 2\n",
        "a: [1 2]\n",
        "a: [b: c]\n",
        "a: {b}\n",
        "a: {b: c, b: d}\n",
        "a: {b: }\n",
        "a: [,]\n",
    ),
    *(
        "a: []]\n",
        "a: [}\n",
        "a: {]\n",
        "a: [1]x\n",
        "a: {b:c}\n",
        "a: [2001:db8::]\n",
        "a: {b: {c: d}\n",
        "a: [null: 1]\n",
    ),
    *(
        "a:\n  b: 1\n c: 2\n",
        " a: 1\nb: 2\n",
        "- a\nb: c\n",
        "a: b\n- c\n",
        "a:\n  - b\n - c\n",
        "a:\n    - b\n  c: d\n",
    ),
    *(
        f"a: {'9' * 1001}\n",
        f"{'a' * 1000}: 1\n",
        "items: [{a: b}]\n",
        "a: 1e999\n",
    ),
    *("- " * (MAX_DEPTH + 1) + "a\n", f"a: {'[' * MAX_DEPTH}{']' * MAX_DEPTH}\n"),
]


def by_events(text: str) -> object:
    return read_plain(_events(text, False), MAX_NODES)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_read_line_by_line_as_libyaml_reads_it(text: str) -> None:
    assert read_lines(text, MAX_NODES) == by_events(text)
    assert repr(read_lines(text, MAX_NODES)) == repr(by_events(text))  # 1 is not True, nor 1.0


@pytest.mark.parametrize("text", LEFT)
def test_what_is_not_plain_is_left_to_who_knows_it(text: str) -> None:
    with pytest.raises(NotPlain):
        read_lines(text, MAX_NODES)


def test_depth_and_number_are_bounded_as_elsewhere() -> None:
    deepest = "- " * MAX_DEPTH + "a\n"
    assert read_lines(deepest, MAX_NODES) == by_events(deepest)
    assert read_lines("a:\n- b\n- c\n", 5)[1] == 5  # the map, the key, the list, b and c
    with pytest.raises(NotPlain):
        read_lines("a:\n- b\n- c\n", 4)


def test_more_lines_than_are_remembered_are_read() -> None:
    text = "a:\n" + "".join(f"- b{n}: c\n  # {n}\n" for n in range(10_000))
    assert read_lines(text, MAX_NODES) == by_events(text)


def test_where_things_stand_is_found_when_asked() -> None:
    (document,), problems = read("# c\n---\na:\n- b: [1]\n", "f.yaml")
    assert problems == []
    assert document.positions.place(("a", 0, "b")) == (4, 3)
    assert document.positions.place(()) == (3, 1)


SCALARS = [
    *(
        "a",
        "1",
        "-1",
        "1.5",
        "true",
        "null",
        "~",
        "a b",
        "a - b",
        "a:b",
        "a?",
        "*",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "",
        "-",
    ),
    *(
        "'a'",
        '"a"',
        "'a''b'",
        '"a\\n"',
        "'a: b'",
        "'#'",
        '"[',
        "a#b",
        "a #b",
        "a: b",
        "a:",
        "?",
        "? a",
        ":",
        ",",
        "a, b",
        "a,b",
    ),
    *(
        "[]",
        "{}",
        "[a, b]",
        "{a: b}",
        "[a b]",
        "{a: [b, {c: d}]}",
        "[a, ]",
        "{a}",
        "{a: b, }",
        "[a: b]",
        "[[a], b]",
        "{a: 1, a: 2}",
    ),
    *(
        "{a:b}",
        "{'a': b}",
        "[a#b]",
        "[a #b]",
        "[*a]",
        "[-]",
        "[- a]",
        "[a?b]",
        "/a/{b}",
        "$(a)",
        "é",
        "<<",
        "=",
        "\\a",
        "010",
        "1e5",
    ),
]
LINES = st.builds(
    lambda indent, dashes, key, value, end: " " * indent + "".join(dashes) + key + value + end,
    st.integers(0, 5),
    st.lists(st.sampled_from(["- ", "-  ", "-"]), max_size=2),
    st.sampled_from(["", "", "a: ", "b: ", "c:", "items: ", "items:", "d :", "a.b/c-d: ", "null: ", "'e': ", "-: "]),
    st.sampled_from(SCALARS),
    st.sampled_from(["", "", "", " ", " # c", "#c", "\t"]),
)
TEXTS = st.lists(LINES | st.sampled_from(["", "# c", "  # c", "---", "...", "\t"]), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example(["a:", "- b", "  c"])
@example(["a: b", "", "  c"])
@example(["- - a", "  - b", "- c"])
def test_any_lines_mean_what_libyaml_and_the_pure_parser_say_or_are_left_to_them(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        found = read_lines(text, MAX_NODES)
    except NotPlain:
        return
    assert repr(found) == repr(by_events(text))
    assert repr(found) == repr(read_plain(yaml.Loader(text), MAX_NODES))


BLOCKS = st.recursive(
    st.sampled_from(["a", "1", "true", "~", "'b c'", '"d"', "/e/f", "[g, {h: i}]", "", "x: y"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "items", "k.l"]), inner, min_size=1, max_size=3),
    ),
    max_leaves=12,
)


def written(value: object, indent: int, step: int) -> list[str]:
    """Block style, lists at ``step`` columns from their key."""
    lines: list[str] = []
    pad = " " * indent
    if isinstance(value, dict):
        for key, inside in value.items():
            if isinstance(inside, str):
                lines.append(f"{pad}{key}: {inside}")
            else:
                lines += [f"{pad}{key}:", *written(inside, indent + (step if isinstance(inside, list) else 2), step)]
    elif isinstance(value, list):
        for inside in value:
            first, *rest = [inside] if isinstance(inside, str) else written(inside, indent + 2, step)
            lines += [f"{pad}- {first.strip()}", *rest]
    return lines


@settings(max_examples=200, deadline=None)
@given(BLOCKS, st.sampled_from([0, 2, 4]))
def test_any_blocks_mean_what_libyaml_says_or_are_left_to_it(value: object, step: int) -> None:
    text = "\n".join(written(value, 0, step))
    try:
        found = read_lines(text, MAX_NODES)
    except NotPlain:
        return
    assert repr(found) == repr(by_events(text))
