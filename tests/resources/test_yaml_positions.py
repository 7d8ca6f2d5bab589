"""Properties of the reader over random documents."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.resources.document import Document
from meshlib.resources.yaml_reader import read
from tests.support.yaml_writer import Writer

any_text = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4), max_leaves=25
)

# what may stand raw in a YAML text in double quotes
yaml_text = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp"), exclude_characters="\ufeff"), max_size=8
)
yaml_scalars = st.none() | st.booleans() | st.integers() | yaml_text
yaml_values = st.recursive(
    yaml_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(yaml_text, inner, max_size=4),
    max_leaves=25,
)
printable_json = st.sampled_from([{"ensure_ascii": True}, {"ensure_ascii": False}])
layout = st.sampled_from([{"indent": None}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}])


def one(text: str | bytes) -> Document:
    documents, problems = read(text, "f")
    assert problems == []
    (document,) = documents
    return document


@given(json_values, printable_json, layout)
def test_any_json_document_is_what_json_says_it_is(
    value: Any, escapes: dict[str, Any], spacing: dict[str, Any]
) -> None:
    text = json.dumps([value], **escapes, **spacing)
    found = one(text).value
    assert found == json.loads(text)
    assert repr(found) == repr(json.loads(text))  # 1, 1.0 and True are equal to ==


@given(yaml_values, st.lists(st.booleans(), min_size=1))
def test_every_key_and_value_knows_its_place_in_block_and_flow_style(value: Any, choices: list[bool]) -> None:
    value = {"root": value}
    writer = Writer(itertools.cycle(choices))
    text = writer.write(value)
    document = one(text)
    assert document.value == value
    for path, place in writer.keys.items():
        assert document.positions.place(path) == place, (path, text)
    for path, place in writer.values.items():
        node, steps = document.positions.find(path)
        assert (steps, node.line, node.column) == (len(path), *place), (path, text)


@given(yaml_values, st.lists(st.booleans(), min_size=1), st.integers(0, 5))
def test_places_in_a_later_document_count_from_the_top_of_the_file(
    value: Any, choices: list[bool], before: int
) -> None:
    writer = Writer(itertools.cycle(choices))
    text = writer.write({"root": value})
    documents, problems = read("first: 1\n" + "# comment\n" * before + "---\n" + text, "f")
    assert problems == []
    for path, (line, column) in writer.keys.items():
        assert documents[1].positions.place(path) == (line + before + 2, column)


@settings(max_examples=300)
@given(st.text(st.sampled_from(list("ab01.:-?,[]{}#&*!|>'\"%@` \n\t~<\\\u00e9\U0001f600\u2028\x00")), max_size=60))
def test_any_text_gives_documents_and_problems_and_never_an_exception(text: str) -> None:
    documents, problems = read(text, "f")
    lines = text.replace("\r", "\n").split("\n")
    for found in problems:
        assert 1 <= found.line <= len(lines) + 1
        assert found.column >= 1
    assert all(document.value is not None for document in documents)


@given(st.binary(max_size=60))
def test_any_bytes_give_documents_and_problems_and_never_an_exception(data: bytes) -> None:
    read(data, "f")
