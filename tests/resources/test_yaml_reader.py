"""What text means, and what is said about text that means nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from meshlib.errors import Problem, Severity
from meshlib.resources import yaml_reader
from meshlib.resources.yaml_reader import read


@pytest.fixture(params=["libyaml", "pure Python"])
def any_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers: PyYAML comes without libyaml on some platforms."""
    if request.param == "pure Python":
        monkeypatch.setattr(yaml_reader, "_Parser", yaml.Loader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    return str(request.param)


def values(text: str | bytes) -> list[Any]:
    documents, problems = read(text, "f.yaml")
    assert problems == []
    return [document.value for document in documents]


def value(text: str | bytes) -> Any:
    (only,) = values(text)
    return only


def problems_of(text: str | bytes, name: str = "f.yaml") -> list[Problem]:
    documents, problems = read(text, name)
    assert all(p.severity is Severity.ERROR and p.file == name for p in problems)
    return problems


def problem(text: str | bytes, name: str = "f.yaml") -> Problem:
    (only,) = problems_of(text, name)
    return only


# -- scalars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "y", "n", "Yes", "NO", "On", "OFF"),
        *("12:30:45", "1:30", "190:20:30", "2024-01-01", "2024-01-01T10:00:00Z", "2001-12-14 21:59:43.10 -5"),
        *("010", "-010", "00", "0o17", "0x1F", "0b101", "1_000", "1,000", "01.5"),
        *(".inf", "-.inf", ".nan", ".", "+", "e5", ".e5", "1e", "1.2.3", "10.0.0.1", "1.5s", "5%"),
        *("nullish", "truely", "tRUE", "nULL", "=", "<<x"),
    ],
)
def test_what_only_looks_like_something_else_stays_a_text(text: str, any_parser: str) -> None:
    assert value(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("-12", -12),
        ("9" * 40, int("9" * 40)),
        ("1.10", 1.1),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
    ],
)
def test_booleans_null_and_decimal_numbers_are_read(text: str, meaning: Any, any_parser: str) -> None:
    found = value(f"a: {text}")["a"]
    assert found == meaning
    assert type(found) is type(meaning)


@pytest.mark.parametrize("text", ['"true"', "'1'", '"~"', "!!str 1.10", "! 5", "|\n  1\n", ">-\n  null\n"])
def test_a_quoted_or_block_scalar_is_a_text(text: str, any_parser: str) -> None:
    assert isinstance(value(f"a: {text}")["a"], str)


def test_the_text_of_a_number_is_kept_for_messages() -> None:
    ((document,), _) = read("a: {version: 1.10, n: [0.50]}", "f")
    assert document.positions.find(("a", "version"))[0].raw == "1.10"
    assert document.positions.find(("a", "n", 0))[0].raw == "0.50"


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 1001, "1." + "0" * 2000])
def test_a_number_that_no_field_can_hold_is_an_error(text: str) -> None:
    found = problem(f"a: {text}")
    assert (found.code, found.line, found.column) == ("bad-number", 1, 4)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_plain_key_is_the_text_as_written(any_parser: str) -> None:
    assert value("80: a\n1.10: b\non: c\ntrue: d\n010: e\n") == {
        "80": "a",
        "1.10": "b",
        "on": "c",
        "true": "d",
        "010": "e",
    }


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "? {a: 1}\n: 1\n", "a: {{ .Values.x }}\n", "x: &x [1]\n*x : 2\n"])
def test_a_key_that_is_a_collection_is_an_error(text: str, any_parser: str) -> None:
    assert problem(text).code == "bad-key"


@pytest.mark.parametrize("text", ["~: 1\n", "null: 1\n", "? \n: 1\n"])
def test_a_null_key_is_an_error(text: str, any_parser: str) -> None:
    assert (problem(text).code, problem(text).line) == ("bad-key", 1)


def test_the_key_of_a_template_gets_the_hint_to_render_it() -> None:
    assert "rendered first" in problem("a: {{ .Values.x }}\n").hint


def test_every_duplicate_key_is_an_error_with_both_places(any_parser: str) -> None:
    text = "a: 1\nb: {c: 1,\n  c: 2}\na: {d: 3, d: 4}\n"
    found = problems_of(text)
    assert [(p.code, p.line, p.column) for p in found] == [
        ("duplicate-key", 3, 3),
        ("duplicate-key", 4, 1),
        ("duplicate-key", 4, 11),
    ]
    assert "first at 2:5" in found[0].message
    assert "first at 1:1" in found[1].message


def test_a_document_with_a_duplicate_key_is_returned_broken_with_the_first_value() -> None:
    documents, _ = read("a: 1\na: 2\n---\nb: 1\n", "f")
    assert [(d.value, d.broken) for d in documents] == [({"a": 1}, True), ({"b": 1}, False)]


def test_keys_that_differ_in_case_are_two_keys() -> None:
    assert value("a: 1\nA: 2\n") == {"a": 1, "A": 2}


