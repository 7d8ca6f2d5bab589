"""Expressions of CEL are told from texts that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.cel_syntax import cel_problem, cel_references, log_problem, with_calls


@pytest.mark.parametrize(
    "text",
    [
        "response.code >= 400",
        "response.code >= 400 || xds.cluster_name == 'BlackHoleCluster'",
        "!has(request.url_path) ? true : false",
        "a",
        "X_Y",
        "503",
        "-1",
        "--1",
        "!!a",
        "!-1",
        "a - -1",
        "99.5 + .5e3",
        "0x1F + 1u",
        '"a" + \'b\' + r"\\d" + b"c" + """d\n"""',
        "'\\x41\\u0041\\101\\n'",
        "x-y",
        "a.b.c(1, [2, 3,], {'a': 1,}).d[0]",
        "[,]",
        "{,}",
        ".a.b{c: 1, d: 'e'}.f",
        "x.all(i, i > 0) && x.map(i, i > 0, i)",
        "has(a.b)",
        "(a) // why",
        "a.package",
        "-9223372036854775808",
        "'\\U0010FFFF' + b'\\xff' + '\\\\u0'",
    ],
)
def test_an_expression(text):
    assert cel_problem(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "*",
        "/a",
        "(",
        "[",
        "-",
        "~",
        "a b",
        "1s",
        "5us",
        "1.2.3.4",
        "not a host!",
        ":authority",
        "response.code => 400",
        "a = b",
        "a ? b",
        "-!a",
        "'a",
        "'\\q'",
        "a.",
        "a.in",
        "a.?b",
        "f(1,)",
        "{'a'}",
        "has(a)",
        "x.all(1, true)",
        "if",
        "99999999999999999999",
        "1e999",
        "9" * 5000,
        "'\\uD800'",
        "'\\U00110000'",
        "b'\\u0041'",
        "(" * 300 + ")" * 300,
    ],
)
def test_no_expression(text):
    assert cel_problem(text) != ""


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("a ||", "is not an expression of CEL: it ends too early"),
        ("string(response.code) == '200'", "there is no string()"),
        ("request.headers.exists(h, h == 'x-a')", "there are no loops, and so no exists()"),
        ("['a'].map(x, x)[0]", "no map()"),
        ("request.path + '?'", "+ is for numbers"),
        ("'?' + request.path", "+ is for numbers"),
        ("request.a + [1]", "+ is for numbers"),
        ("request.a + [[1], [']'.size()]]", "+ is for numbers"),
    ],
)
def test_an_access_log_has_the_functions_that_envoy_gives_it(expression, said):
    assert said in log_problem(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "response.code + 1 > 400",
        "request.size + '1'.size() > 2",
        "request.map == 'string(a)'",
        "int('4') + x[0] == 5",
        "request.size + [1, [2][0]].size() > 2",
        "request.size + ['a', ']'].size() > 2",
        "response.code + [1, 2][0] > 400",
    ],
)
def test_what_envoy_evaluates_for_access_logs(expression):
    assert log_problem(expression) == ""


@given(st.text("ab1.'\"\\()[]{}?:!-+,&|= \n", max_size=12))
def test_no_text_makes_the_reader_do_anything_but_judge(text):
    assert isinstance(cel_problem(text), str)


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ("response.code >= 400", [("response", "code")]),
        ("request.headers['x-a'] == 'b'", [("request", "headers", "x-a")]),
        ('request.headers["""x-a"""]', [("request", "headers", "x-a")]),
        ("request.headers[request.id]", [("request", "headers"), ("request", "id")]),
        ("size(request.headers)", [("request", "headers")]),
        ("request.path.startsWith('/a')", [("request", "path")]),
        ("request.headers.exists(k, k == 'a' || k == request.id)", [("request", "headers"), ("request", "id")]),
        ("has(node.metadata.a) ? node.metadata.a : 'x'", [("node", "metadata", "a")] * 2),
        ("'x' in request.headers", [("request", "headers")]),
        ("true ? 1 : [2, 3][0]", []),
    ],
)
def test_what_an_expression_reads(expression, reads):
    assert cel_problem(expression) == ""
    assert cel_references(expression) == reads


@given(st.text(alphabet="ab.[]'\"()?: &|=", max_size=30))
def test_whatever_is_an_expression_tells_what_it_reads(text):
    if cel_problem(text) == "":
        assert all(path and path[0].isidentifier() for path in cel_references(text))


@pytest.mark.parametrize(
    ("expression", "made"),
    [
        ("request.time > a", "timestamp(request.time) > a"),
        ("has(request.time) && b.request.time", "has ( request.time ) && b . request . time"),
        ("'request.time'", "'request.time'"),
        ("request.timed", "request . timed"),
    ],
)
def test_fields_become_calls(expression, made):
    assert with_calls(expression, {("request", "time"): "timestamp"}) == made
