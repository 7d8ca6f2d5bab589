"""How problems are shown to people, programs and pull requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshlib.errors import Problem, Severity
from meshlib.resources.report import render, summary


def problem(
    message: str = "it is wrong",
    *,
    file: str = "mesh.yaml",
    line: int = 2,
    column: int = 3,
    severity: Severity = Severity.ERROR,
    hint: str = "",
    path: str = "spec.x",
    code: str = "bad-x",
) -> Problem:
    return Problem(code, severity, file, line, column, path, message, hint)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_text_shows_the_line_with_a_mark_under_the_place_and_the_hint() -> None:
    Path("mesh.yaml").write_text("a: 1\n  weight: 75\n")
    assert render([problem(hint="do this")]) == (
        "mesh.yaml:2:3: error: spec.x: it is wrong [bad-x]\n"
        "    2 |   weight: 75\n"
        "      |   ^^^^^^\n"
        "    hint: do this\n"
        "\n"
        "1 error in 1 file\n"
    )


def test_text_without_a_readable_file_has_no_excerpt() -> None:
    assert (
        render([problem(file="gone.yaml")])
        == "gone.yaml:2:3: error: spec.x: it is wrong [bad-x]\n\n1 error in 1 file\n"
    )
    assert render([problem(file="<stdin>", line=0)]).startswith("<stdin>: error: ")


@pytest.mark.parametrize("line", [0, 3, 99])
def test_a_line_that_is_not_there_has_no_excerpt(line: int) -> None:
    Path("mesh.yaml").write_text("a: 1\nb: 2")
    assert " | " not in render([problem(line=line)])


def test_problems_are_sorted_by_file_and_line_and_errors_come_first() -> None:
    shown = render(
        [
            problem("5", file="other.yaml"),
            problem("4", line=10),
            problem("3", severity=Severity.NOTICE),
            problem("2"),
            problem("1", line=1, severity=Severity.WARNING),
        ],
        "json",
    )
    assert [p["message"] for p in json.loads(shown)["problems"]] == ["1", "2", "3", "4", "5"]


def test_the_summary_counts_by_severity_file_and_resource() -> None:
    found = [problem(), problem(), problem(file="b"), problem(severity=Severity.NOTICE)]
    assert summary(found, resources=1) == "3 errors, 1 notice in 2 files; 1 resource loaded"
    assert summary([], resources=14) == "no problems; 14 resources loaded"
    assert render([]) == "no problems\n"


def test_the_mark_stands_right_below_wide_characters_and_tabs() -> None:
    Path("mesh.yaml").write_text("a: {\u6f22\u5b57: 1, \u00e9\te\u0301: 2, bad: 3}\n", encoding="utf-8")
    column = Path("mesh.yaml").read_text(encoding="utf-8").index("bad") + 1
    _, excerpt, mark, *_ = render([problem(line=1, column=column)]).split("\n")
    # two characters of two columns are before it, and one of none
    assert mark.index("^") == excerpt.index("bad") + 2 - 1


def test_a_very_long_line_is_cut_around_the_place() -> None:
    Path("mesh.json").write_text("[" + "1," * 50_000 + "bad" + ",2" * 50_000 + "]")
    _, excerpt, mark, *_ = render([problem(file="mesh.json", line=1, column=100_002)]).split("\n")
    assert len(excerpt) < 150
    assert excerpt[mark.index("^") :].startswith("bad")


def test_a_file_cannot_write_to_the_terminal() -> None:
    Path("mesh.yaml").write_text("a: 1\nb: \x1b[2J\x1b]0;title\x07 \x9b\n", encoding="utf-8")
    shown = render([problem("\x1b[31m\nfake.yaml:1:1: error", column=1, path="a\x07", hint="\r\x1b[0m")])
    assert not any(not c.isprintable() and c != "\n" for c in shown)
    assert "\nfake.yaml" not in shown


@pytest.mark.parametrize(
    "text", ["kind: Secret\ndata: {key: aHVudGVyMg==}\n", '{"kind":"Secret",\n"data":{"key":"aHVudGVyMg=="}}']
)
def test_no_line_of_a_file_with_a_secret_is_shown(text: str) -> None:
    Path("mesh.yaml").write_text(text)
    assert "aHVudGVyMg" not in render([problem()])


@pytest.mark.parametrize(
    "line",
    [
        """  jwks: '{"keys":[{"kty":"OKP","d":"hunter22"}]}'""",
        r"""  jwks: "{\"keys\":[{\"kty\":\"oct\",\"k\" : \"hunter22\"}]}" """,
        "- {name: a, lightstep: {accessToken: hunter22, port: 0}}",
        "includeAdditionalHeadersInCheck: {x-key: hunter22, a: 1}",
        "headers: {Authorization: hunter22}",
    ],
)
def test_no_line_with_a_key_or_a_token_in_it_is_shown(line: str) -> None:
    Path("mesh.yaml").write_text(f"a: 1\n{line}\n")
    shown = render([problem()])
    assert "it is wrong" in shown
    assert "hunter22" not in shown


def test_json_has_every_field_and_the_totals() -> None:
    shown = json.loads(
        render([problem(hint="h"), problem(severity=Severity.WARNING, line=0, column=0)], "json", resources=3)
    )
    assert shown["problems"][1] == {
        "code": "bad-x",
        "severity": "error",
        "file": "mesh.yaml",
        "line": 2,
        "column": 3,
        "path": "spec.x",
        "message": "it is wrong",
        "hint": "h",
    }
    assert shown["summary"] == {"errors": 1, "warnings": 1, "notices": 0, "resources": 3}


def test_github_gets_workflow_commands() -> None:
    assert render([problem(hint="do this")], "github") == (
        "::error file=mesh.yaml,line=2,col=3,title=bad-x::spec.x: it is wrong%0Ahint: do this\n"
    )
    assert render([problem(line=0, severity=Severity.NOTICE)], "github").startswith(
        "::notice file=mesh.yaml,title=bad-x::"
    )
    assert render([problem(file="<stdin>")], "github").startswith("::error title=bad-x::")
    assert render([], "github") == ""


def test_nothing_in_a_problem_can_begin_a_workflow_command_of_its_own() -> None:
    shown = render([problem("100%\n::set-env name=X::y\r", file="a,b:c\n::x.yaml", path="")], "github")
    assert shown.count("\n") == 1
    assert "file=a%2Cb%3Ac%0A%3A%3Ax.yaml," in shown
    assert shown.endswith("::100%25%0A::set-env name=X::y%0D\n")


def test_notices_that_say_the_same_are_told_once_and_counted() -> None:
    old = [problem("v1beta1 is old", line=line, severity=Severity.NOTICE) for line in (1, 5, 9, 13, 17)]
    shown = render(old)
    assert shown.count("v1beta1 is old") == 1
    assert "v1beta1 is old (and 4 more: line 5, line 9, line 13, ...)" in shown
    assert shown.endswith("5 notices in 1 file\n")
    assert render(old, "github").count("v1beta1 is old") == 1
    assert len(json.loads(render(old, "json"))["problems"]) == 5


def test_many_different_notices_of_one_code_are_one_line() -> None:
    few = [problem(f"kind {n}", line=n, severity=Severity.NOTICE) for n in range(1, 6)]
    assert render(few).count("kind ") == 5
    many = [*few, problem("kind 6", file="other.yaml", line=6, severity=Severity.NOTICE)]
    assert "kind 1 (and 5 more like it: line 2, line 3, line 4, ...)" in render(many)
    assert render(many).count("kind ") == 1


def test_old_spellings_are_counted_whatever_their_severity() -> None:
    old = [problem("percent is old", line=n, code="IST0002", severity=Severity.WARNING) for n in (1, 2)]
    assert render(old).count("percent is old") == 1


def test_errors_and_warnings_are_never_counted_together() -> None:
    wrong = [problem("same", line=line, severity=s) for line in range(9) for s in (Severity.ERROR, Severity.WARNING)]
    assert render(wrong).count("same") == 18


def test_another_style_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of text, json, github"):
        render([], "xml")
