"""What an operator reads when a resource is wrong: the place, the words, the remedy."""

from __future__ import annotations

import pytest

from meshlib.errors import Problem, Severity
from meshlib.resources.loader import load_text

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
GOOD = """\
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
    retries: {attempts: 3}
    route:
    - destination:
        host: reviews
        subset: v2
      weight: 100
"""


def problems(spec: str, *, lenient: bool = False) -> list[Problem]:
    return load_text(HEAD + spec, "vs.yaml", lenient=lenient).problems


def changed(old: str, new: str) -> list[Problem]:
    assert old in GOOD
    return problems(GOOD.replace(old, new, 1))


def test_the_resource_these_tests_break_is_good() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "code", "path", "place", "hint"),
    [
        # a slip of the pen
        ("hosts:", "host:", "unknown-field", "spec.host", (5, 3), "did you mean hosts?"),
        (
            "subset:",
            "subst:",
            "unknown-field",
            "spec.http[0].route[0].destination.subst",
            (13, 9),
            "did you mean subset?",
        ),
        ("attempts:", "atempts:", "unknown-field", "spec.http[0].retries.atempts", (9, 15), "did you mean attempts?"),
        ("attempts:", "Attempts:", "unknown-field", "spec.http[0].retries.Attempts", (9, 15), "did you mean attempts?"),
        # a field of another object
        (
            "        subset: v2\n      weight: 100",
            "        subset: v2\n        weight: 100",
            "unknown-field",
            "spec.http[0].route[0].destination.weight",
            (14, 9),
            "weight belongs next to destination, in spec.http[0].route[0]",
        ),
        (
            "retries: {attempts: 3}",
            "attempts: 3",
            "unknown-field",
            "spec.http[0].attempts",
            (9, 5),
            "attempts belongs inside retries: spec.http[0].retries.attempts",
        ),
        (
            "retries: {attempts: 3}",
            "retries: {attempts: 3, timeout: 3s}",
            "unknown-field",
            "spec.http[0].retries.timeout",
            (9, 28),
            "timeout belongs next to retries, in spec.http[0]",
        ),
        ("spec:\n", "gateways: [mesh]\nspec:\n", "unknown-field", "gateways", (4, 1), "gateways belongs inside spec"),
        (
            "weight: 100",
            "weight: 100\n      zzz: 1",
            "unknown-field",
            "spec.http[0].route[0].zzz",
            (15, 7),
            "known here: appendRequestHeaders, appendResponseHeaders, destination, headers, "
            "removeRequestHeaders, removeResponseHeaders, weight",
        ),
        # missing
        (
            "host: reviews\n        ",
            "",
            "missing-field",
            "spec.http[0].route[0].destination.host",
            (11, 7),
            "add host to spec.http[0].route[0].destination",
        ),
        # another type
        ("[reviews]", '"*"', "list-expected", "spec.hosts", (5, 3), 'write it as a list: hosts: ["*"]'),
        ("[reviews]", "{a: b}", "list-expected", "spec.hosts", (5, 3), 'begin each entry with "- "'),
        ("[reviews]", "[reviews, 5]", "wrong-type", "spec.hosts[1]", (5, 20), ""),
        (
            "jason",
            "1.10",
            "wrong-type",
            "spec.http[0].match[0].headers.end-user.exact",
            (8, 28),
            'quote it: exact: "1.10"',
        ),
        (
            "jason",
            "true",
            "wrong-type",
            "spec.http[0].match[0].headers.end-user.exact",
            (8, 28),
            'quote it: exact: "true"',
        ),
        (
            "jason",
            "[jason]",
            "wrong-type",
            "spec.http[0].match[0].headers.end-user.exact",
            (8, 28),
            "write the value itself, not a list",
        ),
        (
            "{attempts: 3}",
            "3",
            "wrong-type",
            "spec.http[0].retries",
            (9, 5),
            "its fields: attempts, backoff, perTryTimeout",
        ),
        ("{attempts: 3}", "[attempts: 3]", "wrong-type", "spec.http[0].retries", (9, 5), 'remove the "- "'),
        ("{attempts: 3}", "", None, "", (0, 0), ""),
        ("attempts: 3", 'attempts: "3"', "crd-type", "spec.http[0].retries.attempts", (9, 15), "without quotes"),
        (
            "    - destination:\n",
            "    - destination:\n    - destination:\n",
            "wrong-type",
            "spec.http[0].route[0].destination",
            (11, 7),
            "indentation",
        ),
        ("retries: {attempts: 3}", "timeout: 5", "bad-duration", "spec.http[0].timeout", (9, 5), '"5s"'),
        (
            "    retries: {attempts: 3}\n",
            "    match: [{ignoreUriCase: yes}]\n",
            "duplicate-key",
            "",
            (9, 5),
            "remove one",
        ),
        (
            "- headers:",
            "- ignoreUriCase: yes\n      headers:",
            "wrong-type",
            "spec.http[0].match[0].ignoreUriCase",
            (8, 7),
            "write ignoreUriCase: true",
        ),
        (
            "- headers:",
            "- ignoreUriCase: Off\n      headers:",
            "wrong-type",
            "spec.http[0].match[0].ignoreUriCase",
            (8, 7),
            "write ignoreUriCase: false",
        ),
        (
            "retries: {attempts: 3}",
            "corsPolicy: {unmatchedPreflights: IGNOR}",
            "bad-enum",
            "spec.http[0].corsPolicy.unmatchedPreflights",
            (9, 18),
            "did you mean IGNORE?",
        ),
    ],
)
def test_a_mistake_has_its_place_its_code_and_its_remedy(
    old: str, new: str, code: str | None, path: str, place: tuple[int, int], hint: str
) -> None:
    found = changed(old, new)
    if code is None:
        assert found == []
        return
    assert len(found) == 1, found
    (only,) = found
    assert (only.code, only.path, (only.line, only.column)) == (code, path, place)
    assert hint in only.hint
    assert only.file == "vs.yaml"
    assert only.severity is Severity.ERROR