def test_the_merge_key_is_refused_and_the_quoted_one_is_a_key(any_parser: str) -> None:
    assert problem("a: &a {x: 1}\nb:\n  <<: *a\n").code == "merge-key"
    assert (problem("a: &a {x: 1}\nb:\n  <<: *a\n").line, problem("a: &a {x: 1}\nb:\n  <<: *a\n").column) == (3, 3)
    assert value('"<<": 1') == {"<<": 1}


# -- anchors, aliases, tags --------------------------------------------------------------------------------------------


def test_an_alias_stands_for_what_its_anchor_marks(any_parser: str) -> None:
    assert value("a: &a {x: [1, 2]}\nb: *a\nc: [*a, &k 7, *k]\n&t d: *t\n") == {
        "a": {"x": [1, 2]},
        "b": {"x": [1, 2]},
        "c": [{"x": [1, 2]}, 7, 7],
        "d": "d",
    }


def test_an_alias_means_the_nearest_anchor_before_it(any_parser: str) -> None:
    assert value("- &a 1\n- *a\n- &a 2\n- *a\n") == [1, 1, 2, 2]


def test_an_anchor_ends_with_its_document() -> None:
    assert problem("a: &a 1\n---\nb: *a\n").code == "unknown-anchor"


def test_an_alias_inside_its_own_anchor_is_an_error(any_parser: str) -> None:
    found = problem("a: &a [1, *a]\n")
    assert (found.code, found.line, found.column) == ("recursive-alias", 1, 11)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object:os.system {}",
        "!!python/name:os.system",
        "!!binary aGk=",
        "!!set {a}",
        "!mine x",
        "!!int 5",
        "!!map {}",
    ],
)
def test_a_tag_is_an_error(text: str, any_parser: str) -> None:
    found = problem(f"a: {text}\n")
    assert (found.code, found.line) == ("yaml-tag", 1)


# -- documents ---------------------------------------------------------------------------------------------------------


def test_empty_documents_are_skipped(any_parser: str) -> None:
    assert values("---\n# nothing\n---\n\n---\n~\n---\nnull\n---\na: 1\n---\n...\n") == [{"a": 1}]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only a comment", "---", "---\n---\n", "\ufeff", b"\xef\xbb\xbf", "%YAML 1.2\n---\n"]
)
def test_a_file_of_nothing_has_no_documents_and_no_problems(text: str | bytes) -> None:
    assert values(text) == []


def test_documents_may_begin_on_the_separators_line() -> None:
    assert values("--- {a: 1}\n--- # comment\nb: 2\n---\tc\n--- |\n  ---\n") == [{"a": 1}, {"b": 2}, "c", "---\n"]


def test_three_dashes_inside_a_text_separate_nothing() -> None:
    assert values("a: |\n  ---\n  b\nc: x---y\n---x: 1\n") == [{"a": "---\nb\n", "c": "x---y", "---x": 1}]


def test_a_yaml_directive_is_accepted_and_another_is_not(any_parser: str) -> None:
    assert value("# c\n%YAML 1.2\n---\na: 1\n") == {"a": 1}
    assert problem("%TAG ! tag:x,2000:\n---\na: 1\n").line in (1, 2)


def test_a_broken_document_loses_none_of_the_others(any_parser: str) -> None:
    text = "a: 1\n---\nb: [\n---\nc: 'x\n---\nd: 4\n---\ne: \x01\n---\nf: {\n  g: 1\n---\nh: 8\n"
    documents, problems = read(text, "f.yaml")
    assert [d.value for d in documents] == [{"a": 1}, {"d": 4}, {"h": 8}]
    assert [p.code for p in problems] == ["bad-yaml", "bad-yaml", "bad-character", "bad-yaml"]
    assert problems[0].line in (3, 4)  # where the list begins or where the document ends, depending on the parser
    assert [p.line for p in problems[1:]] == [5, 9, 11]


def test_positions_after_a_broken_document_are_those_of_the_file(any_parser: str) -> None:
    documents, _ = read("a: [\n---\n# comment\nb:\n  c: 1\n", "f")
    assert documents[0].positions.place(("b", "c")) == (5, 3)


def test_line_ends_of_every_system_count_alike() -> None:
    for end in ("\n", "\r\n", "\r"):
        documents, problems = read(end.join(["a: 1", "b:", "  c: 2", "---", "d: [", ""]), "f")
        assert documents[0].value == {"a": 1, "b": {"c": 2}}
        assert documents[0].positions.place(("b", "c")) == (3, 3)
        assert problems[0].line in (5, 6)


# -- characters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "char", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ufeff", "\ud800", "\uffff"]
)
def test_a_control_character_is_an_error_with_its_place(char: str, any_parser: str) -> None:
    found = problem(f"a: 1\nb: x{char}y\n")
    assert (found.code, found.line, found.column) == ("bad-character", 2, 5)
    assert f"U+{ord(char):04X}" in found.message


def test_bytes_that_are_not_utf8_are_an_error_with_their_place() -> None:
    found = problem("a: é\nb: ü".encode() + b"\xff\n")
    assert (found.code, found.line, found.column) == ("bad-encoding", 2, 5)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_an_error_that_says_so(encoding: str) -> None:
    found = problem("apiVersion: v1\n".encode(encoding))
    assert found.code == "bad-encoding"
    assert "UTF-16" in found.message