def test_flow_style_and_json_have_columns_too() -> None:
    text = '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": 5}}'
    (found,) = load_text(text, "s.json").problems
    assert (found.line, found.column) == (1, text.index('"ports"') + 1)


def test_a_mistake_behind_an_alias_is_where_the_anchor_is() -> None:
    spec = (
        GOOD.replace("{attempts: 3}", "&r {attempts: x}") + "  - retries: *r\n    route: [{destination: {host: a}}]\n"
    )
    assert [(p.line, p.path) for p in problems(spec)] == [
        (9, "spec.http[0].retries.attempts"),
        (9, "spec.http[1].retries.attempts"),
    ]


def test_several_mistakes_are_all_told() -> None:
    spec = GOOD.replace("hosts: [reviews]", "hosts: 5").replace("attempts: 3", "attempts: -1").replace("v2", "{a: b}")
    assert [(p.line, p.code) for p in problems(spec)] == [(5, "list-expected"), (9, "negative"), (13, "bad-name")]


def test_the_same_unknown_field_in_every_entry_is_told_once_with_all_lines() -> None:
    route = "    - destination: {host: a, weight: 1}\n"
    (found,) = problems(f"spec:\n  hosts: [a]\n  http:\n  - route:\n{route}{route}{route}")
    assert found.line == 8
    assert "also in lines 9, 10" in found.message


def test_a_misspelt_required_field_is_one_mistake() -> None:
    (found,) = changed("host: reviews", "hots: reviews")
    assert (found.code, found.hint) == ("unknown-field", "did you mean host?")


def test_an_old_spelling_with_a_wrong_value_is_one_mistake() -> None:
    (found,) = changed("retries: {attempts: 3}", "fault: {abort: {httpStatus: 500, percent: 101}}")
    assert (found.path, found.code) == ("spec.http[0].fault.abort.percent", "bad-percent")