def test_a_byte_order_mark_is_skipped() -> None:
    assert value(b"\xef\xbb\xbfa: 1\n") == {"a": 1}
    assert value("\ufeffa: 1\n") == {"a": 1}


def test_characters_outside_the_basic_plane_are_one_column_each() -> None:
    documents, _ = read("{\U0001f600\U0001f600: 1, b: 2}\n", "f")
    assert documents[0].positions.place(("b",)) == (1, 9)


# -- syntax errors in plain words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a:\n\tb: 1\n", 2, 1, "tab"),
        ("a: 1\n\tb: 2\n", 2, 1, "tab"),
        ("a: |\n\tb\n", 2, 1, "tab"),
        ("a: b: c\n", 1, 5, "second ': '"),
        ("x: 1\na: {b: 1\n", 2, 4, "not closed"),
        ("x: 1\na: [1 2\n", 2, 4, "not closed"),
        ("a:\n  b: 1\n c: 2\n", 3, 2, "indentation"),
        ("a: 1\nb: @x\n", 2, 4, "'@'"),
        ("a: `x`\n", 1, 4, "'`'"),
        ("hosts:\n- *\n", 2, 4, "'*'"),
        ("hosts:\n- *.example.com\n", 2, 4, "'*'"),
        ('x: 1\na: "open\nb: 1\n', 2, 4, "quotes"),
        ("a: 1\nfoo\nb: 2\n", 2, 1, "neither"),
        ('a: "\\q"\n', 1, 5, "escape"),
        ("{}\n{}\n", 2, 1, "after the end"),
    ],
)
def test_a_syntax_error_says_where_and_what(text: str, line: int, column: int, says: str) -> None:
    found = problem(text)
    assert (found.code, found.line, found.column) == ("bad-yaml", line, column)
    assert says in found.message
    assert found.hint


def test_the_hint_for_a_bare_asterisk_quotes_it() -> None:
    assert '"*"' in problem("hosts:\n- *\n").hint


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a"\n:\n1}', {"a": 1}),
        ('{"%s": 1}' % ("k" * 2000), {"k" * 2000: 1}),
        ('{"a": "\u2028\u0085\x7f\ufeff"}', {"a": "\u2028\u0085\x7f\ufeff"}),
        ('\t{\t"a":\t[1,\n\t2]}', {"a": [1, 2]}),
        ('{"a":"\\/","b":"x\\u0000y"}', {"a": "/", "b": "x\0y"}),
        ('{"<<": 1, "yes": "no"}', {"<<": 1, "yes": "no"}),
    ],
)
def test_json_that_yaml_parsers_refuse_or_change_is_read_as_json(text: str, meaning: Any) -> None:
    assert value(text) == meaning


def test_json_documents_may_be_separated_by_dashes() -> None:
    assert values('{"a": "\\ud83d\\ude00"}\n---\n{"b":\n1}\n--- {"c": 2}\n') == [
        {"a": "\U0001f600"},
        {"b": 1},
        {"c": 2},
    ]


def test_flow_style_that_is_not_json_is_yaml() -> None:
    assert value("{a: yes, 'b': [x, ]} # comment\n") == {"a": "yes", "b": ["x"]}


def test_a_duplicate_key_in_json_is_an_error_with_both_places() -> None:
    found = problem('{"a": 1,\n "b": 2,\n "a": 3}')
    assert (found.code, found.line, found.column) == ("duplicate-key", 3, 2)
    assert "first at 1:2" in found.message


def test_a_json_file_gets_jsons_error() -> None:
    found = problem('{\n  "a": 1,\n  "b" 2\n}\n', "f.json")
    assert (found.code, found.line, found.column) == ("bad-json", 3, 7)


def test_half_a_surrogate_pair_in_json_is_an_error() -> None:
    found = problem('{"a":\n "\\ud800"}')
    assert (found.code, found.line, found.column) == ("bad-character", 2, 2)


@pytest.mark.parametrize(
    ("flow", "value"),
    [
        ("[1.2.3.4, 001:db8::]", ["1.2.3.4", "001:db8::"]),
        ("[2001:db8::, fe80::]", ["2001:db8::", "fe80::"]),
        ("{a: fe80::}", {"a": "fe80::"}),
        ("[fe80::, 'x:]', \"y:}\"]", ["fe80::", "x:]", "y:}"]),
    ],
)
def test_a_colon_before_a_bracket_or_comma_is_part_of_the_text_as_it_is_to_kubernetes(flow, value):
    documents, problems = read(f"a: {flow}\nb: c\n", "f.yaml")
    assert problems == []
    assert documents[0].value == {"a": value, "b": "c"}
    assert documents[0].positions.place(("b",)) == (2, 1)


def test_a_text_that_no_reading_mends_keeps_its_error_where_it_is():
    _, (problem,) = read("a: [b:[c]]\nd: [\n", "f.yaml")
    assert (problem.code, problem.line) == ("bad-yaml", 1)