def test_snake_case_is_read_and_its_problems_are_in_its_place() -> None:
    spec = GOOD.replace("retries: {attempts: 3}", "retries: {attempts: 3, per_try_timeout: 5}")
    (found,) = problems(spec)
    assert (found.path, found.line, found.column) == ("spec.http[0].retries.per_try_timeout", 9, 28)


def test_keys_that_are_not_plain_names_are_quoted_in_paths() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    app.kubernetes.io/version: 1.10\n"
    (found,) = load_text(text).problems
    assert found.path == 'metadata.labels["app.kubernetes.io/version"]'
    assert found.hint == 'quote it: app.kubernetes.io/version: "1.10"'
    assert "the number 1.10" in found.message
    assert found.line == 6


def test_no_value_of_a_secret_is_told() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: 77231, b: {c: hunter2}}\nstringData: hunter2\n"
    found = load_text(text).problems
    assert len(found) == 3
    assert not any("77231" in str(p) or "hunter2" in str(p) for p in found)


def test_long_values_are_cut_in_messages() -> None:
    (found,) = changed("[reviews]", "x" * 10_000)
    assert len(str(found)) < 400


# -- lenient -----------------------------------------------------------------------------------------------------------


def test_lenient_turns_unknown_fields_into_warnings_and_loads_the_rest() -> None:
    spec = GOOD.replace("weight: 100", "weight: 100\n      zzz: {a: 1}\n      yyy: 2")
    result = load_text(HEAD + spec, lenient=True)
    assert [(p.code, p.severity) for p in result.problems] == [("unknown-field", Severity.WARNING)] * 2
    assert [r.name for r in result.resources] == ["reviews"]


def test_lenient_still_refuses_what_is_wrong_without_the_unknown_field() -> None:
    route = "    - destination: {host: a, weight: 1}\n"
    result = load_text(HEAD + f"spec:\n  hosts: [a]\n  http:\n  - route:\n{route}{route}", lenient=True)
    assert [(p.code, p.severity) for p in result.problems] == [
        ("weights-sum-zero", Severity.ERROR),
        ("unknown-field", Severity.WARNING),
    ]
    assert result.resources == []


def test_lenient_tells_of_errors_beside_unknown_fields_once() -> None:
    spec = GOOD.replace("hosts: [reviews]", "hosts: 5\n  zzz: 1")
    found = problems(spec, lenient=True)
    assert [(p.code, p.severity) for p in found] == [
        ("list-expected", Severity.ERROR),
        ("unknown-field", Severity.WARNING),
    ]


# -- notices -----------------------------------------------------------------------------------------------------------


def test_notices_of_a_resource_have_their_place() -> None:
    spec = GOOD.replace("retries: {attempts: 3}", "fault: {delay: {fixedDelay: 5s, percent: 10}}")
    (found,) = problems(spec)
    assert (found.code, found.severity) == ("deprecated", Severity.NOTICE)
    assert (found.path, found.line, found.column) == ("spec.http[0].fault.delay.percent", 9, 37)


def test_a_refused_resource_gives_no_notices() -> None:
    spec = GOOD.replace("retries: {attempts: 3}", "fault: {delay: {fixedDelay: 5, percent: 10}}")
    assert [p.code for p in problems(spec)] == ["bad-duration"]


def test_a_document_with_a_duplicate_key_is_checked_further_and_not_used() -> None:
    result = load_text(HEAD + GOOD.replace("weight: 100", "weight: 100\n      weight: 5\n      zzz: 1"))
    assert [p.code for p in result.problems] == ["duplicate-key", "unknown-field"]
    assert result.resources == []


def test_a_document_whose_only_mistake_is_a_duplicate_key_is_not_used() -> None:
    result = load_text(HEAD + GOOD.replace("weight: 100", "weight: 100\n      weight: 5"))
    assert [p.code for p in result.problems] == ["duplicate-key"]
    assert result.resources == []
